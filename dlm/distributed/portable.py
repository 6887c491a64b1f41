"""Checkpoints of ZeRO as one device or DDP continues them."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

from dlm.distributed.saved_tensors import (
    AVERAGE,
    AVERAGE_STATE,
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
    state = load_mapped(state_file)
    if not is_sharded(state_file):
        return state
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
    state["optimizer_states"] = [{"state": moments, "param_groups": groups}]
    trained = {name: whole(pieces, name, WEIGHT) for name in pieces.names}
    aliases = {alias: trained[name] for alias, name in state[TIED].items() if name in trained}
    state["state_dict"] = state["state_dict"] | trained | aliases
    if AVERAGE_STATE in state["callbacks"]:
        average = {name: whole(pieces, name, AVERAGE) for name in pieces.names}
        state["callbacks"][AVERAGE_STATE]["tensors"] = average
    return state


@torch.no_grad()
def put_trained(module: LightningModule, state_file: Path) -> None:
    """Give a whole module what a checkpoint would export: the average, where there is one, else the
    weights. Files of ranks are put together parameter by parameter, in the module's own memory.

    Raises:
        RuntimeError: Weights are missing or unknown.
    """
    state = load_mapped(state_file)
    own = dict(module.named_parameters())
    if not is_sharded(state_file):
        module.load_state_dict(state["state_dict"], strict=module.strict_loading)
        average = state["callbacks"].get(AVERAGE_STATE, {}).get("tensors", {})
        for name, tensor in average.items():
            own[name].copy_(tensor)
        return
    pieces = PiecesOfRanks(state_file.parent / SHARD_DIRECTORY)
    trained = {name for name, parameter in own.items() if parameter.requires_grad}
    if trained != set(pieces.names):
        raise RuntimeError(f"weights missing or unknown: {trained ^ set(pieces.names)}")
    kind = AVERAGE if pieces.has(AVERAGE) else WEIGHT
    for name in pieces.names:
        own[name].copy_(whole(pieces, name, kind))
    buffers = dict(module.named_buffers())
    for name, tensor in state["state_dict"].items():
        buffers[name].copy_(tensor)
