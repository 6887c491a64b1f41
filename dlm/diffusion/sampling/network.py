"""The network as the reverse process sees it: states of slots, and logits where they are read."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dlm.diffusion.sampling.likeliest import likeliest_of_logits

Predict = Callable[[Tensor], Tensor]
"""Slot tokens [B, N] -> logits of every slot [B, N, V]; the caller holds the context."""


@dataclass(frozen=True)
class Wanted:
    """Slots that are read in an iteration; rows that hold none need no network."""

    slot_S: Tensor
    """Their numbers in the flattened canvas, ascending, int64."""
    rows: list[int] | None
    """Numbers of their rows, ascending; None: every row of the batch."""
    row_R: Tensor | None
    """The same on the device of the canvas, int64."""
    iteration: int = 0
    """Number of the iteration, those of all blocks counted, from 0."""


class SlotNetwork(ABC):
    """A network in two halves, so that the second is computed only where it is read."""

    repeats: bool = True
    """Whether the same tokens have the same states in every iteration."""
    vocab_size: int
    """V, where it is known beforehand; it decides how many slots are read at a time."""

    @abstractmethod
    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """What the logits of the wanted slots are made from: slot tokens [B, N] to [S, ...]."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Logits [S, V] of this many states."""

    def likeliest(self, states: Tensor, forbidden_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token of each slot that is not forbidden, the first of equals, and its
        log-probability in float32, [S] each."""
        return likeliest_of_logits(self.logits(states), forbidden_ids)


class EverySlot(SlotNetwork):
    """A function that gives all logits at once."""

    vocab_size = 1

    def __init__(self, predict: Predict) -> None:
        self.predict = predict

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """The logits themselves."""
        return self.predict(tokens_BN).flatten(0, 1)[wanted.slot_S]

    def logits(self, states: Tensor) -> Tensor:
        """As they are."""
        return states
