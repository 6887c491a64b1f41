"""Scores of single answers: spans, numbers, letters, summaries. A corpus score is their mean."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

from dlm.evaluation.rouge import rouge, rouge_signature
from dlm.evaluation.words import spaced, without_punctuation

Score = Callable[[str, str], float]
"""Hypothesis and reference -> 0 to 1."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# A minus is a sign where no word or number stands before it; groups are of three digits, or of two
# before the last three (1,00,000).
_NUMBER = re.compile(r"(?:(?<![\w.)])-)?(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|\.\d+")
_GSM8K = re.compile("####")
_ANSWER_IS = re.compile(r"\banswer is\b:?", re.IGNORECASE)
_ANSWER_MARKS = (_GSM8K, _ANSWER_IS)
_FIRST_LETTER = re.compile(r"[\s*]*\(?(?![AI] \w)([A-Z])\b\)?(?![\w'])")
_LETTER_BEHIND = re.compile(r"\b[Aa]nswer(?: is)?:?[\s*]*\(?([A-Z])\b(?![\w' ]\w)")
_LONE_LETTER = re.compile(r"\W*([A-Za-z])\W*")
_LETTER_ALONE = re.compile(r"\W*[A-Z]\W*")
_LETTER_IN_BRACKETS = re.compile(r"\(([A-Z])\)")


def answer_words(text: str) -> list[str]:
    """SQuAD's normal form: lower case, without ASCII punctuation and English articles."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()


def unicode_words(text: str) -> list[str]:
    """SQuAD's normal form for every script: Unicode's punctuation goes too, and a character of a
    script without blanks is a word (as in MLQA, Lewis et al. 2020, for Chinese)."""
    return spaced(_ARTICLES.sub(" ", without_punctuation(text))).split()


def answer_match(hypothesis: str, reference: str) -> float:
    """1 where both are the same in SQuAD's normal form, for every script."""
    return float(unicode_words(hypothesis) == unicode_words(reference))


def token_f1(hypothesis: str, reference: str) -> float:
    """F1 of the words in SQuAD's normal form, for every script; two empty answers agree."""
    return _word_f1(unicode_words(hypothesis), unicode_words(reference))


def squad_match(hypothesis: str, reference: str) -> float:
    """1 where both are the same as SQuAD's script (its EM) compares them."""
    return float(answer_words(hypothesis) == answer_words(reference))


def squad_f1(hypothesis: str, reference: str) -> float:
    """F1 of the words as SQuAD's script has them; two empty answers agree."""
    return _word_f1(answer_words(hypothesis), answer_words(reference))


def _word_f1(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    return _f1(sum((Counter(given) & Counter(right)).values()), given, right)


def final_number(text: str) -> Decimal | None:
    """The number behind "####" (GSM8K), else behind "answer is", else the last one.

    1,000 and 1,00,000 are one number, 3,4 are two; digits of any script count.
    """
    for mark in _ANSWER_MARKS:
        *_, behind = ("", *mark.split(text)[1:])
        if found := _NUMBER.search(behind):
            return _decimal(found[0])
        if mark is _GSM8K and behind:
            return None
    numbers = _NUMBER.findall(text)
    return _decimal(numbers[-1]) if numbers else None


def number_match(hypothesis: str, reference: str) -> float:
    """1 where both end in the same number: 51, 51.0 and "... #### 51" are."""
    right = final_number(reference)
    return float(right is not None and final_number(hypothesis) == right)


def chosen_letter(text: str) -> str | None:
    """The capital that the text begins with ("B", "(B) four", "B."), else the one behind "answer
    is" or "answer:", else the first "(B)". A letter alone may be small; the words "A" and "I"
    before another are none."""
    if lone := _LONE_LETTER.fullmatch(text):  # of a model whose vocabulary has no capitals
        return lone[1].upper()
    begins = _FIRST_LETTER.match(text)
    found = begins or _LETTER_BEHIND.search(text) or _LETTER_IN_BRACKETS.search(text)
    return found[1] if found else None


def final_answer(text: str) -> str:
    """What stands behind the last "answer is", without its full stop; else the whole text."""
    *before, behind = _ANSWER_IS.split(text)
    return behind.strip().removesuffix(".") if before and behind.strip() else text


def choice_match(hypothesis: str, reference: str) -> float:
    """1 where both choose the same letter; a reference that is no letter is an answer."""
    if _LETTER_ALONE.fullmatch(reference):
        return float(chosen_letter(hypothesis) == chosen_letter(reference))
    hypothesis = final_answer(hypothesis)
    if answer_words(reference):
        return answer_match(hypothesis, reference)
    return float(hypothesis.split() == reference.split())  # nothing but brackets and the like


def extracted_number(hypothesis: str, reference: str) -> str | None:
    """What ``number_match`` reads as the answer; None where there is none: it counts as wrong."""
    number = final_number(hypothesis)
    return None if number is None else str(number)


def extracted_choice(hypothesis: str, reference: str) -> str | None:
    """What ``choice_match`` reads as the answer; None where there is none: it counts as wrong."""
    if _LETTER_ALONE.fullmatch(reference):
        return chosen_letter(hypothesis)
    return final_answer(hypothesis).strip() or None


def _f1(common: int, given: Sequence[str], right: Sequence[str]) -> float:
    return 2 * common / (len(given) + len(right))


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


_UNICODE = "|punct:unicode|tok:words, characters where no blanks are|mean over rows"

ANSWER_SCORES: dict[str, tuple[Score, Callable[[], str]]] = {
    "answer_match": (answer_match, lambda: f"SQuAD exact match{_UNICODE}"),
    "token_f1": (token_f1, lambda: f"SQuAD token F1{_UNICODE}"),
    "squad_match": (squad_match, lambda: "SQuAD exact match, mean over rows"),
    "squad_f1": (squad_f1, lambda: "SQuAD token F1, mean over rows"),
    "number_match": (
        number_match,
        lambda: "number behind ####, else behind 'answer is', else the last, is equal",
    ),
    "choice_match": (choice_match, lambda: "letter chosen, or answer written out, is equal"),
    "rouge_1": (rouge("rouge1"), lambda: rouge_signature("rouge1")),
    "rouge_2": (rouge("rouge2"), lambda: rouge_signature("rouge2")),
    "rouge_l": (rouge("rougeL"), lambda: rouge_signature("rougeL")),
    **{
        f"rouge_{order.lower()}_ascii": (
            rouge(f"rouge{order}", ascii_only=True),
            partial(rouge_signature, f"rouge{order}", ascii_only=True),
        )
        for order in "12L"
    },
}
"""Name -> the score of one answer, and what it depends on."""

EXTRACTED: dict[str, Callable[[str, str], str | None]] = {
    "number_match": extracted_number,
    "choice_match": extracted_choice,
}
"""Metrics that look for the answer in a text: hypothesis and reference -> what they found."""
