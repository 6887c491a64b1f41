"""Corpus scores with 95 % intervals, alone and as paired differences.

A score is a function of per-row statistics that add up over rows, so a resample is a sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from dlm.evaluation.answer_scores import ANSWER_SCORES, EXTRACTED
from dlm.evaluation.answer_scores import Score as AnswerScore
from dlm.evaluation.extraction.languages import UNKNOWN, Languages
from dlm.evaluation.intervals import (
    Aggregate,
    Interval,
    Statistics,
    bootstrap,
    mean_in_percent,
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
    aggregate: Aggregate
    signature: Callable[[Texts], str]
    """Texts -> what the score depends on, for papers."""
    lower_is_better: bool = False
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

    return Score(statistics, mean_in_percent, describe)


def _num_references(texts: Texts) -> int | None:
    """Of every row; None where it varies."""
    counts = {len(row) for row in texts.references}
    return counts.pop() if len(counts) == 1 else None


def _of_rows(values: Sequence[float]) -> Statistics:
    return np.stack([np.array(values, dtype=np.float64), np.ones(len(values))], axis=1)


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
        tokenizes: Whether the texts choose it; chrF has none, and a metric may name its own.
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
    "exact_match_lowercase": _mean(
        lambda given, right: float(given.lower() == right.lower()),
        lambda: "exact string match|case:lc",
    ),
    "bleu": _sacrebleu(_bleu),
    "chrf": _sacrebleu(lambda _: CHRF(), tokenizes=False),
    "chrf++": _sacrebleu(lambda _: CHRF(word_order=2), tokenizes=False),
    "ter": _sacrebleu(lambda _: TER(), lower_is_better=True, cuts=True),
    # For models whose vocabulary has no capitals: both sides are lower-cased. TER is so anyway.
    "bleu_lowercase": _sacrebleu(partial(_bleu, lowercase=True)),
    # The same cut at all of Unicode's punctuation, as arXiv 2308.12219 scores English to German.
    "bleu_lowercase_intl": _sacrebleu(lambda _: _bleu("intl", lowercase=True), tokenizes=False),
    "chrf_lowercase": _sacrebleu(lambda _: CHRF(lowercase=True), tokenizes=False),
    "sari": Score(_sari, sari_of, _sari_signature, of_rewriting=True),
    **{
        name: _mean(*given, by_language=name in EXTRACTED) for name, given in ANSWER_SCORES.items()
    },
}  # fmt: skip
"""Metric name -> how it is computed."""
TOKENIZED = ("bleu", "bleu_lowercase", "ter", "sari")
"""Those whose words are cut by the tokenizer of a language."""
SPACED = ("bleu_lowercase_intl",)
"""Those whose words are what blanks and punctuation part, whatever the language."""


def score(name: str, hypotheses: list[str], references: Sequence[str], *, samples: int) -> Interval:
    """A corpus score with its 95 % interval; a bootstrap takes ``samples`` resamples."""
    metric = SCORES[name]
    statistics = metric.statistics(_one_reference(hypotheses, references))
    return bootstrap(metric.aggregate, statistics, samples=samples)


def paired_difference(
    name: str, first: list[str], second: list[str], references: Sequence[str], *, samples: int
) -> Interval:
    """Score of the first system minus the second's, with its 95 % interval."""
    metric = SCORES[name]
    ours, theirs = (
        metric.statistics(_one_reference(given, references)) for given in (first, second)
    )
    return bootstrap(metric.aggregate, ours, theirs, samples=samples)


def _one_reference(hypotheses: list[str], references: Sequence[str]) -> Texts:
    return Texts(hypotheses, [[text] for text in references], [""] * len(hypotheses))
