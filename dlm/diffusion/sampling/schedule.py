"""How many slots of a row stay noise after each iteration."""

import math
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["linear", "cosine", "llada", "dream"]
_DREAM_END = 1  # thousandths: Dream's times go from 1 to its eps = 0.001


def remaining_noise(schedule: ScheduleName, length: int, iteration: int, iterations: int) -> int:
    """Noise slots left after ``iteration`` (1-based) of ``iterations`` in a row of ``length``.

    linear: floor(N (M-m) / M) in integers; cosine: floor(N cos(pi m / 2M)) in float64 on the
    host, so that every device agrees. llada: floor(N / M) are set in every iteration, and one more
    in the first N mod M (arXiv 2502.09992, its generate.py). dream: see ``noise_counts``. All end
    at 0.
    """
    if schedule == "dream":
        return [length, *noise_counts(schedule, length, iterations)][iteration]
    if schedule == "llada":
        each, first = divmod(length, iterations)
        return length - each * iteration - min(first, iteration)
    if schedule == "linear":
        return length * (iterations - iteration) // iterations
    return math.floor(length * noise_rate(schedule, iteration, iterations))


def noise_counts(schedule: ScheduleName, length: int, iterations: int) -> list[int]:
    """``remaining_noise`` after every iteration.

    dream (arXiv 2508.15487, its generation code): of n noise slots floor(n (1 - s/t)) are set, with
    times on an even grid of M + 1 from 1 to 0.001, and in the last iteration all. In integers, for
    n (1 - s/t) = 999 n / (1000 M - 999 (m - 1)).
    """
    if schedule != "dream" or not iterations:
        return [remaining_noise(schedule, length, m, iterations) for m in range(1, iterations + 1)]
    span = 1000 - _DREAM_END

    def after(left: int, number: int) -> int:
        return left - span * left // (1000 * iterations - span * (number - 1))

    *counts, _ = accumulate(range(1, iterations + 1), after, initial=length)
    return [*counts[1:], 0]


def noise_rate(schedule: ScheduleName, iteration: int, iterations: int) -> float:
    """1 - alpha after an iteration: the share of slots that are noise; exactly 0 at the end."""
    if iteration == iterations:
        return 0.0
    if schedule in ("linear", "llada"):
        return (iterations - iteration) / iterations
    if schedule == "dream":
        return 1 - (1 - _DREAM_END / 1000) * iteration / iterations
    if 3 * iteration == 2 * iterations:
        # cos(pi/3), the one value on the way that is rational (Niven), which float64 may miss by
        # its last bit: N/2 slots would be one too few.
        return 0.5
    return math.cos(math.pi * iteration / (2 * iterations))


def noise_table(schedule: ScheduleName, lengths: list[int], iterations: int | None) -> Tensor:
    """``remaining_noise`` of every iteration and row, int64 [iterations, B].

    None: each row has as many iterations as slots, whatever the others have; nothing is left of it
    after them.
    """
    most = max(lengths) if iterations is None else iterations
    known: dict[int, list[int]] = {}
    for length in set(lengths):
        own = noise_counts(schedule, length, length if iterations is None else iterations)
        known[length] = own + [0] * (most - len(own))
    return torch.tensor([known[length] for length in lengths], dtype=torch.int64).T.contiguous()


def rate_tables(
    schedule: ScheduleName, lengths: list[int], iterations: int | None
) -> tuple[Tensor, Tensor]:
    """Of every iteration and row, float32 [iterations, B, 1] each: ``noise_rate``, and the share of
    the noise that becomes clean, (alpha_s - alpha_t)/(1 - alpha_t), 1 in the last. None as in
    ``noise_table``."""
    most = max(lengths) if iterations is None else iterations
    known: dict[int, list[float]] = {}
    for length in set(lengths):
        own = length if iterations is None else iterations
        rates = [noise_rate(schedule, m, own) for m in range(own)]
        known[length] = rates + [0.0] * (most + 1 - own)
    table = torch.tensor([known[length] for length in lengths], dtype=torch.float64).T
    before_MB, after_MB = table[:-1], table[1:]
    set_MB = torch.where(before_MB > 0, 1 - after_MB / before_MB, 1.0)
    return after_MB[..., None].float(), set_MB[..., None].float()
