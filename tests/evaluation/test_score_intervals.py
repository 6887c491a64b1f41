"""Scores against sacrebleu, their bootstrap intervals against a plain resampling loop."""

import random
from importlib.metadata import version
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from dlm.evaluation.intervals import mean_in_percent
from dlm.evaluation.scores import SCORES, Texts, paired_difference, score

CORPUS = ("exact_match", "bleu", "chrf", "ter", "rouge_l")
RESAMPLED = ("bleu", "chrf", "ter")
EXPANDED = [100 * NormalDist().cdf(sign * sqrt(40 / 39) * 2.0226909) for sign in (-1, 1)]
"""Percentiles of a bootstrap of 40 rows (Hesterberg 2015): Student's t of 39 degrees of freedom."""
WORDS = [
    "a",
    "man",
    "in",
    "an",
    "orange",
    "hat",
    "is",
    "looking",
    "at",
    "something",
    "near",
    "the",
    "old",
    "red",
    "house",
    "by",
    "the",
    "sea",
]


def texts(seed: int, rows: int = 40) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(5, 12))) for _ in range(rows)]


def worsened(references: list[str], share: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < share else word for word in text.split())
        for text in references
    ]


REFERENCES = texts(0)
GOOD, BAD = worsened(REFERENCES, 0.1, 1), worsened(REFERENCES, 0.5, 2)


def plain_score(name: str, hypotheses: list[str], references: list[str]) -> float:
    if name == "exact_match":
        return 100 * float(np.mean([h == r for h, r in zip(hypotheses, references, strict=True)]))
    if name.startswith("bleu"):
        return sacrebleu.corpus_bleu(hypotheses, [references], lowercase=name != "bleu").score
    if name == "ter":
        return sacrebleu.corpus_ter(hypotheses, [references]).score
    if name == "rouge_l":
        scorer = RougeScorer(["rougeL"])
        pairs = zip(references, hypotheses, strict=True)
        return 100 * float(np.mean([scorer.score(*pair)["rougeL"].fmeasure for pair in pairs]))
    scorer = sacrebleu.CHRF(lowercase=name != "chrf")
    return scorer.corpus_score(hypotheses, [references]).score


def resamples(rows: int, samples: int) -> list[list[int]]:
    """The same draws as the library: how often each row is taken, made into row numbers."""
    counts = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=samples)
    return [np.repeat(np.arange(rows), count).tolist() for count in counts]


@pytest.mark.parametrize("name", CORPUS)
def test_a_score_is_sacrebleus_to_the_last_digit(name: str) -> None:
    for hypotheses in (GOOD, BAD, REFERENCES):
        value = score(name, hypotheses, REFERENCES, samples=1).value
        expected = plain_score(name, hypotheses, REFERENCES)
        # A mean of fractions ends in another digit where it is summed in another order.
        assert value == (pytest.approx(expected, abs=1e-12) if name == "rouge_l" else expected)


@pytest.mark.parametrize("name", RESAMPLED)
def test_the_interval_is_that_of_a_plain_resampling_loop(name: str) -> None:
    draws = resamples(len(REFERENCES), 60)
    values = [
        plain_score(name, [BAD[i] for i in rows], [REFERENCES[i] for i in rows]) for rows in draws
    ]
    interval = score(name, BAD, REFERENCES, samples=60)
    low, high = np.percentile(values, EXPANDED)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize("name", [*RESAMPLED, "rouge_l"])
def test_the_paired_interval_takes_the_same_rows_of_both_systems(name: str) -> None:
    differences = [
        plain_score(name, [GOOD[i] for i in rows], [REFERENCES[i] for i in rows])
        - plain_score(name, [BAD[i] for i in rows], [REFERENCES[i] for i in rows])
        for rows in resamples(len(REFERENCES), 60)
    ]
    interval = paired_difference(name, GOOD, BAD, REFERENCES, samples=60)
    low, high = np.percentile(differences, EXPANDED)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-5)
    expected = plain_score(name, GOOD, REFERENCES) - plain_score(name, BAD, REFERENCES)
    assert interval.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", CORPUS)
def test_a_system_does_not_differ_from_itself(name: str) -> None:
    interval = paired_difference(name, BAD, BAD, REFERENCES, samples=50)
    assert interval.value == 0
    if name == "exact_match":  # of 40 rows that agree, others may not
        assert (interval.low, interval.high) == pytest.approx((-8.76, 8.76), abs=0.01)
    else:
        assert (interval.low, interval.high) == (0, 0)


@pytest.mark.parametrize("name", CORPUS)
def test_exchanging_the_systems_turns_the_difference_round(name: str) -> None:
    one = paired_difference(name, GOOD, BAD, REFERENCES, samples=50)
    other = paired_difference(name, BAD, GOOD, REFERENCES, samples=50)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert (one.value < 0) if SCORES[name].lower_is_better else (one.value > 0)


@pytest.mark.parametrize("name", CORPUS)
def test_perfect_answers_score_100(name: str) -> None:
    interval = score(name, REFERENCES, REFERENCES, samples=20)
    best = 0 if SCORES[name].lower_is_better else 100
    low = 91.24 if SCORES[name].aggregate is mean_in_percent else best
    found = (interval.value, interval.low, interval.high)
    assert found == pytest.approx((best, low, best), abs=0.01)


def test_the_exact_match_interval_is_the_binomial_one() -> None:
    hypotheses = ["right"] * 300 + ["wrong"] * 100
    interval = score("exact_match", hypotheses, ["right"] * 400, samples=2000)
    assert interval.value == 75
    half_width = 1.96 * 100 * np.sqrt(0.75 * 0.25 / 400)
    assert interval.low == pytest.approx(75 - half_width, abs=0.6)
    assert interval.high == pytest.approx(75 + half_width, abs=0.6)


def test_pairing_is_sharper_than_two_intervals() -> None:
    """Two systems that fail on the same hard rows: one more right answer is seen."""
    references = ["right"] * 200
    first = ["right"] * 112 + ["wrong"] * 88
    second = ["right"] * 100 + ["wrong"] * 100
    difference = paired_difference("exact_match", first, second, references, samples=1000)
    one = score("exact_match", first, references, samples=1000)
    two = score("exact_match", second, references, samples=1000)
    assert difference.value == pytest.approx(6)
    assert difference.low > 0
    assert one.low < two.high


def test_no_answer_at_all_scores_0() -> None:
    for name, metric in SCORES.items():
        worst = 100 if metric.lower_is_better else 0
        if name != "sari":  # deleting all of the source is something, too
            assert score(name, [""] * 3, ["one", "two", "three"], samples=5).value == worst


def test_scores_without_case_lower_both_sides_and_say_so() -> None:
    for name in ("bleu", "chrf"):
        lower = f"{name}_lowercase"
        upper = [text.title() for text in REFERENCES]
        assert score(name, REFERENCES, upper, samples=1).value < 50
        assert score(lower, REFERENCES, upper, samples=1).value == pytest.approx(100)
        assert "|case:lc|" in signed(lower)


def signed(name: str, *references: int) -> str:
    """The signature of a score of rows with so many references."""
    rows = [["a"] * count for count in references or (1,)]
    return SCORES[name].signature(Texts(["a"] * len(rows), rows, ["a"] * len(rows)))


def test_the_signatures_say_what_a_score_depends_on() -> None:
    assert signed("bleu") == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    )
    assert signed("chrf").startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no")
    assert signed("exact_match") == "exact string match"
    assert signed("ter").startswith("nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|")
    assert "|nw:2|" in signed("chrf++")
    assert [signed("bleu", *rows)[:9] for rows in ([2, 2], [1, 2])] == [
        "nrefs:2|c",
        "nrefs:var",
    ]
    assert signed("rouge_2_ascii", 3) == (
        "rouge2 F1|stem:no|tok:a-z0-9|mean over rows|rouge-score "
        f"{version('rouge-score')}|best of the references"
    )
    assert signed("sari", 1, 2) == ("corpus SARI|nrefs:var|case:lc|tok:13a|del:f1|as EASSE")
