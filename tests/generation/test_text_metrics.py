"""Scores during training are those of the evaluation, in percent."""

from itertools import pairwise

import pytest
import sacrebleu
import torch

from dlm.generation.text_metrics import METRICS, AnswerLengths, text_metric

CORPORA: dict[str, tuple[list[str], list[str]]] = {
    "sentences": (
        ["the cat sat on the mat today .", "a dog, really", "hello world it is you"],
        ["the cat is on the mat today .", "a cat, really", "hello there world it is me"],
    ),
    "no shared 4-gram": (
        ["a red dog sat by a big door", "he ran home late"],
        ["the red dog sat at the big door", "she ran far home late"],
    ),
    "short words": (["ein", "zwei drei", "x"], ["eins", "zwei drei", "vier"]),
    "all wrong": (["aa", "bb"], ["cc", "dd"]),
    "an empty answer": (["", "the cat sat on the mat"], ["a dog", "the cat sat on the mat"]),
    "German": (["fünf-\nhundert & »eins«, ja!"], ["fünfhundert &amp; »eins«, ja!"]),
}
every_corpus = pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)


def compute(name: str, hypotheses: list[str], references: list[str], cuts: list[int]) -> float:
    """The metric, updated in parts."""
    metric = text_metric(name)
    for start, stop in pairwise([0, *cuts, len(hypotheses)]):
        metric.update(hypotheses[start:stop], [[r] for r in references[start:stop]])
    return float(metric.compute())


@every_corpus
@pytest.mark.parametrize("cuts", [[], [1], [0, 1]])
def test_bleu_is_sacrebleus(corpus: tuple[list[str], list[str]], cuts: list[int]) -> None:
    hypotheses, references = corpus
    expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert compute("bleu", *corpus, cuts) == pytest.approx(expected, rel=1e-5)


@every_corpus
@pytest.mark.parametrize("cuts", [[], [1], [0, 1]])
def test_chrf_is_sacrebleus(corpus: tuple[list[str], list[str]], cuts: list[int]) -> None:
    hypotheses, references = corpus
    expected = sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert compute("chrf", *corpus, cuts) == pytest.approx(expected, rel=1e-5)


def test_the_examples_hold_a_corpus_that_only_smoothed_bleu_can_score() -> None:
    hypotheses, references = CORPORA["no shared 4-gram"]
    score = sacrebleu.corpus_bleu(hypotheses, [references])
    assert score.counts[3] == 0 and score.score > 1


def test_bleu_reads_several_references() -> None:
    metric = text_metric("bleu")
    metric.update(["the cat sat on the mat"], [["a cat sat there", "the cat sat on a mat"]])
    expected = sacrebleu.corpus_bleu(
        ["the cat sat on the mat"], [["a cat sat there"], ["the cat sat on a mat"]]
    )
    assert float(metric.compute()) == pytest.approx(expected.score, rel=1e-5)


def test_exact_match_is_the_share_of_equal_texts_in_percent() -> None:
    assert compute("exact_match", ["a", "b", "cc", "d"], ["a", "x", "c", "d"], [3]) == 50.0
    assert compute("exact_match", ["a b"], ["a  b"], []) == 0.0
    assert compute("exact_match", [], [], []) == 0.0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_perfect_corpus_scores_100_and_reset_forgets(name: str) -> None:
    metric = text_metric(name)
    metric.update(["something else entirely"], [["the cat sat on the mat"]])
    assert float(metric.compute()) < 100
    metric.reset()
    metric.update(["the cat sat on the mat"], [["the cat sat on the mat"]])
    assert float(metric.compute()) == pytest.approx(100)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_states_add_up_over_ranks_even_where_a_rank_has_no_rows(name: str) -> None:
    hypotheses, references = CORPORA["sentences"]
    ranks = [text_metric(name) for _ in range(3)]
    for rank, metric in enumerate(ranks[:2]):
        metric.update(hypotheses[rank::2], [[r] for r in references[rank::2]])
    ranks[2].update([], [])
    whole = text_metric(name)
    for state, reduction in whole._reductions.items():
        assert reduction is not None and not isinstance(reduction, str)
        summed = reduction(torch.stack([getattr(metric, state) for metric in ranks]))
        setattr(whole, state, summed)
    whole._update_count = 1
    expected = compute(name, hypotheses, references, [])
    assert float(whole.compute()) == pytest.approx(expected, rel=1e-6)


def test_lengths_and_empty_answers_add_up_over_batches() -> None:
    lengths = AnswerLengths()
    lengths.update(["", "a b", " "], [0, 2, 1], [3, 2, 4])
    lengths.update([], [], [])
    lengths.update(["c"], [1], [5])
    assert lengths.compute().tolist() == [4, 2, 4, 14]
