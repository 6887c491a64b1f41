"""A tiny random model that says something different at every place, and ways to watch it."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from dlm.generation.model import GenerativeModel, ModelKind
from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch
from dlm.models.length_predictor import LengthPredictor
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import train_tokenizer

torch.set_num_threads(1)
TEXTS = ["the red fox ran", "a dog sat on the mat", "der hund lief schnell", "ein roter fuchs"]
PROMPTS = [
    "the red fox", "a dog", "der hund lief schnell on the mat", "x", "ein roter fuchs ran",
    "the dog sat on a red mat", "fox", "a red dog ran",
]  # fmt: skip


@cache
def word_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, algorithm="bpe", vocab_size=60)


@cache
def letter_tokenizer() -> PreTrainedTokenizerFast:
    """Three ordinary tokens: a, b and the blank."""
    return train_tokenizer(["a b"], algorithm="bpe", vocab_size=8)


def random_backbone(tokenizer: PreTrainedTokenizerFast, max_positions: int, seed: int) -> Backbone:
    backbone = build_from_scratch(
        tokenizer, architecture="xlm-roberta", hidden_size=16, num_layers=2, num_heads=2,
        intermediate_size=32, max_positions=max_positions, dropout=0.0, seed=0,
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.3, generator=generator)
    return backbone


class FixedLengths(nn.Module):
    """A length predictor that prefers the same lengths for every prompt, best first."""

    def __init__(self, *lengths: int, max_length: int = 40) -> None:
        super().__init__()
        self.max_length = max_length
        self.logits = torch.zeros(max_length) - 9
        for rank, length in enumerate(lengths):
            self.logits[length - 1] = -float(rank)

    def forward(self, feature_BLH: Tensor, valid_BL: Tensor) -> Tensor:
        return self.logits.expand(len(feature_BLH), -1)


def random_predictor(max_length: int = 9, relative: bool = False) -> LengthPredictor:
    made = LengthPredictor(16, max_length=max_length, num_heads=2, relative=relative)
    # No global seed: ranks that are threads build theirs at the same time.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.4, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
    return made.eval()


def tiny_model(
    kind: ModelKind = "diffusion",
    *,
    predictor: nn.Module | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    max_positions: int = 40,
    seed: int = 1,
    texts: bool = False,
) -> GenerativeModel:
    tokenizer = tokenizer or word_tokenizer()
    backbone = random_backbone(tokenizer, max_positions, seed)
    special = SpecialTokens.of(tokenizer)
    return GenerativeModel(
        backbone,
        tokenizer,
        special,
        kind,
        predictor,  # type: ignore[arg-type]
        texts=texts,
    )


def count_calls(model: GenerativeModel) -> list[tuple[int, int]]:
    """Shapes [B, L] of every forward pass of the network from now on."""
    shapes: list[tuple[int, int]] = []

    def note(module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> None:
        tokens_BL = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        shapes.append(tuple(tokens_BL.shape))

    model.backbone.network.base_model.register_forward_pre_hook(note, with_kwargs=True)
    return shapes
