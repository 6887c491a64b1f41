"""95 % intervals of scores and of paired differences.

A mean of scores from 0 to 1 has Wilson's interval (1927), and a difference of 0/1 scores on the
same rows Tango's (1998): both stay honest where nearly all rows are right, or wrong, or alike, and
a bootstrap of rows sees no spread. ``bootstrap`` gives them to every ``mean_in_percent``; all other
scores are resampled, with percentiles expanded for few rows (Hesterberg 2015, arXiv 1411.5279).
Rows of one cluster, such as the questions about one paragraph, count together: an effective number
of rows, or resampled clusters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Statistics = npt.NDArray[np.float64]
"""Per-row statistics [rows, k]."""
Aggregate = Callable[[Statistics], float]
"""Summed statistics [k] -> the score."""
_TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - _TAIL)
_HALVINGS = 60


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    method: str
    """How the interval was found, for papers."""

    def as_dict(self) -> dict[str, float | str]:
        """In the names of metrics.json."""
        return {
            "score": self.value, "ci95_low": self.low, "ci95_high": self.high,
            "interval": self.method,
        }  # fmt: skip


def wilson(share: float, rows: float) -> tuple[float, float]:
    """Wilson's interval of a share of ``rows`` independent ones."""
    centre, weight = share + _Z**2 / (2 * rows), 1 + _Z**2 / rows
    half = _Z * math.sqrt(share * (1 - share) / rows + (_Z / (2 * rows)) ** 2)
    return max(0.0, (centre - half) / weight), min(1.0, (centre + half) / weight)


def clopper_pearson(right: int, rows: int) -> tuple[float, float]:
    """The exact interval (1934): the shares that neither tail of the binomial refuses."""
    count = np.arange(rows + 1)
    log_ways = np.array([math.lgamma(k + 1) + math.lgamma(rows - k + 1) for k in count])

    def tail(share: float, wanted: npt.NDArray[np.bool_]) -> float:
        log_p = count * math.log(share) + (rows - count) * math.log1p(-share)
        return float(np.exp(math.lgamma(rows + 1) - log_ways + log_p)[wanted].sum())

    low = _halved(lambda p: tail(p, count >= right) < _TAIL, 0.0, 1.0) if right else 0.0
    high = _halved(lambda p: tail(p, count <= right) > _TAIL, 0.0, 1.0) if right < rows else 1.0
    return low, high


def mean_interval(values: npt.NDArray[np.float64], clusters: Sequence[int] = ()) -> Interval:
    """The mean of scores from 0 to 1, in percent, with Wilson's interval.

    Independent 0/1 scores are counted. Else the number of rows is that whose share would vary as
    the mean does (Franco et al. 2019), with Student's t for the number of
    clusters (Korn and Graubard 1998); where all rows score the same, it is the number of clusters.
    """
    share = float(values.mean())
    marks = are_marks(values)
    sums = by_cluster((values - share)[:, None], clusters)[:, 0]
    count = len(sums)
    method = "Wilson"
    effective: float = count
    if not (marks and count == len(values)):
        method += f", {count} clusters" if clusters else ", effective rows"
        alone = float(np.sum((values - share) ** 2))
        spread = max(float(np.sum(sums**2)), alone)
        if count > 1 and alone > 1e-12 * len(values):
            variance = spread * count / (count - 1) / len(values) ** 2
            effective = share * (1 - share) / variance * (_Z / student(count - 1)) ** 2
    low, high = wilson(share, effective)
    return Interval(100 * share, 100 * low, 100 * high, method)


def are_marks(values: npt.NDArray[np.float64]) -> bool:
    """Whether all are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def paired_marks(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Interval:
    """The difference of 0/1 scores on the same rows, in percent, with Tango's interval: the
    differences that McNemar's statistic, without correction, does not refuse."""
    rows = len(first)
    won, lost = float(np.sum(first > second)), float(np.sum(first < second))
    found = (won - lost) / rows

    def refused(difference: float) -> bool:
        linear = (2 * rows - won + lost) * difference - won - lost
        constant = -lost * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear**2 - 8 * rows * constant))
        losing = (root - linear) / (4 * rows)
        variance = rows * (2 * losing + difference * (1 - difference))
        return (won - lost - rows * difference) ** 2 > _Z**2 * max(0.0, variance)

    low = _halved(refused, -1.0, found)
    high = _halved(lambda difference: not refused(difference), found, 1.0)
    return Interval(100 * found, 100 * low, 100 * high, "Tango, paired")


def _halved(before: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``before`` turns from true to false between two numbers."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return (low + high) / 2


def mean_in_percent(total: Statistics) -> float:
    """Of rows whose statistics are a value from 0 to 1, and 1."""
    return float(100.0 * total[0] / total[1])


def bootstrap(
    aggregate: Aggregate,
    first: Statistics,
    second: Statistics | None = None,
    *,
    samples: int,
    clusters: Sequence[int] = (),
) -> Interval:
    """A score of rows, or the difference of two on the same rows, with its 95 % interval.

    It is the percentile interval of ``samples`` resamples of the rows, or of the clusters, except
    where a formula is better: for a mean of values from 0 to 1, and for a difference of two means
    of 0/1 values of independent rows.
    """
    if aggregate is mean_in_percent:
        if second is None:
            return mean_interval(first[:, 0], clusters)
        if not clusters and all(are_marks(given[:, 0]) for given in (first, second)):
            return paired_marks(first[:, 0], second[:, 0])
    parts = [by_cluster(given, clusters) for given in (first, second) if given is not None]
    rows = len(parts[0])

    def values(draws: Statistics) -> npt.NDArray[np.float64]:
        scores = [np.array([aggregate(total) for total in draws @ part]) for part in parts]
        return scores[0] if len(scores) == 1 else scores[0] - scores[1]

    random = np.random.default_rng(0)
    draws = random.multinomial(rows, np.full(rows, 1 / rows), size=samples).astype(np.float64)
    ends = [100 * widened_tail(rows), 100 * (1 - widened_tail(rows))]
    low, high = np.percentile(values(draws), ends) if samples else (math.nan, math.nan)
    method = f"{'paired ' if second is not None else ''}bootstrap, {samples:,} resamples"
    method += f" of {rows} clusters" if clusters else ""
    return Interval(float(values(np.ones((1, rows)))[0]), float(low), float(high), method)


def widened_tail(rows: int) -> float:
    """The tail of a percentile bootstrap that reaches as far as Student's t does."""
    if rows < 2:
        return _TAIL
    return NormalDist().cdf(-math.sqrt(rows / (rows - 1)) * student(rows - 1))


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t (Abramowitz and Stegun, 26.7.5); 11 % short for one degree
    of freedom, 0.7 % for two, 0.1 % for three."""
    z, n = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def by_cluster(statistics: Statistics, clusters: Sequence[int]) -> Statistics:
    """Statistics summed over the rows of each cluster [clusters, k]; without clusters as they are.

    Args:
        statistics: [rows, k].
        clusters: Of every row the number of its cluster, or nothing.
    """
    if not clusters:
        return statistics
    _, place = np.unique(np.array(clusters), return_inverse=True)
    sums = np.zeros((place.max() + 1, statistics.shape[1]))
    np.add.at(sums, place, statistics)
    return sums
