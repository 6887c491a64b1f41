"""Bounds that a right implementation passes on the fixed seeds and a wrong one does not."""

import math

import torch
from torch import Tensor


def assert_distributed(counts: Tensor, probabilities: list[float]) -> None:
    """Chi-square statistic of the counts within 4 standard deviations of its mean."""
    total = float(counts.sum())
    statistic = sum(
        (float(count) - total * p) ** 2 / (total * p)
        for count, p in zip(counts, probabilities, strict=True)
    )
    freedom = len(probabilities) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom), (statistic, freedom)


def assert_share(hits: Tensor, probability: Tensor | float) -> None:
    """Number of hits within 4 standard deviations of that of independent coins."""
    probability = torch.as_tensor(probability, dtype=torch.float64).expand(hits.shape)
    expected = float(probability.sum())
    deviation = math.sqrt(float((probability * (1 - probability)).sum()))
    assert abs(float(hits.sum()) - expected) < 4 * deviation, (float(hits.sum()), expected)
