"""Corpus scores with 95 % intervals, alone and as paired differences.

A score is a function of per-row statistics that add up over rows, so a resample is a sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from dlm.evaluation.answer_scores import ANSWER_SCORES, EXTRACTED
from dlm.evaluation.answer_scores import Score as AnswerScore
from dlm.evaluation.extraction.languages import UNKNOWN, Languages
from dlm.evaluation.intervals import (
    Interval,
    Statistics,
    bootstrap,
    mean_interval,
    paired_marks,
)
from dlm.evaluation.sari import sari_counts, sari_of
from dlm.evaluation.words import check_tokenizer, fitting_tokenizer


@dataclass(frozen=True)
class Texts:
    """What corpus scores read, row by row."""

    hypotheses: list[str]
    references: list[list[str]]
    """Of every row one or several."""
    sources: list[str] = field(default_factory=list)
    """What was to be rewritten; read by ``sari`` alone."""
    languages: Languages = UNKNOWN
    """Of the task: they say how numbers are written, and which tokenizer fits. Where no language is
    said, the script of the references decides on the tokenizer."""

    @property
    def language(self) -> str:
        """Of hypotheses and references, such as ``ja``; empty where it is not said."""
        return self.languages.answers or ""


@dataclass(frozen=True)
class Score:
    """How a metric is computed, in percent."""

    statistics: Callable[[Texts], Statistics]
    """Texts -> per-row statistics."""
    aggregate: Callable[[Statistics], float]
    """Summed statistics [k] -> the score."""
    signature: Callable[[Texts], str]
    """Texts -> what the score depends on, for papers."""
    lower_is_better: bool = False
    is_mean: bool = False
    """Whether it is a mean over rows of scores from 0 to 1."""
    of_rewriting: bool = False
    """Whether the source left as it is scores too, and has to stand beside."""


def _mean(
    of_answer: AnswerScore, depends_on: Callable[[], str], *, by_language: bool = False
) -> Score:
    """The mean over rows; of several references the best counts (as SQuAD and rouge-score do)."""

    def statistics(texts: Texts) -> Statistics:
        score = partial(of_answer, languages=texts.languages) if by_language else of_answer
        pairs = zip(texts.hypotheses, texts.references, strict=True)
        return _of_rows([max(score(given, right) for right in rights) for given, rights in pairs])

    def describe(texts: Texts) -> str:
        return depends_on() + ("" if _num_references(texts) == 1 else "|best of the references")

    return Score(statistics, mean_in_percent, describe, is_mean=True)


def _num_references(texts: Texts) -> int | None:
    """Of every row; None where it varies."""
    counts = {len(row) for row in texts.references}
    return counts.pop() if len(counts) == 1 else None


def _of_rows(values: Sequence[float]) -> Statistics:
    return np.stack([np.array(values, dtype=np.float64), np.ones(len(values))], axis=1)


def mean_in_percent(total: Statistics) -> float:
    """Of rows whose statistics are a value from 0 to 1, and 1."""
    return float(100.0 * total[0] / total[1])


def _sari(texts: Texts) -> Statistics:
    rows = zip(texts.sources, texts.hypotheses, texts.references, strict=True)
    cut = _cutter(_tokenizer_of(texts))
    return np.stack([sari_counts(*row, cut=cut) for row in rows])


def _sari_signature(texts: Texts) -> str:
    references, tokenizer = _num_references(texts) or "var", _tokenizer_of(texts)
    return f"corpus SARI|nrefs:{references}|case:lc|tok:{tokenizer}|del:f1|as EASSE"


def _sacrebleu(
    make: Callable[[str], Any],
    *,
    lower_is_better: bool = False,
    tokenizes: bool = True,
    cuts: bool = False,
) -> Score:
    """A metric of sacrebleu, made for the tokenizer that fits the texts.

    Args:
        tokenizes: Whether there is such a tokenizer at all; chrF has none.
        cuts: Whether it is ours to call, as the metric itself splits at blanks alone.
    """

    def tokenizer_of(texts: Texts) -> str:
        return _tokenizer_of(texts) if tokenizes else _DEFAULT

    def statistics(texts: Texts) -> Statistics:
        tokenizer = tokenizer_of(texts)
        cut = _cutter(tokenizer) if cuts and tokenizer != _DEFAULT else str
        # A column a reference; sacrebleu passes over None, where a row has fewer.
        columns = list(zip_longest(*([cut(text) for text in row] for row in texts.references)))
        given = [cut(text) for text in texts.hypotheses]
        extracted = make(tokenizer)._extract_corpus_statistics(given, columns)
        return np.array(extracted, dtype=np.float64)

    def aggregate(total: Statistics) -> float:
        return float(make(_DEFAULT)._compute_score_from_stats(total.tolist()).score)

    def describe(texts: Texts) -> str:
        tokenizer, num_references = tokenizer_of(texts), _num_references(texts)
        metric = make(tokenizer)
        if num_references is None:
            metric.corpus_score(["a", "a"], [["a", "a"], ["a", None]])
        else:
            metric.corpus_score(["a"], [["a"]] * num_references)
        words = f"|words:{tokenizer}" if cuts and tokenizer != _DEFAULT else ""
        return f"{metric.get_signature()}{words}"

    return Score(statistics, aggregate, describe, lower_is_better)


def _tokenizer_of(texts: Texts) -> str:
    check_tokenizer(texts.language)
    return fitting_tokenizer(texts.language, texts.references)


def _cutter(tokenizer: str) -> Callable[[str], str]:
    metric = _bleu(tokenizer)
    return lambda text: str(metric.tokenizer(text.rstrip()))


def _bleu(tokenizer: str, *, lowercase: bool = False) -> BLEU:
    return BLEU(tokenize=tokenizer, lowercase=lowercase)


_DEFAULT = "13a"

SCORES: dict[str, Score] = {
    "exact_match": _mean(lambda given, right: float(given == right), lambda: "exact string match"),
    "bleu": _sacrebleu(_bleu),
    "chrf": _sacrebleu(lambda _: CHRF(), tokenizes=False),
    "chrf++": _sacrebleu(lambda _: CHRF(word_order=2), tokenizes=False),
    "ter": _sacrebleu(lambda _: TER(), lower_is_better=True, cuts=True),
    # For models whose vocabulary has no capitals: both sides are lower-cased. TER is so anyway.
    "bleu_lowercase": _sacrebleu(partial(_bleu, lowercase=True)),
    "chrf_lowercase": _sacrebleu(lambda _: CHRF(lowercase=True), tokenizes=False),
    "sari": Score(_sari, sari_of, _sari_signature, of_rewriting=True),
    **{
        name: _mean(*given, by_language=name in EXTRACTED) for name, given in ANSWER_SCORES.items()
    },
}  # fmt: skip
"""Metric name -> how it is computed."""
TOKENIZED = ("bleu", "bleu_lowercase", "ter", "sari")
"""Those whose words are cut by the tokenizer of a language."""


def score(name: str, hypotheses: list[str], references: Sequence[str], *, samples: int) -> Interval:
    """A corpus score with its 95 % interval; a bootstrap takes ``samples`` resamples."""
    metric = SCORES[name]
    texts = _one_reference(hypotheses, references)
    return score_interval(metric, metric.statistics(texts), samples=samples)


def paired_difference(
    name: str, first: list[str], second: list[str], references: Sequence[str], *, samples: int
) -> Interval:
    """Score of the first system minus the second's, with its 95 % interval."""
    metric = SCORES[name]
    ours, theirs = (
        metric.statistics(_one_reference(given, references)) for given in (first, second)
    )
    return difference_interval(metric, ours, theirs, samples=samples)


def _one_reference(hypotheses: list[str], references: Sequence[str]) -> Texts:
    return Texts(hypotheses, [[text] for text in references], [""] * len(hypotheses))


class Aggregated(Protocol):
    """A score of summed statistics, whatever its rows are."""

    @property
    def aggregate(self) -> Callable[[Statistics], float]:
        """Summed statistics [k] -> the score."""

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over rows of scores from 0 to 1, their statistics that and 1."""


def score_interval(
    metric: Aggregated, statistics: Statistics, *, samples: int, clusters: Sequence[int] = ()
) -> Interval:
    """The score of rows with the interval that fits it."""
    if metric.is_mean:
        return mean_interval(statistics[:, 0], clusters)
    return bootstrap(metric.aggregate, statistics, samples=samples, clusters=clusters)


def difference_interval(
    metric: Aggregated,
    first: Statistics,
    second: Statistics,
    *,
    samples: int,
    clusters: Sequence[int] = (),
) -> Interval:
    """The difference of two scores of the same rows with the interval that fits it."""
    marks = all(np.isin(given[:, 0], (0.0, 1.0)).all() for given in (first, second))
    if metric.is_mean and marks and not clusters:
        return paired_marks(first[:, 0], second[:, 0])
    return bootstrap(metric.aggregate, first, second, samples=samples, clusters=clusters)
