"""Which rows an iteration needs the network for, and how many of their slots."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from dlm.diffusion.sampling.ends import HeldBack
from dlm.diffusion.sampling.network import SlotNetwork, Wanted
from dlm.diffusion.sampling.predict import nothing_predicted, predicted
from dlm.diffusion.sampling.rules import NumRead
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.state import Canvas, Prediction, Step


class Reader:
    """Asks the network for what a rule reads and does not know yet."""

    calls: int = 0
    """Network calls so far."""

    def __init__(
        self,
        network: SlotNetwork,
        sampler: Sampler,
        slot_BN: Tensor,
        forbidden_ids: Tensor,
        looks: bool,
        held_back: HeldBack | None = None,
    ) -> None:
        """``looks``: whether the canvas is looked at in every iteration, which is exact and lets a
        GPU wait; a rule that says no ``num_read`` is looked at in any case."""
        self._network, self._sampler, self._forbidden_ids = network, sampler, forbidden_ids
        self._held_back = held_back
        self._num_read = None if looks else sampler.rule.num_read
        self._remembers = self._num_read is None and sampler.repeats and network.repeats
        self._prediction = nothing_predicted(slot_BN)
        self._wanted_BN = self._known_BN = torch.zeros_like(slot_BN)
        self._foreseen: list[Foreseen] | None = None

    def begin_block(self, noise_MB: list[list[int]], device: torch.device) -> None:
        """Say how many slots will be noise before a block's first iteration and after each."""
        if self._num_read is not None:
            self._foreseen = foreseen(self._num_read, noise_MB, device)

    def read(self, canvas: Canvas, part: Canvas, step: Step) -> Prediction:
        """The prediction of the canvas, right wherever the rule reads it; ``part``: the canvas with
        the slots of the block alone."""
        self._wanted_BN = self._sampler.rule.reads(part, step) & ~self._known_BN
        if self._foreseen is None:
            wanted = look(self._wanted_BN)
        else:
            wanted = self._foreseen.pop(0).wanted(self._wanted_BN)
        if wanted is not None:
            wanted = replace(wanted, iteration=step.draws.iteration)
            self._prediction = predicted(
                self._network, canvas, wanted, self._prediction, self._sampler,
                self._forbidden_ids, step.draws, self._held_back,
            )  # fmt: skip
            self.calls += 1
        return self._prediction

    def remember(self, before: Canvas, after: Canvas) -> None:
        """A row that stayed as it was in an iteration has the prediction that it had."""
        if self._remembers:
            same_B1 = (after.tokens_BN == before.tokens_BN).all(dim=1, keepdim=True)
            self._known_BN = (self._known_BN | self._wanted_BN) & same_B1


def look(wanted_BN: Tensor) -> Wanted | None:
    """By looking at the canvas: exact, and a GPU is waited for. None: no slot is wanted."""
    slot_S = wanted_BN.flatten().nonzero().squeeze(1)
    if not len(slot_S):
        return None
    row_R = wanted_BN.any(dim=1).nonzero().squeeze(1)
    if len(row_R) == len(wanted_BN):
        return Wanted(slot_S, None, None)
    return Wanted(slot_S, row_R.tolist(), row_R)


@dataclass(frozen=True)
class Foreseen:
    """What an iteration reads, known before its block's first one: nothing waits for a GPU."""

    slots: int
    """Slots, at most."""
    rows: list[int] | None
    """Their rows; None: every row."""
    row_R: Tensor | None
    """The same on the device."""

    def wanted(self, wanted_BN: Tensor) -> Wanted | None:
        """These slots; where they are fewer than foreseen, others of no consequence come with
        them."""
        if not self.slots:
            return None
        # A stable sort brings the wanted ones to the front; asking for their places would wait.
        slot_S = (~wanted_BN).flatten().int().argsort(stable=True)[: self.slots].sort().values
        return Wanted(slot_S, self.rows, self.row_R)


def foreseen(num_read: NumRead, noise_MB: list[list[int]], device: torch.device) -> list[Foreseen]:
    """For each iteration, from the noise slots before the first and after each, [M + 1, B]."""
    read_MB = [
        [num_read(*counts) for counts in zip(noise_MB[0], before_B, after_B, strict=True)]
        for before_B, after_B in pairwise(noise_MB)
    ]
    rows = [[row for row, count in enumerate(read_B) if count] for read_B in read_MB]
    sent = torch.tensor([row for numbers in rows for row in numbers], dtype=torch.int64).to(device)
    parts = torch.split(sent, [len(numbers) for numbers in rows])
    return [
        Foreseen(sum(read_B), None, None) if all(read_B) else Foreseen(sum(read_B), numbers, row_R)
        for read_B, numbers, row_R in zip(read_MB, rows, parts, strict=True)
    ]
