"""Text scores as torchmetrics, reduced over ranks."""

from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.text import CHRFScore, SacreBLEUScore


class ExactMatch(Metric):
    """Share of answers equal to their reference, in percent."""

    right: torch.Tensor
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: list[str], target: list[list[str]]) -> None:
        self.right += sum(p in t for p, t in zip(preds, target, strict=True))
        self.total += len(preds)

    def compute(self) -> torch.Tensor:
        return 100 * self.right / self.total.clamp(min=1)


class _Percent:
    """Mixin: torchmetrics reports shares, the field reports percent."""

    def compute(self) -> torch.Tensor:
        return 100 * super().compute()  # type: ignore[misc,no-any-return]


class _BLEU(_Percent, SacreBLEUScore):
    pass


class _CHRF(_Percent, CHRFScore):
    pass


METRICS: dict[str, Any] = {
    "exact_match": ExactMatch,
    "bleu": lambda: _BLEU(tokenize="13a"),
    "chrf": lambda: _CHRF(n_word_order=0),
}
"""Metric name -> a new torchmetrics metric, in percent, greater is better."""


def text_metric(name: str) -> Metric:
    """A new metric of that name."""
    metric: Metric = METRICS[name]()
    return metric
