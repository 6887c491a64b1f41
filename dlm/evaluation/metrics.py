"""The metrics of every kind of task, as functions of the rows of samples.jsonl.

They are computed from what is written, so that a finished result is compared without its model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlm.evaluation.answer_scores import EXTRACTED
from dlm.evaluation.extraction.languages import Languages
from dlm.evaluation.intervals import (
    Aggregate,
    Interval,
    Statistics,
    are_marks,
    bootstrap,
    clopper_pearson,
    mean_in_percent,
)
from dlm.evaluation.learned_scores import LEARNED
from dlm.evaluation.scores import SCORES, Score, Texts

Sample = dict[str, Any]
"""One row of samples.jsonl."""


@dataclass(frozen=True)
class RowMetric:
    """A score of rows whose statistics add up over rows."""

    statistics: Callable[[Sequence[Sample]], Statistics]
    """Samples -> per-row statistics."""
    aggregate: Aggregate
    signature: Callable[[Sequence[Sample]], str]
    """Samples -> what the score depends on, for papers."""
    lower_is_better: bool = False
    per_token: bool = False
    """Comparable only between models that cut the texts into the same tokens."""
    of_rewriting: bool = False
    """Whether the source left as it is scores too."""
    of_texts: bool = False
    """Whether it is a function of the answers' texts."""


def references_of(sample: Sample) -> list[str]:
    """All references of a generated text; most rows have one, under ``reference``."""
    several: list[str] | None = sample.get("references")
    return several or [sample["reference"]]


def texts_of(samples: Sequence[Sample]) -> Texts:
    """The rows as corpus scores read them. The source is ``source_text`` where a prompt has words
    around it, ``input`` where demonstrations stand before it."""
    return Texts(
        [sample["hypothesis"] for sample in samples],
        [references_of(sample) for sample in samples],
        [_source_of(sample) for sample in samples],
        _languages_of(samples),
    )


def _source_of(sample: Sample) -> str:
    names = ("source_text", "input", "source")
    return str(next((sample[name] for name in names if name in sample), ""))


def _languages_of(samples: Sequence[Sample]) -> Languages:
    """Those of the task, which every row has."""
    first = samples[0] if samples else {}
    language = first.get("language")
    return Languages(language, first.get("reference_language", language))


def _of_texts(name: str, score: Score) -> RowMetric:
    def signature(samples: Sequence[Sample]) -> str:
        said = score.signature(texts_of(samples))
        if name not in EXTRACTED:
            return said
        return f"{said}|language:{_languages_of(samples).answers or 'not given'}"

    return RowMetric(
        lambda samples: score.statistics(texts_of(samples)),
        score.aggregate, signature, score.lower_is_better,
        of_rewriting=score.of_rewriting, of_texts=True,
    )  # fmt: skip


def _learned(name: str) -> RowMetric:
    """A score of segments that a model made, read back from the samples."""
    return RowMetric(
        lambda samples: np.array([[sample[name], 1.0] for sample in samples]),
        _mean_of_segments, lambda samples: LEARNED[name].signature(),
    )  # fmt: skip


def _mean_of_segments(total: Statistics) -> float:
    """In percent, of what a model gives: it may lie outside 0 to 1, so that no interval of shares
    fits, and it is resampled."""
    return float(100.0 * total[0] / total[1])


def _right(samples: Sequence[Sample]) -> Statistics:
    """1 for the right choice, 1/k where it is one of k with equal bounds."""
    chosen = [sample.get("equal", [sample["chosen"]]) for sample in samples]
    rows = zip(samples, chosen, strict=True)
    return np.array([[(s["right"] in equal) / len(equal), 1.0] for s, equal in rows])


def _bounds(samples: Sequence[Sample]) -> Statistics:
    return np.array([[s["bound"], float(s["tokens"])] for s in samples])


METRICS: dict[str, dict[str, RowMetric]] = {
    "generation": {
        **{name: _of_texts(name, score) for name, score in SCORES.items()},
        **{name: _learned(name) for name in LEARNED},
    },
    "multiple_choice": {
        "accuracy": RowMetric(
            _right, mean_in_percent,
            lambda samples: "lowest likelihood bound per token|1/k of k equal",
        ),
    },
    "perplexity": {
        "perplexity": RowMetric(
            _bounds, lambda s: float(np.exp(s[0] / s[1])),
            lambda samples: "exp(sum of likelihood bounds / sum of tokens)", True, True,
        ),
        "nats_per_token": RowMetric(
            _bounds, lambda s: float(s[0] / s[1]),
            lambda samples: "sum of likelihood bounds / sum of tokens", True, True,
        ),
    },
}  # fmt: skip
"""Task kind -> metric name -> how it is computed."""


def interval(metric: RowMetric, samples: Sequence[Sample], *, resamples: int) -> Interval:
    """The score of all rows with its 95 % interval over rows, or over the clusters of rows."""
    return bootstrap(
        metric.aggregate, metric.statistics(samples),
        samples=resamples, clusters=clusters_of(samples),
    )  # fmt: skip


def exact_interval(metric: RowMetric, samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Clopper and Pearson's interval in percent, which covers at least 95 %, of 0/1 scores of
    independent rows; None of others."""
    if metric.aggregate is not mean_in_percent or clusters_of(samples):
        return None
    values = metric.statistics(samples)[:, 0]
    if not are_marks(values):
        return None
    low, high = clopper_pearson(int(values.sum()), len(values))
    return 100 * low, 100 * high


def clusters_of(samples: Sequence[Sample]) -> list[int]:
    """The number of every row's cluster; empty where rows are independent."""
    return [sample["cluster"] for sample in samples if "cluster" in sample]


def source_unchanged(metric: RowMetric, samples: Sequence[Sample]) -> float | None:
    """What a system scores that leaves every source as it is; None where it would score nothing."""
    if not metric.of_rewriting:
        return None
    copied = [{**sample, "hypothesis": _source_of(sample)} for sample in samples]
    return metric.aggregate(metric.statistics(copied).sum(axis=0))


def best_reachable(
    metric: RowMetric, samples: Sequence[Sample], writable: Sequence[str]
) -> float | None:
    """What the first references score as the tokenizer gives them back; None where they come back
    as they are, or a score is no function of texts."""
    if not writable or not metric.of_texts:
        return None
    best = [{**sample, "hypothesis": text} for sample, text in zip(samples, writable, strict=True)]
    return metric.aggregate(metric.statistics(best).sum(axis=0))


def difference(
    metric: RowMetric, first: Sequence[Sample], second: Sequence[Sample], *, resamples: int
) -> Interval:
    """The first system's score minus the second's on the same rows, with its 95 % interval."""
    return bootstrap(
        metric.aggregate, metric.statistics(first), metric.statistics(second),
        samples=resamples, clusters=clusters_of(first),
    )  # fmt: skip


def mean_of_runs(
    metric: RowMetric, runs: Sequence[Sequence[Sample]], *, resamples: int
) -> Interval:
    """The mean score of several runs (seeds) on the same rows, with the interval over rows."""
    clusters = clusters_of(runs[0])
    if metric.aggregate is mean_in_percent:
        mean_of_rows = np.mean([metric.statistics(samples) for samples in runs], axis=0)
        return bootstrap(mean_in_percent, mean_of_rows, samples=resamples, clusters=clusters)
    statistics, mean = _side_by_side(metric, runs)
    return bootstrap(mean, statistics, samples=resamples, clusters=clusters)


def difference_of_runs(
    metric: RowMetric,
    first: Sequence[Sequence[Sample]],
    second: Sequence[Sequence[Sample]],
    *,
    resamples: int,
) -> Interval:
    """The mean score of the first system's runs minus that of the second's, with its 95 % interval
    over rows: a resampled row counts in every run. What seeds do is not in it."""
    if len(first) == len(second) == 1:
        return difference(metric, first[0], second[0], resamples=resamples)
    ours, mean = _side_by_side(metric, first)
    theirs, _ = _side_by_side(metric, second)
    return bootstrap(mean, ours, theirs, samples=resamples, clusters=clusters_of(first[0]))


def _side_by_side(
    metric: RowMetric, runs: Sequence[Sequence[Sample]]
) -> tuple[Statistics, Callable[[Statistics], float]]:
    """Statistics of all runs in a row each [rows, runs * k], and the mean score of their sum."""
    every = [metric.statistics(samples) for samples in runs]
    width = every[0].shape[1]

    def mean(total: Statistics) -> float:
        parts = total.reshape(-1, width)
        return float(np.mean([metric.aggregate(part) for part in parts]))

    return np.concatenate(every, axis=1), mean


def not_comparable(
    metric: RowMetric, first: Sequence[Sample], second: Sequence[Sample]
) -> str | None:
    """Why two systems' scores on the same rows cannot be compared; None where they can."""
    sources = [[sample.get("source") for sample in samples] for samples in (first, second)]
    if sources[0] != sources[1]:
        return "rows that were too long for one of them were skipped"
    if not metric.per_token:
        return None
    if [sample["tokens"] for sample in first] == [sample["tokens"] for sample in second]:
        return None
    return "their tokenizers cut the texts differently, and this is a score per token"
