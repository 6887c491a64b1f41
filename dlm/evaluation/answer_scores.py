"""Scores of single answers: spans, numbers, letters, summaries. A corpus score is their mean."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

Score = Callable[[str, str], float]
"""Hypothesis and reference -> 0 to 1."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_FIRST_LETTER = re.compile(r"\s*\(?([A-Z])\b\)?(?![\w'])")
_LETTER_IN_BRACKETS = re.compile(r"\(([A-Z])\)")


def answer_words(text: str) -> list[str]:
    """SQuAD's normal form: lower case, without ASCII punctuation and English articles."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()


def answer_match(hypothesis: str, reference: str) -> float:
    """1 where both are the same in SQuAD's normal form (its EM)."""
    return float(answer_words(hypothesis) == answer_words(reference))


def token_f1(hypothesis: str, reference: str) -> float:
    """F1 of the words in SQuAD's normal form; two empty answers agree."""
    given, right = answer_words(hypothesis), answer_words(reference)
    if not given or not right:
        return float(given == right)
    return _f1(sum((Counter(given) & Counter(right)).values()), given, right)


def final_number(text: str) -> Decimal | None:
    """The number behind "####" (GSM8K), else the last one; 1,000 is 1000."""
    _, mark, behind = text.rpartition("####")
    found = _NUMBER.findall(behind) if mark else _NUMBER.findall(text)
    if not found:
        return None
    return Decimal(found[0 if mark else -1].replace(",", ""))


def number_match(hypothesis: str, reference: str) -> float:
    """1 where both end in the same number: 51, 51.0 and "... #### 51" are."""
    right = final_number(reference)
    return float(right is not None and final_number(hypothesis) == right)


def chosen_letter(text: str) -> str | None:
    """The capital that the text begins with ("B", "(B) four", "B."), else the first "(B)"."""
    found = _FIRST_LETTER.match(text) or _LETTER_IN_BRACKETS.search(text)
    return found[1] if found else None


def choice_match(hypothesis: str, reference: str) -> float:
    """1 where both choose the same letter; a reference that is no letter is an answer."""
    if re.fullmatch(r"\W*[A-Z]\W*", reference):
        return float(chosen_letter(hypothesis) == chosen_letter(reference))
    if answer_words(reference):
        return answer_match(hypothesis, reference)
    return float(hypothesis.split() == reference.split())  # nothing but brackets and the like


def rouge_l(hypothesis: str, reference: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of lower-case words, no stemming."""
    given, right = (re.findall(r"\w+", text.lower()) for text in (hypothesis, reference))
    if not given or not right:
        return 0.0
    row = [0] * (len(right) + 1)
    for word in given:
        before = 0
        for index, other in enumerate(right, start=1):
            above = row[index]
            row[index] = before + 1 if word == other else max(above, row[index - 1])
            before = above
    return _f1(row[-1], given, right)


def _f1(common: int, given: Sequence[str], right: Sequence[str]) -> float:
    return 2 * common / (len(given) + len(right))


ANSWER_SCORES: dict[str, tuple[Score, str]] = {
    "answer_match": (answer_match, "SQuAD exact match, mean over rows"),
    "token_f1": (token_f1, "SQuAD token F1, mean over rows"),
    "number_match": (number_match, "final number (behind #### or the last) is equal"),
    "choice_match": (choice_match, "first letter chosen is equal"),
    "rouge_l": (rouge_l, "ROUGE-L F1 of lower-case words, no stemming, mean over rows"),
}
"""Name -> the score of one answer, and what it depends on."""
