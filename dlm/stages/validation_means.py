"""Means over all validation rows, whatever their batches and ranks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


def rounded(value: float, digits: int = 5) -> Tensor:
    """A validation figure, float64, to digits that are equal in any batch: its shape decides in
    which order a float32 network adds up, which moves the means of rows by about 1e-8 to 1e-7 of
    their size."""
    return torch.tensor(float(f"{value:.{digits}g}"), dtype=torch.float64)


class ValidationSum(NamedTuple):
    """What the rows of one batch add to a mean."""

    total: Tensor
    """Float64 where many terms are added up: then their order does not matter."""
    weight: float
    """What the total is divided by, summed over all rows."""
    tokens: int
    """Predictions (of tokens, of lengths) that the total is made of."""


class ValidationMeans(Metric):
    """Named means over all rows and ranks."""

    def __init__(self, names: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.names = tuple(names)
        for part in ValidationSum._fields:
            zeros = torch.zeros(len(self.names), dtype=torch.float64)
            self.add_state(part, default=zeros, dist_reduce_fx="sum")
        self.total: Tensor
        self.weight: Tensor
        self.tokens: Tensor

    def update(self, sums: Mapping[str, ValidationSum]) -> None:
        """Add the sums of a batch."""
        for name, added in sums.items():
            number = self.names.index(name)
            self.total[number] += added.total.detach().to(self.total)
            self.weight[number] += added.weight
            self.tokens[number] += added.tokens

    def compute(self) -> dict[str, Tensor]:
        """The means by name, float64 and ``rounded``; without those that nothing was predicted
        for: a sum of no terms is no loss of 0."""
        columns = zip(self.names, self.total.tolist(), self.weight.tolist(), self.tokens.tolist(),
                      strict=True)  # fmt: skip
        return {name: rounded(total / weight) for name, total, weight, tokens in columns if tokens}
