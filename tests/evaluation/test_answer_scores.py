"""Scores of single answers, against cases worked out by hand."""

import pytest

from dlm.evaluation.answer_scores import ANSWER_SCORES
from dlm.evaluation.scores import SCORES, Texts, paired_difference, score

CASES = [
    ("answer_match", "The Blue, house!", "blue house", 1.0),
    ("answer_match", "blue houses", "blue house", 0.0),
    ("token_f1", "in the red house", "a red house now", 2 / 3),
    ("token_f1", "", "red", 0.0),
    ("token_f1", "the", "a", 1.0),
    ("number_match", "So 3 + 4 = 7.", "7", 1.0),
    ("number_match", "7 it is, of 12", "7", 0.0),
    ("number_match", "half of it. #### 1,000", "first 2 \n#### 1000.0", 1.0),
    ("number_match", "#### -5", "5", 0.0),
    ("number_match", "none", "5", 0.0),
    ("number_match", "5", "none", 0.0),
    ("choice_match", "B", "(B)", 1.0),
    ("choice_match", "(B) four", "B", 1.0),
    ("choice_match", "The answer is (B).", "B", 1.0),
    ("choice_match", "Because", "B", 0.0),
    ("choice_match", "A", "B", 0.0),
    ("choice_match", "no", "No", 1.0),
    ("choice_match", "N", "No", 0.0),
    ("choice_match", "] }", "] }", 1.0),
    ("choice_match", "] )", "] }", 0.0),
    ("number_match", "5-3=2", "2", 1.0),
    ("number_match", "3-5", "5", 0.0),
    ("number_match", "3, 4 or 3,4", "34", 0.0),
    ("number_match", "1,00,000 rupees", "100000", 1.0),
    ("number_match", "The answer is 18 dollars for 3 days.", "18", 1.0),
    ("number_match", "১৮", "18", 1.0),
    ("choice_match", "The answer is B.", "B", 1.0),
    ("choice_match", "( b )", "(B)", 1.0),
    ("choice_match", "b four", "B", 0.0),
    ("choice_match", "Answer: **C**", "C", 1.0),
    ("choice_match", "A man went home", "A", 0.0),
    ("choice_match", "the answer is a dog", "A", 0.0),
    ("choice_match", "Let us see. So the answer is No.", "no", 1.0),
    # Behind words that announce it, and not where two letters may be meant.
    ("choice_match", "The answer is B because it is four.", "B", 1.0),
    ("choice_match", "The answer is A because it is four.", "A", 1.0),
    ("choice_match", "A: B", "B", 1.0),
    ("choice_match", "A: four", "A", 1.0),
    ("choice_match", "A: (B) four", "B", 1.0),
    ("choice_match", "ANSWER: B", "B", 1.0),
    ("choice_match", "Answer - B", "B", 1.0),
    ("choice_match", "答案是Ｂ", "B", 1.0),
    ("choice_match", "D'accord, la réponse est B", "B", 1.0),
    ("choice_match", "Option B", "B", 1.0),
    ("choice_match", "The correct option is (b).", "B", 1.0),
    ("choice_match", "\\boxed{B}", "B", 1.0),
    ("choice_match", "\\boxed{\\text{(C)}}", "C", 1.0),
    ("choice_match", "(b) four", "B", 1.0),
    ("choice_match", "b) four", "B", 1.0),
    ("choice_match", "the answer is b.", "B", 1.0),
    ("choice_match", "(A) yes (B) no The answer is (B)", "B", 1.0),
    ("choice_match", "Answer: B\nQ: And now? A: C", "B", 1.0),
    ("choice_match", "(A) one (B) two (C) three", "A", 0.0),
    ("choice_match", "The answer is A or B", "A", 0.0),
    ("choice_match", "The answer is (A) or (B)", "A", 0.0),
    ("choice_match", "Option A is wrong, option B is right", "A", 0.0),
    ("choice_match", "i. e. four", "I", 0.0),
    # Answers written out: signs, points and hyphens count.
    ("choice_match", "13", "-13", 0.0),
    ("choice_match", "15", "1.5", 0.0),
    ("choice_match", "So the answer is - 13.", "-13", 1.0),
    ("choice_match", "1,000", "1000", 1.0),
    ("choice_match", "ab", "a-b", 0.0),
    ("choice_match", "not valid", "valid", 0.0),
    ("choice_match", "b", "a b", 0.0),
    ("choice_match", "**Yes**", "Yes", 1.0),
    ("choice_match", "monsters, inc.", "Monsters, Inc", 1.0),
    ("choice_match", "Answer: barn, damp, it & t", "barn damp it&t", 1.0),
    ("choice_match", "]}", "] }", 1.0),
    ("choice_match", "> >", ">", 0.0),
    ("rouge_1", "sat cat", "cat sat", 1.0),
    ("rouge_2", "the cat sat there", "the cat sat", 0.8),
    ("rouge_l", "the cat sat there", "The cat has sat.", 0.75),
    ("rouge_l", "sat cat", "cat sat", 0.5),
    ("rouge_l", "", "cat", 0.0),
    ("rouge_1", "für", "fär", 0.0),
    ("rouge_1_ascii", "für", "fär", 1.0),
    ("rouge_2", "hätte müssen", "hätte mu\u0308ssen", 1.0),
    ("rouge_l", "λόγος", "λόγος", 1.0),
    ("rouge_l_ascii", "λόγος", "λόγος", 0.0),
    ("rouge_1", "北京大学", "北京", 2 / 3),
    ("token_f1", "北京大学", "北京", 2 / 3),
    ("squad_f1", "北京大学", "北京", 0.0),
    ("token_f1", "สวัสดี", "สวัสดี", 1.0),
    ("token_f1", "in 北京 now", "在北京", 4 / 7),
    ("answer_match", "北京。", "北京", 1.0),
    ("squad_match", "北京。", "北京", 0.0),
    ("answer_match", "«Paris»", "“Paris”", 1.0),
    ("answer_match", "l’eau", "l'eau", 1.0),
    ("answer_match", "¿Qué?", "Qué", 1.0),
    ("answer_match", "نعم؟", "نعم", 1.0),
    ("answer_match", "für", "fur", 0.0),
]


@pytest.mark.parametrize(("name", "hypothesis", "reference", "value"), CASES)
def test_an_answer_is_scored_as_by_hand(
    name: str, hypothesis: str, reference: str, value: float
) -> None:
    assert ANSWER_SCORES[name][0](hypothesis, reference) == pytest.approx(value)


def test_a_corpus_score_is_the_mean_in_percent_with_its_interval() -> None:
    given, right = ["7", "8", "9", "1"], ["7", "8", "9", "2"]
    assert score("number_match", given, right, samples=50).value == 75.0
    assert paired_difference("number_match", right, given, right, samples=50).value == 25.0
    texts = Texts(["a"], [["a"]])
    assert all(SCORES[name].signature(texts) for name in ANSWER_SCORES)
