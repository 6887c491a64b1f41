"""The steps of a block: how much of every row is noise after each iteration."""

from dataclasses import replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import Draws
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.schedule import noise_table, rate_tables
from dlm.diffusion.sampling.state import Step


def steps_of(
    sampler: Sampler, active_BN: Tensor, draws: Draws, iterations: int | None
) -> tuple[list[Step], list[list[int]]]:
    """A step for each iteration, and on the host how many slots of each row will be noise before
    the first and after each, [M + 1, B] (at most, of ``reparam-cond``; of rules that stop early it
    is not known). None where no slot is left.

    Args:
        sampler: The parts.
        active_BN: The slots to be generated.
        draws: Those of the first iteration.
        iterations: Of every row; None: as many as it has slots.
    """
    lengths = active_BN.sum(dim=1).tolist()
    if not any(lengths):
        return [], []
    rate_MB1, set_MB1 = (
        table.to(active_BN.device) for table in rate_tables(sampler.schedule, lengths, iterations)
    )
    drawn = [replace(draws, iteration=draws.iteration + number) for number in range(len(set_MB1))]
    if sampler.rule.counts_are_drawn:
        count_MB, noise_MB = _drawn_counts(active_BN, drawn, set_MB1)
    else:
        table_MB = noise_table(sampler.schedule, lengths, iterations)
        count_MB, noise_MB = table_MB.to(active_BN.device), [lengths, *table_MB.tolist()]
    parts = zip(count_MB, rate_MB1, set_MB1, drawn, strict=True)
    return [Step(*part, sampler.limit) for part in parts], noise_MB


def _drawn_counts(
    active_BN: Tensor, drawn: list[Draws], set_MB1: Tensor
) -> tuple[Tensor, list[list[int]]]:
    """Where each slot is set by a draw of its own: no need to ask the network first."""
    left_BN, left = active_BN, [active_BN.sum(dim=1)]
    for draws, set_B1 in zip(drawn, set_MB1, strict=True):
        left_BN = left_BN & (draws.setting() > set_B1)
        left.append(left_BN.sum(dim=1))
    numbers: list[list[int]] = torch.stack(left).tolist()
    return torch.stack(left[1:]), numbers
