"""Which rows an iteration needs the network for, and how many of its slots."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import Draws
from dlm.diffusion.sampling.network import Wanted
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.schedule import noise_table


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
    """By what is known before a block's first iteration: nothing waits for a GPU after it."""

    slots: list[int]
    """Slots of each iteration, at most."""
    rows: list[list[int] | None]
    """Their rows; None: every row."""
    row_R: list[Tensor | None]
    """The same on the device."""

    def wanted(self, number: int, wanted_BN: Tensor) -> Wanted | None:
        """What the iteration of that number (from 1) wants; where fewer slots are, as many others
        of no consequence come with them."""
        count = self.slots[number - 1]
        if not count:
            return None
        # A stable sort brings the wanted ones to the front; asking for their places would wait.
        slot_S = (~wanted_BN).flatten().int().argsort(stable=True)[:count].sort().values
        return Wanted(slot_S, self.rows[number - 1], self.row_R[number - 1])


def foreseen(sampler: Sampler, noise_MB: list[list[int]], device: torch.device) -> Foreseen:
    """From the noise slots before the first iteration and after each, [M + 1, B]."""
    slots: list[int] = []
    rows: list[list[int] | None] = []
    for before_B, after_B in pairwise(noise_MB):
        reads_B = [
            _COUNTS[sampler.rule](*counts)
            for counts in zip(noise_MB[0], before_B, after_B, strict=True)
        ]
        slots.append(sum(reads_B))
        rows.append([row for row, count in enumerate(reads_B) if count] if 0 in reads_B else None)
    chosen = [row for numbers in rows for row in numbers or []]
    sent = torch.tensor(chosen, dtype=torch.int64).to(device)
    parts = torch.split(sent, [len(numbers or []) for numbers in rows])
    row_R = [None if numbers is None else part for numbers, part in zip(rows, parts, strict=True)]
    return Foreseen(slots, rows, row_R)


def can_foresee(sampler: Sampler) -> bool:
    """Whether the schedule says how many slots the rule reads: not where samplers stop early, nor
    of a rule that is new."""
    return sampler.rule in _COUNTS


def _every_slot(length: int, before: int, after: int) -> int:
    return length if after else before


_COUNTS: dict[str, Callable[[int, int, int], int]] = {
    "reparam-uncond": _every_slot,
    "reparam-cond": _every_slot,
    "frozen": lambda length, before, after: before if before > after else 0,
    "cmlm": lambda length, before, after: before,
    "ancestral": lambda length, before, after: before - after,
    "left-to-right": lambda length, before, after: before - after,
}
"""``samplers.READS`` in numbers: slots of a row, noise before and after -> slots read, at most."""


def noise_numbers(
    sampler: Sampler,
    active_BN: Tensor,
    lengths: list[int],
    draws: Draws,
    iterations: int | None,
    set_MB1: Tensor,
) -> tuple[Tensor, list[list[int]]]:
    """What the schedule leaves as noise after every iteration, int64 [M, B], and on the host what
    will be noise before the first and after each, [M + 1, B] (at most, of ``reparam-cond``; of
    samplers that stop early it is not known).

    Args:
        sampler: The parts.
        active_BN: The slots to be generated.
        lengths: How many they are in each row.
        draws: Those of the first iteration.
        iterations: Of every row; None: as many as it has slots.
        set_MB1: Share of the noise that becomes clean in each iteration.
    """
    if sampler.rule != "ancestral":
        counts = noise_table(sampler.schedule, lengths, iterations)
        return counts.to(active_BN.device), [lengths, *counts.tolist()]
    left_BN, left = active_BN, [active_BN.sum(dim=1)]
    for number, set_B1 in enumerate(set_MB1):
        here = replace(draws, iteration=draws.iteration + number)
        left_BN = left_BN & (here.setting() > set_B1)
        left.append(left_BN.sum(dim=1))
    numbers: list[list[int]] = torch.stack(left).tolist()
    return torch.stack(left[1:]), numbers
