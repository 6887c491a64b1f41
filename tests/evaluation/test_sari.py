"""SARI against values of EASSE's own code, and against brute force.

EASSE is feralvam/easse at 6a4352e, ``corpus_sari`` with its defaults; ours gives its 26.29119
(source unchanged), 41.38101 (ACCESS) and 49.71882 (the first reference) on TurkCorpus's
test set too.
"""

import json
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dlm.evaluation.metrics import METRICS, Sample, source_unchanged
from dlm.evaluation.results import Result
from dlm.evaluation.sari import sari_counts, sari_of
from dlm.evaluation.scores import SCORES, Texts
from dlm.evaluation.table import markdown_table

SPECIES = "About 95 species are currently accepted."
CAT = "The cat sat on the mat near the old door, and slept."
REFERENCES = {
    SPECIES: [
        "About 95 species are currently known.",
        "About 95 species are now accepted.",
        "95 species are now accepted.",
    ],
    CAT: [
        "The cat sat on the mat. It slept.",
        "The cat was on the mat. It slept.",
        "The cat was on the mat. It slept.",
    ],
}


def sari(sources: list[str], hypotheses: list[str], references: list[list[str]]) -> float:
    metric = SCORES["sari"]
    return metric.aggregate(metric.statistics(Texts(hypotheses, references, sources)).sum(axis=0))


@pytest.mark.parametrize(
    ("hypotheses", "value"),
    [
        (["About 95 you now get in."], 31.350246975246975),
        (["About 95 species are now agreed."], 63.23743386243385),
        (["About 95 species are currently agreed."], 46.72930933800499),
        ([SPECIES], 21.873217526575058),
        (
            [
                "About 95 species are now agreed.",
                "The cat was on the mat near the door. It slept.",
            ],
            65.86404668954926,
        ),
        ([SPECIES, CAT], 16.589237320944637),
    ],
)
def test_a_corpus_scores_what_easse_gives_it(hypotheses: list[str], value: float) -> None:
    sources = [SPECIES, CAT][: len(hypotheses)]
    found = sari(sources, hypotheses, [REFERENCES[source] for source in sources])
    assert found == pytest.approx(value, abs=1e-10)


def grams(text: str, order: int) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + order]) for i in range(len(words) - order + 1)]


def brute_force(rows: list[tuple[str, str, list[str]]]) -> float:
    """Every n-gram type of every sentence looked up in lists, a reference a fraction of a vote."""
    total = Fraction(0)
    for n in range(1, 5):
        sums = {kind: [Fraction(0)] * 3 for kind in ("keep", "delete", "add")}
        for source, hypothesis, references in rows:
            s, c = grams(source, n), grams(hypothesis, n)
            r = [gram for reference in references for gram in grams(reference, n)]
            for g in {*s, *c, *r}:
                votes = Fraction(r.count(g), len(references))
                in_s, in_c, none = Fraction(s.count(g)), Fraction(c.count(g)), Fraction(0)
                pairs = {
                    "keep": (min(in_s, in_c), min(in_s, votes)),
                    "delete": (max(none, in_s - in_c), max(none, in_s - votes)),
                    "add": (Fraction(g in c and g not in s), Fraction(g in r and g not in s)),
                }
                for kind, (own, wanted) in pairs.items():
                    values = (min(own, wanted), own, wanted)
                    sums[kind] = [a + b for a, b in zip(sums[kind], values, strict=True)]
        for right, own, wanted in sums.values():
            total += 2 * right / (own + wanted) if own + wanted else 0
    return float(100 * total / 12)


def test_it_is_that_of_brute_force_on_drawn_corpora() -> None:
    draw = random.Random(1)

    def sentence() -> str:
        return " ".join(draw.choices("abcde", k=draw.randint(1, 9)))

    for _ in range(60):
        rows = [
            (sentence(), sentence(), [sentence() for _ in range(draw.randint(1, 4))])
            for _ in range(draw.randint(1, 4))
        ]
        found = sari_of(np.sum([sari_counts(*row) for row in rows], axis=0))
        assert found == pytest.approx(brute_force(rows), abs=1e-10)


def test_equal_references_are_votes() -> None:
    once = sari(["a b c d"], ["a b c e"], [["a b c e", "a b c d"]])
    twice = sari(["a b c d"], ["a b c e"], [["a b c e", "a b c e", "a b c d"]])
    assert twice > once
    assert twice == pytest.approx(
        brute_force([("a b c d", "a b c e", ["a b c e"] * 2 + ["a b c d"])])
    )


def test_a_rewriting_that_is_the_reference_scores_100() -> None:
    rows = [("a b c d e f g h", "a b c d e x y z u v"), ("b c d e f g h i", "b c d e f z y x w v")]
    sources, targets = zip(*rows, strict=True)
    assert sari([*sources], [*targets], [[text] for text in targets]) == pytest.approx(100)


def test_a_rewriting_without_blanks_is_compared_by_characters() -> None:
    source, right, half = "猫坐在旧垫子上面看书", "猫坐在垫子上。它看书", "猫坐在垫子上面看书"
    assert 20 < sari([source], [half], [[right]]) < sari([source], [right], [[right]])


def sample(source: str, hypothesis: str, reference: str, **more: str) -> Sample:
    return {"source": source, "hypothesis": hypothesis, "reference": reference, **more}


def test_the_unchanged_source_stands_beside_a_system_in_the_table() -> None:
    metric = METRICS["generation"]["sari"]
    rows = [
        sample(f"x\n{SPECIES}", "95 species are now accepted.", "95 species.", input=SPECIES),
        sample(CAT, "The cat slept.", "The cat sat. It slept."),
    ]
    copied = source_unchanged(metric, rows)
    expected = sari([SPECIES, CAT], [SPECIES, CAT], [["95 species."], ["The cat sat. It slept."]])
    assert copied == pytest.approx(expected)
    assert source_unchanged(METRICS["generation"]["bleu"], rows) is None
    value = {"score": 36.8, "ci95_low": 36.0, "ci95_high": 37.5, "source_unchanged": copied}
    generation = {"kind": "diffusion", "num_iterations": 4, "length": "oracle"}
    shown = markdown_table(
        [Result("s", "t", {"generation": generation, "scores": {"sari": value}}, [])], []
    )
    assert f"sari 36.8 [36.0, 37.5] (source unchanged {expected:.1f})" in shown


@pytest.mark.real_data
@pytest.mark.skipif("DLM_REAL_DATA" not in os.environ, reason="DLM_REAL_DATA names no folder")
def test_wikisplit_scores_what_easse_gives_it() -> None:
    file = Path(os.environ["DLM_REAL_DATA"]) / "wikisplit" / "test.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()[:1000]
    rows = [json.loads(line) for line in lines]
    sources, references = [row["src"] for row in rows], [[row["tgt"]] for row in rows]
    assert sari(sources, sources, references) == pytest.approx(30.29239050529115)
    split = [source.replace(" and ", " . ", 1) for source in sources]
    assert sari(sources, split, references) == pytest.approx(36.82655847620784)
