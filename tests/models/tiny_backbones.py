"""The smallest real models of every architecture, with weights large enough to matter."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch
from dlm.tokens.train import train_tokenizer

torch.set_num_threads(1)
ARCHITECTURES = ["xlm-roberta", "roberta", "bert", "modernbert", "eurobert"]
TEXTS = ["the red fox ran", "a dog sat on the mat", "der hund lief schnell", "ein roter fuchs"]


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, algorithm="bpe", vocab_size=60)


def from_scratch(architecture: str = "xlm-roberta", **changes: Any) -> Backbone:
    settings: dict[str, Any] = {
        "hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32,
        "max_positions": 40, "dropout": 0.1, "seed": 0,
    }  # fmt: skip
    return build_from_scratch(
        tiny_tokenizer(), architecture=architecture, **{**settings, **changes}
    )


def tiny_backbone(architecture: str = "xlm-roberta", **changes: Any) -> Backbone:
    """In eval mode, with matrices drawn so large that every token changes every logit."""
    backbone = from_scratch(architecture, **changes).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.3, generator=generator)
    return backbone


def body_of(network: PreTrainedModel) -> PreTrainedModel:
    """The encoder without what stands on it, which transformers knows as any module."""
    body = network.base_model
    assert isinstance(body, PreTrainedModel)
    return body


def random_rows(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Rows of ordinary tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(5, len(tiny_tokenizer()), (n,), generator=generator).tolist() for n in lengths
    ]


def padded(rows: list[list[int]], side: str = "right", extra: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and validity of a padded batch."""
    width = max(map(len, rows)) + extra
    pad = tiny_tokenizer().pad_token_id
    tokens = torch.full((len(rows), width), pad)
    valid = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        tokens[number, place] = torch.tensor(row)
        valid[number, place] = True
    return tokens, valid
