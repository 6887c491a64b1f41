"""Checkpoints of ZeRO as one device or DDP continues them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlm.distributed.saved_tensors import (
    MOMENTS,
    SHARD_DIRECTORY,
    WEIGHT,
    PiecesOfRanks,
    load_mapped,
    whole,
)

TIED, GROUPS = "tied_parameters", "optimizer_groups"
"""What ZeRO writes beside Lightning's own keys: other names of shared parameters, and the
optimizer's groups (``names`` and hyper-parameters) with its ``step``."""
SHAPE = "written_by"
"""In every checkpoint: the strategy and the number of processes in words."""


def is_sharded(state_file: Path) -> bool:
    """Whether the tensors of a checkpoint lie in the files of ranks."""
    return (state_file.parent / SHARD_DIRECTORY).is_dir()


def load_whole(state_file: Path) -> dict[str, Any]:
    """A checkpoint as Lightning's own strategies read it, whoever wrote it."""
    if not is_sharded(state_file):
        return load_mapped(state_file)
    state = load_mapped(state_file)
    pieces = PiecesOfRanks(state_file.parent / SHARD_DIRECTORY)
    optimizer = state[GROUPS]
    step = torch.tensor(float(optimizer["step"]))
    names = [name for group in optimizer["groups"] for name in group["names"]]
    moments = {
        number: {"step": step.clone(), **{kind: whole(pieces, name, kind) for kind in MOMENTS}}
        for number, name in enumerate(names)
    }
    number_of = {name: number for number, name in enumerate(names)}
    groups = [
        {**group["settings"], "params": [number_of[name] for name in group["names"]]}
        for group in optimizer["groups"]
    ]
    state["state_dict"] = weights(state, pieces)
    state["optimizer_states"] = [{"state": moments, "param_groups": groups}]
    return state


def load_weights(state_file: Path) -> dict[str, Tensor]:
    """The trained weights of a checkpoint by name, in float32, whoever wrote it."""
    state = load_mapped(state_file)
    if not is_sharded(state_file):
        found: dict[str, Tensor] = state["state_dict"]
        return found
    return weights(state, PiecesOfRanks(state_file.parent / SHARD_DIRECTORY))


def weights(state: dict[str, Any], pieces: PiecesOfRanks) -> dict[str, Tensor]:
    """Buffers, trained parameters, and the other names of shared ones."""
    found = dict(state["state_dict"])
    found |= {name: whole(pieces, name, WEIGHT) for name in pieces.names}
    return found | {alias: found[name] for alias, name in state[TIED].items() if name in found}
