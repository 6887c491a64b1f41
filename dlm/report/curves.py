"""metrics.csv of a stage as curves."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

Points = list[tuple[float, float]]
"""(step, value), in the order of steps."""
_FIELDS = 4


@dataclass(frozen=True)
class Curves:
    """Everything that a stage logged."""

    values: dict[str, Points]
    """Metric -> its finite values."""
    left_out: dict[str, int]
    """Metric -> how many of its values are not finite."""
    broken_rows: int = 0
    """Rows that cannot be read. The last row of a stage that runs may be half written."""


def read_curves(path: Path) -> Curves:
    """The curves of a metrics.csv; none where there is no such file."""
    values: dict[str, Points] = {}
    left_out: dict[str, int] = {}
    broken = 0
    if not path.is_file():
        return Curves(values, left_out)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in list(csv.reader(file))[1:]:
            try:
                step, metric, value = int(row[0]), row[1], float(row[2])
                complete = len(row) == _FIELDS
            except (IndexError, ValueError):
                complete = False
            if not complete:
                broken += 1
            elif math.isfinite(value):
                values.setdefault(metric, []).append((step, value))
            else:
                left_out[metric] = left_out.get(metric, 0) + 1
    return Curves({name: sorted(points) for name, points in values.items()}, left_out, broken)


def thinned(points: Points, limit: int) -> tuple[Points, int]:
    """At most ``limit`` points, each the mean of this many neighbours as the second value says."""
    width = math.ceil(len(points) / limit)
    if width <= 1:
        return points, 1
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    means = [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]
    return means, width


def at_step(points: Points, step: float | None) -> tuple[float, float] | None:
    """The value of a step, else the last one; None of an empty curve."""
    found = [point for point in points if point[0] == step]
    return (found or points)[-1] if points else None
