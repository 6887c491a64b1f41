"""A power law through the losses of networks of several sizes, with its interval.

``loss = scale x size^-exponent``, a line in logarithms, fitted by least squares there. No floor is
fitted (``loss = floor + ...``): a study has few sizes, and with four of them a third parameter
leaves one degree of freedom, where floor and exponent replace each other at will. Where the true
floor is not zero the exponent comes out too small, and extrapolating beyond the sizes is unsafe.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % points of Student's t with 1, 2, ... degrees of freedom."""
_T_BEYOND = 2.0
LEAST_SIZES = 3
"""With two sizes the line meets both points, and nothing is left to tell how well it fits."""


@dataclass(frozen=True)
class PowerLaw:
    """``scale x size^-exponent`` with the 95 % t-interval of a least-squares line in logarithms."""

    exponent: float
    exponent_low: float
    exponent_high: float
    scale: float
    r_squared: float
    """Share of the variance of log loss that the line explains."""
    _centre: float
    """Mean of log size."""
    _spread: float
    """Sum of squared distances of log size from it."""
    _residual: float
    """Standard deviation of log loss around the line."""
    _count: int

    def __call__(self, size: float) -> float:
        """The loss that the law gives."""
        return float(self.scale * size**-self.exponent)

    def interval(self, size: float) -> tuple[float, float]:
        """95 % interval of the law itself at a size: where the line lies, not a further point."""
        off = math.log(size) - self._centre
        error = self._residual * math.sqrt(1 / self._count + off**2 / self._spread)
        factor = math.exp(_quantile(self._count - 2) * error)
        return self(size) / factor, self(size) * factor


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit sizes (parameters) and losses, in pairs; several losses of one size (seeds) are fine.

    Raises:
        ValueError: Fewer than three sizes, or a size or loss that is not positive and finite.
    """
    values = [*sizes, *losses]
    if not all(0 < value < math.inf for value in values):
        raise ValueError("a power law needs sizes and losses above 0")
    if len(set(sizes)) < LEAST_SIZES:
        raise ValueError(f"a power law with an interval needs {LEAST_SIZES} sizes or more")
    x, y = np.log(np.array(sizes, dtype=float)), np.log(np.array(losses, dtype=float))
    centre, height = x.mean(), y.mean()
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * (y - height)).sum()) / spread
    left = y - height - slope * (x - centre)
    unexplained, total = float((left**2).sum()), float(((y - height) ** 2).sum())
    residual = math.sqrt(unexplained / (len(x) - 2))
    reach = _quantile(len(x) - 2) * residual / math.sqrt(spread)
    return PowerLaw(
        exponent=-slope,
        exponent_low=-slope - reach,
        exponent_high=-slope + reach,
        scale=math.exp(float(height) - slope * float(centre)),
        r_squared=1 - unexplained / total if total else 1.0,
        _centre=float(centre),
        _spread=spread,
        _residual=residual,
        _count=len(x),
    )


def _quantile(freedom: int) -> float:
    return T_975[freedom - 1] if freedom <= len(T_975) else _T_BEYOND
