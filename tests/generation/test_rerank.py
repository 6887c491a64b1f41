"""Which of a prompt's candidates is given."""

import pytest
from sacrebleu.metrics.chrf import CHRF

from dlm.generation.rerank import Candidate, best_of_each_prompt, minimum_bayes_risk
from dlm.generation.settings import Rerank

WORDS = ["", "one dog", "two dogs", "one dogs", "zzz"]


def decode(rows: list[list[int]]) -> list[str]:
    return [" ".join(WORDS[token] for token in row) for row in rows]


def candidate(prompt: int, tokens: list[int], log_p: float, length_log_p: float = 0.0) -> Candidate:
    return Candidate(prompt, tokens, log_p, length_log_p)


@pytest.mark.parametrize(("rerank", "chosen"), [("mean", 1), ("joint", 0)])
def test_mean_and_joint_choose_by_their_formula(rerank: Rerank, chosen: int) -> None:
    # Means -0.5 and -0.4; joint -1 + log p -0.1 and -0.8 - 3.
    rivals = [candidate(0, [1, 1], -1.0, -0.1), candidate(0, [2, 2], -0.8, -3.0)]
    best, score = best_of_each_prompt(rivals, rerank, decode)[0]
    assert best is rivals[chosen]
    assert score == pytest.approx({"mean": -0.4, "joint": -1.1}[rerank])


def test_mbr_takes_the_text_that_the_others_agree_with() -> None:
    rivals = [candidate(3, [token], -1.0) for token in (4, 1, 3, 2)]
    best, score = best_of_each_prompt(rivals, "mbr", decode)[3]
    assert best is rivals[2]
    others = ["zzz", "one dog", "two dogs"]
    expected = sum(CHRF().sentence_score("one dogs", [other]).score for other in others) / 3
    assert score == pytest.approx(expected)


def test_mbr_of_one_candidate_keeps_it() -> None:
    assert minimum_bayes_risk(["a"]) == [100.0]


@pytest.mark.parametrize("rerank", ["mean", "joint", "mbr"])
def test_of_equals_the_first_is_kept_and_prompts_do_not_mix(rerank: Rerank) -> None:
    rivals = [candidate(1, [1], -1.0), candidate(0, [2], -5.0), candidate(1, [1], -1.0)]
    best = best_of_each_prompt(rivals, rerank, decode)
    assert best[1][0] is rivals[0] and best[0][0] is rivals[1]
