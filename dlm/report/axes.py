"""Axes of charts: data to pixels, and the round numbers beside them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """The scale of one direction: data to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    """Equal steps are equal factors; only values above 0."""

    def __call__(self, value: float) -> float:
        """Pixels, to a tenth."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers along it."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in steps of 1, 2 or 5 times a power of ten, from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; round numbers where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    found = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [value for value in found if low * 0.999 <= value <= high * 1.001]
    return inside if len(inside) > 1 else [tick for tick in ticks(low, high, 4) if tick > 0]


def number_text(value: float) -> str:
    """A tick's label: ``0.05``, ``1,000``, ``20k``, ``1.5M``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):g}{name}"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def widened(low: float, high: float) -> tuple[float, float]:
    """The ends with a margin."""
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def log_widened(low: float, high: float) -> tuple[float, float]:
    """The same where factors count."""
    margin = (high / low) ** 0.06 if high > low else 2.0
    return low / margin, high * margin
