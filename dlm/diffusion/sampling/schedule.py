"""How many slots of a row stay noise after each iteration."""

import math
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["linear", "cosine"]


def remaining_noise(schedule: ScheduleName, length: int, iteration: int, iterations: int) -> int:
    """Noise slots left after ``iteration`` (1-based) of ``iterations`` in a row of ``length``.

    linear: floor(N (M-m) / M) in integers; cosine: floor(N cos(pi m / 2M)) in float64 on the
    host, so that every device agrees. Both end at 0.
    """
    if schedule == "linear":
        return length * (iterations - iteration) // iterations
    return math.floor(length * noise_rate(schedule, iteration, iterations))


def noise_rate(schedule: ScheduleName, iteration: int, iterations: int) -> float:
    """1 - alpha after an iteration: the share of slots that are noise; exactly 0 at the end."""
    if iteration == iterations:
        return 0.0
    if schedule == "linear":
        return (iterations - iteration) / iterations
    if 3 * iteration == 2 * iterations:
        # cos(pi/3), the one value on the way that is rational (Niven), which float64 may miss by
        # its last bit: N/2 slots would be one too few.
        return 0.5
    return math.cos(math.pi * iteration / (2 * iterations))


def noise_table(schedule: ScheduleName, lengths: list[int], iterations: int) -> Tensor:
    """``remaining_noise`` of every iteration and row, int64 [iterations, B]."""
    return torch.tensor(
        [
            [remaining_noise(schedule, length, m, iterations) for length in lengths]
            for m in range(1, iterations + 1)
        ],
        dtype=torch.int64,
    )
