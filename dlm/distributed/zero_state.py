"""What this rank holds of a DeepSpeed engine's training state, as pieces, and back again.

ZeRO-1 and 2 cut the float32 masters of a whole optimizer group into one range a rank, ZeRO-3 every
parameter by itself; both are reached by what DeepSpeed documents for debugging and for resuming.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlm.distributed.saved_tensors import MOMENTS, WEIGHT, SavedTensors


@dataclass(frozen=True)
class LocalRange:
    """The part of one parameter whose masters and moments this rank keeps."""

    name: str
    shape: torch.Size
    start: int
    stop: int
    """A range of the flattened parameter; empty where padding alone is kept."""
    tensors: dict[str, Tensor]
    """WEIGHT and MOMENTS; under ZeRO-3 perhaps with padding behind the range."""


def groups_of(engine: Any) -> list[list[str]]:
    """Names of the trained parameters in each group of the optimizer, in its order."""
    name_of = {id(p): name for name, p in engine.module.named_parameters()}
    return [[name_of[id(parameter)] for parameter in group] for group in _groups(engine.optimizer)]


def _groups(optimizer: Any) -> list[list[Any]]:
    # ZeRO-3; ZeRO-1 with bf16 weights and float32 sums of gradients; ZeRO-1 and 2.
    for name in ("fp16_groups", "bf16_groups", "bit16_groups"):
        if hasattr(optimizer, name):
            groups: list[list[Any]] = getattr(optimizer, name)
            return groups
    raise TypeError(f"{type(optimizer).__name__} is no optimizer of ZeRO")


def _is_zero3(optimizer: Any) -> bool:
    return hasattr(optimizer, "fp16_groups")


def local_ranges(engine: Any) -> Iterator[LocalRange]:
    """What this rank keeps, parameter by parameter."""
    name_of = {id(p): name for name, p in engine.module.named_parameters()}
    optimizer = engine.optimizer
    for number, group in enumerate(_groups(optimizer)):
        masters = (
            optimizer.fp32_partitioned_groups_flat[number]
            if _is_zero3(optimizer)
            else engine.basic_optimizer.param_groups[number]["params"][0]
        )
        flat = {WEIGHT: masters, **_moments(engine, masters)}
        for parameter in group:
            found = (_place_in_zero3 if _is_zero3(optimizer) else _place)(optimizer, parameter)
            if found is not None:
                shape, start, length, offset, size = found
                tensors = {kind: tensor.narrow(0, offset, size) for kind, tensor in flat.items()}
                yield LocalRange(name_of[id(parameter)], shape, start, start + length, tensors)


def _moments(engine: Any, masters: Tensor) -> dict[str, Tensor]:
    """AdamW's state of the masters; it makes it at its first step."""
    state = engine.basic_optimizer.state[masters]
    if not state:
        state["step"] = torch.zeros(())
        state |= {kind: torch.zeros_like(masters) for kind in MOMENTS}
    return {kind: state[kind] for kind in MOMENTS}


_Place = tuple[torch.Size, int, int, int, int]
"""Shape of a parameter, where this rank's range begins and its length; where it lies in the rank's
flat tensors and how long it is there, padding included."""


def _place(optimizer: Any, parameter: Any) -> _Place | None:
    mapping = parameter._hp_mapping
    if mapping is None:  # another rank has all of it
        return None
    own, flat = mapping.lp_fragment_address, mapping.hp_fragment_address
    return parameter.shape, own.start, own.numel, flat.start, flat.numel


def _place_in_zero3(optimizer: Any, parameter: Any) -> _Place:
    _, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
    start = min(size * torch.distributed.get_rank(), parameter.ds_numel)
    length = min(size, parameter.ds_numel - start)
    return parameter.ds_shape, start, length, offset, size


def pieces_of(engine: Any, beside: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Any]]:
    """This rank's part of the checkpoint (see :mod:`dlm.distributed.saved_tensors`).

    ``beside``: further kinds of tensors, each parameter's of the length of its masters.
    """
    pieces = {}
    for kept in local_ranges(engine):
        tensors = kept.tensors | {kind: named[kept.name] for kind, named in beside.items()}
        length = kept.stop - kept.start
        pieces[kept.name] = {
            "shape": list(kept.shape), "start": kept.start,
            "tensors": {kind: tensor.detach()[:length] for kind, tensor in tensors.items()},
        }  # fmt: skip
    return pieces


def optimizer_step(engine: Any) -> int:
    """How often AdamW has stepped."""
    states = [state for state in engine.basic_optimizer.state.values() if "step" in state]
    return int(states[0]["step"]) if states else 0


def restore(engine: Any, saved: SavedTensors, step: int) -> None:
    """Put weights, masters and moments of a checkpoint into a new engine.

    Args:
        engine: just initialised, of any ZeRO stage and number of ranks.
        saved: the checkpoint's tensors, of whichever shape.
        step: how often AdamW had stepped.
    """
    for kept in local_ranges(engine):
        for kind, tensor in kept.tensors.items():
            put_part(kept, tensor, saved, kind)
    refresh_weights(engine)
    for state in engine.basic_optimizer.state.values():
        state["step"].fill_(step)


def put_part(kept: LocalRange, tensor: Tensor, saved: SavedTensors, kind: str) -> None:
    """Fill a flat tensor of this rank from a checkpoint, padding with zeros."""
    length = kept.stop - kept.start
    tensor.data[:length].copy_(saved.part(kept.name, kind, kept.start, kept.stop))
    tensor.data[length:].zero_()


def refresh_weights(engine: Any) -> None:
    """Give the network, in its own precision, what the masters hold. All ranks take part."""
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    for parameter in engine.module.parameters():
        if not parameter.requires_grad:
            continue
        whole = safe_get_full_fp32_param(parameter)
        with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            parameter.data.copy_(whole)
