"""Validation figures by noise level: where along the process a network is good or bad."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dlm.stages.validation_means import rounded

NUM_BUCKETS = 10
DIGITS = 4
"""Of each figure: a tenth has fewer rows, and less of their rounding cancels."""


class ByNoiseLevel(Metric):
    """Mean cross-entropy and accuracy of masked tokens in tenths of the mask rate, over all ranks.

    The bucket of a rate r is ceil(10 r): (0, 0.1], (0.1, 0.2], ... (0.9, 1].
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("loss", "right", "count"):
            zeros = torch.zeros(NUM_BUCKETS, dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")
        self.loss: Tensor
        self.right: Tensor
        self.count: Tensor

    def update(self, rate_M: Tensor, cross_entropy_M: Tensor, right_M: Tensor) -> None:
        """Add masked tokens: the mask rate of their row, -log p of the clean token, and whether it
        was the likeliest."""
        # Rates such as 3/10 in float32 must not slip into the next bucket.
        bucket_M = ((rate_M * NUM_BUCKETS - 1e-4).ceil().long() - 1).clamp(0, NUM_BUCKETS - 1)
        self.loss.index_add_(0, bucket_M, cross_entropy_M.detach().to(self.loss))
        self.right.index_add_(0, bucket_M, right_M.to(self.right))
        self.count.index_add_(0, bucket_M, torch.ones_like(rate_M).to(self.count))

    def compute(self) -> dict[str, Tensor]:
        """``loss_0.1`` ... ``masked_accuracy_1.0``, by the upper end of the bucket; a bucket that
        nothing fell into is left out. Float64, ``rounded``."""
        figures = {}
        for number, count in enumerate(self.count.tolist()):
            if count:
                upper = f"{(number + 1) / NUM_BUCKETS:.1f}"
                figures[f"loss_{upper}"] = rounded(float(self.loss[number]) / count, DIGITS)
                figures[f"masked_accuracy_{upper}"] = rounded(
                    float(self.right[number]) / count, DIGITS
                )
        return figures
