"""Scores of single answers: spans, numbers, letters, summaries. A corpus score is their mean."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from dlm.evaluation.extraction.final_number import final_number
from dlm.evaluation.extraction.languages import UNKNOWN, Languages
from dlm.evaluation.extraction.letters import chosen_letter, final_answer, same_answer
from dlm.evaluation.extraction.numbers import shown_number
from dlm.evaluation.rouge import rouge, rouge_signature
from dlm.evaluation.words import spaced, without_punctuation

Score = Callable[..., float]
"""Hypothesis and reference -> 0 to 1; those of ``EXTRACTED`` take ``languages`` too."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_LETTER_ALONE = re.compile(r"\W*[A-Z]\W*")
_NUMBER_ALONE = re.compile(r"\s*[-−]?\s?[\d.,]*\d\s*")


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


def number_match(hypothesis: str, reference: str, languages: Languages = UNKNOWN) -> float:
    """1 where both give the same number: 51, 51.0 and "... #### 51" do."""
    right = final_number(reference, languages.references)
    return float(right is not None and final_number(hypothesis, languages.answers) == right)


def choice_match(hypothesis: str, reference: str, languages: Languages = UNKNOWN) -> float:
    """1 where both choose the same letter. A reference that is no letter is an answer written out:
    a number, which must be equal, or a text, which must say the same (``same_answer``)."""
    if _LETTER_ALONE.fullmatch(reference):
        return float(chosen_letter(hypothesis) == chosen_letter(reference))
    if _is_number(reference, languages):
        return number_match(hypothesis, reference, languages)
    return float(same_answer(final_answer(hypothesis), reference))


def extracted_number(hypothesis: str, reference: str, languages: Languages = UNKNOWN) -> str | None:
    """What ``number_match`` reads as the answer; None where there is none: it counts as wrong."""
    number = final_number(hypothesis, languages.answers)
    return None if number is None else shown_number(number)


def extracted_choice(hypothesis: str, reference: str, languages: Languages = UNKNOWN) -> str | None:
    """What ``choice_match`` reads as the answer; None where there is none: it counts as wrong."""
    if _LETTER_ALONE.fullmatch(reference):
        return chosen_letter(hypothesis)
    if _is_number(reference, languages):
        return extracted_number(hypothesis, reference, languages)
    return final_answer(hypothesis).strip() or None


def _is_number(reference: str, languages: Languages) -> bool:
    alone = _NUMBER_ALONE.fullmatch(reference) is not None
    return alone and final_number(reference, languages.references) is not None


def _f1(common: int, given: Sequence[str], right: Sequence[str]) -> float:
    return 2 * common / (len(given) + len(right))


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

EXTRACTED: dict[str, Callable[[str, str, Languages], str | None]] = {
    "number_match": extracted_number,
    "choice_match": extracted_choice,
}
"""Metrics that look for the answer in a text: hypothesis and reference -> what they found."""
