"""Weights and optimizer moments of a checkpoint, whoever wrote it, read range by range.

A checkpoint is one file (one device, DDP) or a file a rank (ZeRO). The files of ranks hold
*pieces*: of each parameter, seen as one long vector, the range that this rank kept. Ranges say
nothing of the strategy or the number of ranks, so that any other one can read them. Files are
mapped into memory: what is not asked for is not read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's running averages of the gradient and of its square."""
AVERAGE = "average"
"""The moving average of the weights, where a run keeps one."""
AVERAGE_STATE = "WeightAverage"
"""The callback that keeps it, in ``callbacks`` of the trainer's state."""
STATE_FILE, SHARD_DIRECTORY = "state.ckpt", "shards"
"""The trainer's state, and beside it, under ZeRO, the files of the ranks."""


class SavedTensors(Protocol):
    """The float32 tensors of a checkpoint."""

    def shape(self, name: str) -> torch.Size:
        """Shape of a parameter."""

    def part(self, name: str, kind: str, start: int, stop: int) -> Tensor:
        """Elements start..stop of a flattened tensor; ``kind``: WEIGHT, one of MOMENTS, or
        AVERAGE."""


def whole(saved: SavedTensors, name: str, kind: str) -> Tensor:
    """A tensor in its own shape."""
    shape = saved.shape(name)
    return saved.part(name, kind, 0, shape.numel()).view(shape)


class PiecesOfRanks:
    """The files that the ranks of a ZeRO run wrote."""

    def __init__(self, directory: Path) -> None:
        self._shapes: dict[str, torch.Size] = {}
        self._pieces: dict[str, list[tuple[int, dict[str, Tensor]]]] = {}
        for path in sorted(directory.iterdir()):
            for name, piece in load_mapped(path)["pieces"].items():
                self._shapes[name] = torch.Size(piece["shape"])
                self._pieces.setdefault(name, []).append((piece["start"], piece["tensors"]))
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece[0])

    @property
    def names(self) -> list[str]:
        """The parameters that were trained."""
        return list(self._shapes)

    def has(self, kind: str) -> bool:
        """Whether the ranks wrote tensors of this kind."""
        return all(kind in tensors for pieces in self._pieces.values() for _, tensors in pieces)

    def shape(self, name: str) -> torch.Size:
        return self._shapes[name]

    def part(self, name: str, kind: str, start: int, stop: int) -> Tensor:
        found = torch.empty(stop - start)
        reached = start
        for begin, tensors in self._pieces[name]:
            piece = tensors[kind]
            first, last = max(reached, begin), min(stop, begin + piece.numel())
            if first == reached and first < last:
                found[first - start : last - start] = piece[first - begin : last - begin]
                reached = last
        if reached < stop:
            raise ValueError(f"no rank wrote elements {reached} to {stop} of {name} ({kind})")
        return found


class OneFile:
    """The state of a run whose every rank holds everything: Lightning's own checkpoint."""

    def __init__(self, state: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> None:
        """``groups``: names of the parameters in each group of the optimizer, in its order."""
        self._weights: Mapping[str, Tensor] = state["state_dict"]
        names = [name for group in groups for name in group]
        moments = state["optimizer_states"][0]["state"]
        self._average = state["callbacks"].get(AVERAGE_STATE, {}).get("tensors", {})
        self._moments = {name: moments[number] for number, name in enumerate(names)}
        self.step = int(next(iter(moments.values()))["step"]) if moments else 0

    def shape(self, name: str) -> torch.Size:
        return self._weights[name].shape

    def part(self, name: str, kind: str, start: int, stop: int) -> Tensor:
        alone: dict[str, Mapping[str, Tensor]]
        alone = {WEIGHT: self._weights, AVERAGE: self._average}
        tensor: Tensor = alone[kind][name] if kind in alone else self._moments[name][kind]
        return tensor.flatten()[start:stop]


def load_mapped(path: Path) -> dict[str, Any]:
    """A file of ours, whose tensors stay on disk until they are read. It holds tensors and plain
    values alone: a pickle that carries code is refused."""
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return loaded
