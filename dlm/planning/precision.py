"""Bytes of weights, gradients and states in each precision, with and without DeepSpeed."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3"]
MOMENTS = 8
"""AdamW's two moments, float32."""


@dataclass(frozen=True)
class Bytes:
    """Bytes an element."""

    weight: int
    gradient: int
    master: int
    """A float32 copy of the weights beside the optimizer's moments; 0 where weights are float32
    and are updated in place."""
    compute: int
    """Results of matrix products."""
    stream: int
    """What runs from layer to layer: float32 under autocast, whose layer norms are."""

    @property
    def autocast(self) -> bool:
        """Whether float32 values are copied to half precision for each matrix product."""
        return self.compute < self.stream

    @property
    def optimizer(self) -> int:
        """Moments and master weights."""
        return MOMENTS + self.master


def bytes_of(precision: Precision, strategy: Strategy) -> Bytes:
    """single and ddp: float32 weights, half precision by autocast. DeepSpeed: weights and gradients
    in the precision of computation, and a float32 copy with the moments (a second one with
    32-true, too: its partitions are copies)."""
    mixed = precision != "32-true"
    if strategy in ("single", "ddp"):
        return Bytes(weight=4, gradient=4, master=0, compute=2 if mixed else 4, stream=4)
    size = 2 if mixed else 4
    return Bytes(weight=size, gradient=size, master=4, compute=size, stream=size)
