"""Corpus scores with bootstrap intervals, alone and as paired differences.

A score is a function of per-row statistics that add up over rows, so a resample is a sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from dlm.evaluation.answer_scores import ANSWER_SCORES
from dlm.evaluation.answer_scores import Score as AnswerScore

Statistics = npt.NDArray[np.float64]
"""Per-row statistics [rows, k]."""


@dataclass(frozen=True)
class Score:
    """How a metric is computed; in percent, greater is better."""

    statistics: Callable[[list[str], list[str]], Statistics]
    """Hypotheses and references -> per-row statistics."""
    aggregate: Callable[[Statistics], float]
    """Summed statistics [k] -> the score."""
    signature: Callable[[], str]
    """What the score depends on, for papers."""


def _exact_match(hypotheses: list[str], references: list[str]) -> Statistics:
    right = [float(h == r) for h, r in zip(hypotheses, references, strict=True)]
    return np.stack([np.array(right), np.ones(len(right))], axis=1)


def _mean(of_answer: AnswerScore, depends_on: str) -> Score:
    def statistics(hypotheses: list[str], references: list[str]) -> Statistics:
        values = [of_answer(*pair) for pair in zip(hypotheses, references, strict=True)]
        return np.stack([np.array(values), np.ones(len(values))], axis=1)

    return Score(statistics, lambda s: 100.0 * s[0] / s[1], lambda: depends_on)


def _sacrebleu(make: Callable[[], Any]) -> Score:
    def statistics(hypotheses: list[str], references: list[str]) -> Statistics:
        extracted = make()._extract_corpus_statistics(hypotheses, [references])
        return np.array(extracted, dtype=np.float64)

    def aggregate(total: Statistics) -> float:
        metric = make()
        return float(metric._compute_score_from_stats(total.tolist()).score)

    def signature() -> str:
        metric = make()
        metric.corpus_score(["a"], [["a"]])
        return str(metric.get_signature())

    return Score(statistics, aggregate, signature)


SCORES: dict[str, Score] = {
    "exact_match": Score(_exact_match, lambda s: 100.0 * s[0] / s[1], lambda: "exact string match"),
    "bleu": _sacrebleu(BLEU),
    "chrf": _sacrebleu(CHRF),
    # For models whose vocabulary has no capitals: both sides are lower-cased.
    "bleu_lowercase": _sacrebleu(partial(BLEU, lowercase=True)),
    "chrf_lowercase": _sacrebleu(partial(CHRF, lowercase=True)),
    **{name: _mean(*given) for name, given in ANSWER_SCORES.items()},
}
"""Metric name -> how it is computed."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """In the names of metrics.json."""
        return {"score": self.value, "ci95_low": self.low, "ci95_high": self.high}


def score(name: str, hypotheses: list[str], references: list[str], *, samples: int) -> Interval:
    """A corpus score with the percentile interval of ``samples`` resamples of the rows."""
    metric = SCORES[name]
    return bootstrap(metric.aggregate, metric.statistics(hypotheses, references), samples=samples)


def paired_difference(
    name: str, first: list[str], second: list[str], references: list[str], *, samples: int
) -> Interval:
    """Score of the first system minus the second's, with a paired bootstrap interval."""
    metric = SCORES[name]
    return bootstrap(
        metric.aggregate, metric.statistics(first, references),
        metric.statistics(second, references), samples=samples,
    )  # fmt: skip


def bootstrap(
    aggregate: Callable[[Statistics], float],
    first: Statistics,
    second: Statistics | None = None,
    *,
    samples: int,
) -> Interval:
    """A score of rows, or the difference of two on the same rows, with the percentile interval of
    ``samples`` resamples of the rows."""

    def value(weights: Statistics) -> float:
        result = aggregate(weights @ first)
        return result if second is None else result - aggregate(weights @ second)

    rows = len(first)
    random = np.random.default_rng(0)
    draws = random.multinomial(rows, np.full(rows, 1 / rows), size=samples)
    values = [value(draw.astype(np.float64)) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5]) if values else (float("nan"), float("nan"))
    return Interval(value(np.ones(rows)), float(low), float(high))
