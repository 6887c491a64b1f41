"""Masks for networks that handle them by code of their own, past transformers' functions."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm.models.families import OwnAttention, family_of


def as_taken(mask_B1LL: Tensor, kind: OwnAttention | None, dtype: torch.dtype) -> Tensor:
    """A square mask of truth values as a network's attention takes it: as it is, or as what is
    added to the scores."""
    if kind != "added":
        return mask_B1LL
    hidden = torch.finfo(dtype).min
    return torch.zeros_like(mask_B1LL, dtype=dtype).masked_fill(~mask_B1LL, hidden)


def spare_embeddings(network: PreTrainedModel) -> None:
    """Let embeddings that are multiplied by the attention mask, in place, take none that is square:
    it says nothing of padding, which no token sees."""
    if not family_of(network.config).masks_embeddings:
        return
    embeddings: Any = network.base_model.embeddings
    if _without_square not in embeddings._forward_pre_hooks.values():
        embeddings.register_forward_pre_hook(_without_square, with_kwargs=True)


def _without_square(
    module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    square = {
        name: None
        for name, value in options.items()
        if isinstance(value, Tensor) and name in ("attention_mask", "mask") and value.dim() == 4
    }
    return inputs, options | square
