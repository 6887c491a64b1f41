"""Count what torch keeps for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def saved_bytes(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Bytes of the storages that ``forward`` saves, once each, without the model's own tensors."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept.setdefault(place, tensor)  # held, so that no other gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outcome = forward()
    del outcome
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
