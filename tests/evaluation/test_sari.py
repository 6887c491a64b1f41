"""SARI against published examples of its reference implementations, and against brute force."""

import random
from collections.abc import Sequence

import pytest

from dlm.evaluation.sari import sentence_sari
from dlm.evaluation.scores import SCORES, Texts, bootstrap

SOURCE = "About 95 species are currently accepted."
REFERENCES = [
    "About 95 species are currently known.",
    "About 95 species are now accepted.",
    "95 species are now accepted.",
]


@pytest.mark.parametrize(
    ("hypothesis", "references", "value"),
    [
        # The example of Hugging Face's `evaluate` (metric sari), and that of its wiki_split.
        ("About 95 you now get in.", REFERENCES, 26.953601953601954),
        ("About 95 you now get in .", REFERENCES[:1], 21.805555555555557),
        # The other two of tensor2tensor's test.
        ("About 95 species are now agreed .", REFERENCES, 61.70965608465608),
        ("About 95 species are currently agreed .", REFERENCES, 50.88681849551415),
    ],
)
def test_the_published_examples(hypothesis: str, references: list[str], value: float) -> None:
    assert 100 * sentence_sari(SOURCE, hypothesis, references) == pytest.approx(value, abs=1e-10)


def grams(text: str, order: int) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + order]) for i in range(len(words) - order + 1)]


def shared(parts: Sequence[float]) -> float:
    return sum(parts) / len(parts) if parts else 1.0


def harmonic(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r else 0.0


def brute_force(source: str, hypothesis: str, references: list[str]) -> float:
    """Equations 3 to 9 with every n-gram type looked up in lists, references as fractions."""
    number, total = len(references), 0.0
    for n in range(1, 5):
        s, c = grams(source, n), grams(hypothesis, n)
        r = [gram for reference in references for gram in grams(reference, n)]
        votes = {gram: r.count(gram) / number for gram in r}
        kept = {g: min(s.count(g), c.count(g)) for g in s if g in c}
        wanted = [min(s.count(g), votes[g]) for g in set(s) if g in votes]
        right = {g: min(k, votes.get(g, 0)) for g, k in kept.items()}
        recall = sum(right.values()) / sum(wanted) if wanted else 1.0
        total += harmonic(shared([right[g] / k for g, k in kept.items()]), recall)
        gone = {g: s.count(g) - c.count(g) for g in s if s.count(g) > c.count(g)}
        total += shared([max(0, k - votes.get(g, 0)) / k for g, k in gone.items()])
        new = [g for g in dict.fromkeys(c) if g not in s]
        missing = [g for g in votes if g not in s]
        total += harmonic(
            shared([float(g in votes) for g in new]), shared([float(g in new) for g in missing])
        )
    return total / 12


def test_it_is_that_of_brute_force_on_drawn_sentences() -> None:
    draw = random.Random(1)

    def sentence() -> str:
        return " ".join(draw.choices("abcde", k=draw.randint(1, 9)))

    for _ in range(200):
        source, hypothesis = sentence(), sentence()
        references = [sentence() for _ in range(draw.randint(1, 4))]
        found = sentence_sari(source, hypothesis, references)
        assert found == pytest.approx(brute_force(source, hypothesis, references), abs=1e-12)


def test_a_corpus_is_the_mean_of_its_sentences_with_an_interval() -> None:
    texts = Texts([REFERENCES[0], SOURCE], [REFERENCES, REFERENCES], [SOURCE, SOURCE])
    metric = SCORES["sari"]
    found = bootstrap(metric.aggregate, metric.statistics(texts), samples=50)
    both = [100 * sentence_sari(SOURCE, text, REFERENCES) for text in texts.hypotheses]
    assert found.value == pytest.approx(sum(both) / 2)
    assert (found.low, found.high) == pytest.approx((min(both), max(both)))
