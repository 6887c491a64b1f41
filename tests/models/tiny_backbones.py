"""The smallest real models of every architecture, with weights large enough to matter."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch
from dlm.models.outside import config_of_type, new_network
from dlm.models.positions import counts_from_pad
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import train_tokenizer

torch.set_num_threads(1)
ARCHITECTURES = ["xlm-roberta", "roberta", "bert", "modernbert", "eurobert"]
SCRATCH = [*ARCHITECTURES, "esm", "albert", "deberta-v2", "nomic_bert"]
PRETRAINED: dict[str, dict[str, Any]] = {
    "camembert": {}, "data2vec-text": {}, "xlm-roberta-xl": {}, "roberta-prelayernorm": {},
    "ernie": {"use_task_id": True}, "electra": {"embedding_size": 12},
    "distilbert": {"hidden_dim": 32, "dropout": 0.1, "attention_dropout": 0.1},
    "albert": {"embedding_size": 12, "num_hidden_groups": 1}, "nomic_bert": {}, "gte": {},
    "jina_embeddings_v3": {}, "esm": {"position_embedding_type": "rotary"}, "esmc": {},
    "megatron-bert": {}, "squeezebert": {"embedding_size": 16, "q_groups": 2, "k_groups": 2,
    "v_groups": 2, "intermediate_groups": 2, "output_groups": 2},
    "rembert": {"input_embedding_size": 12, "output_embedding_size": 20},
    "mpnet": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
                   "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "type_vocab_size": 0,
                   "position_biased_input": False},
}  # fmt: skip
"""The encoders that are built here by transformers' names, and what is not as in the rest."""
ENCODERS = [*ARCHITECTURES, *PRETRAINED]
BY_PLACE = ["mpnet", "deberta", "deberta-v2"]
"""Whose attention reads distances in the row."""
OWN_ATTENTION = ["megatron-bert", "squeezebert", "rembert", *BY_PLACE]
"""Whose attention is code of their own."""
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


def of_type(model_type: str, **changes: Any) -> Backbone:
    """A network of one of transformers' types; ``changes`` by the names of its configuration."""
    special = SpecialTokens.of(tiny_tokenizer())
    sizes: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer()), "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40,
        "pad_token_id": special.pad, "bos_token_id": special.begin, "eos_token_id": special.end,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "intermediate_size"):
        if not hasattr(config_of_type(model_type), name):
            del sizes[name]
    config = config_of_type(model_type, **(sizes | PRETRAINED[model_type] | changes))
    if counts_from_pad(config):
        config.max_position_embeddings += special.pad + 1
    if hasattr(config, "mask_token_id"):
        config.mask_token_id = special.mask
    torch.manual_seed(0)
    return Backbone(new_network(config).train())


def tiny_backbone(architecture: str = "xlm-roberta", **changes: Any) -> Backbone:
    """In eval mode, with matrices drawn so large that every token changes every logit."""
    made = of_type if architecture in PRETRAINED else from_scratch
    backbone = made(architecture, **changes).eval()
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
