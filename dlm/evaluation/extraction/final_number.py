"""Which number of a text is its answer."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from dlm.evaluation.extraction.languages import (
    ANOTHER_QUESTION,
    ANSWER_LABELS,
    ANSWER_PHRASES,
    MARKUP_LABELS,
    writing_of,
)
from dlm.evaluation.extraction.maths import plain_maths
from dlm.evaluation.extraction.numbers import CURRENCY, Number, numbers_in, plain

_GSM8K = re.compile(r"#(?: ?#){3}")  # WordPiece writes "# # # #"
_KINDS = (("phrase", ANSWER_PHRASES), ("label", ANSWER_LABELS), ("label", MARKUP_LABELS))
_MARKS = re.compile(
    "|".join(
        f"(?P<{kind}_{language}>{words})"
        for kind, marks in _KINDS
        for language, words in marks.items()
    ),
    re.IGNORECASE,
)
_GAP = re.compile(rf"(?:[\s*_`\"'“”„«»(\[{{:=~≈\\]|{CURRENCY})*")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|[。।！？]|\n")
_OPERATOR = re.compile(
    rf"[^\d\n.;!?=]{{0,20}}(?P<sign>[-+*×÷=≈·/–±]|(?<![^\W\d_])x(?![^\W\d_]))[\s(*]*{CURRENCY}?\s*"
)
_AND = r"\b(?:and|und|y|et|и)\b|&"
_OR = r"\b(?:or|oder|o|ou|или)\b"
_TO = r"\b(?:to|bis|à)\b|[至到~]"
_LISTED = re.compile(rf"[\s,;]*(?:{_AND}|{_OR}|{_TO})?\s*", re.IGNORECASE)
_ONE_OF_TWO = re.compile(  # 5 to 7; 5 cm or 7 cm
    rf"[ ,;]*(?:{_AND}|{_TO})\s*|(?: ?(?:[^\W\d_]+|[%°]|{CURRENCY}))?[ ,;]*(?:{_OR})\s*",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?m:^)[ \t>#*]*(?P<number>\d{1,2})[.)]\**[ \t]+(?=\S)")


def final_number(text: str, language: str | None = None) -> Fraction | None:
    """The number that a text gives as its answer; None where there is none, or a doubtful one.

    1. Behind the first "####" that a number follows (GSM8K's ``extract_answer``).
    2. Else behind the last phrase ("The answer is") or label ("Answer:", "\\boxed{") of an answer;
       of several numbers the one that follows at once.
    3. Else the last number of the text (Cobbe et al. 2021; lm-evaluation-harness's
       ``flexible-extract``), unless there is a "####". Numbers of a list's lines ("1. Check") are
       left out where there are others.
    Of a calculation it is the result: "9 + 9 = 18". What follows the next question does not count.

    Args:
        text: What was written.
        language: Of the task, by CLDR's code; None: not known (``languages.Writing``).
    """
    text = plain_maths(plain(text))
    for mark in _GSM8K.finditer(text):
        numbers = _line(text, mark.end(), [language])
        if numbers and _GAP.fullmatch(text, mark.end(), numbers[0].start):
            return _first(text, numbers)
    for turn in _turns(text):
        marks = list(_MARKS.finditer(turn))
        for mark in reversed(marks):
            answered, value = _marked(turn, mark, language)
            if answered:
                return value
        numbers = numbers_in(turn, [writing_of(language)])
        if numbers and not _GSM8K.search(text):
            return _last(turn, numbers)
    return None


def _turns(text: str) -> Iterator[str]:
    start = 0
    for question in ANOTHER_QUESTION.finditer(text):
        yield text[start : question.start()]
        start = question.end()
    yield text[start:]


def _marked(text: str, mark: re.Match[str], language: str | None) -> tuple[bool, Fraction | None]:
    """Whether a mark announces an answer, and which."""
    kind, _, spoken = str(mark.lastgroup).partition("_")
    languages = {language, spoken} - {None, *MARKUP_LABELS} or {language}
    numbers = _line(text, mark.end(), sorted(languages, key=str))
    if numbers and numbers[0].value == 1 and numbers[0].start in _list_numbers(text):
        del numbers[0]  # a list begins
    if numbers and _GAP.fullmatch(text, mark.end(), numbers[0].start):
        return True, _first(text, numbers)
    if kind == "label":
        return False, None
    end = _SENTENCE_END.search(text, mark.end())
    values = {n.value for n in numbers if end is None or n.start < end.start()}
    return True, values.pop() if len(values) == 1 else None


def _line(text: str, begin: int, languages: Sequence[str | None]) -> list[Number]:
    """The numbers behind a mark, to the end of the line they begin on."""
    numbers = numbers_in(text, [writing_of(each) for each in languages], begin, marked=True)
    if not numbers:
        return []
    end = text.find("\n", numbers[0].end)
    return [number for number in numbers if end < 0 or number.start < end]


def _operator(text: str, first: Number, second: Number) -> str | None:
    found = _OPERATOR.fullmatch(text, first.end, second.start)
    return found["sign"] if found else None


def _first(text: str, numbers: Sequence[Number]) -> Fraction | None:
    """The first of several numbers, or the result of the calculation that it begins."""
    number, operator = numbers[0], None
    for following in numbers[1:]:
        sign = _operator(text, number, following)
        if sign is None:
            if _LISTED.fullmatch(text, number.end, following.start):
                return None
            break
        number, operator = following, sign
    return number.value if operator in (None, "=", "≈") else None


def _last(text: str, numbers: Sequence[Number]) -> Fraction | None:
    """The last of several numbers, unless it is part of a calculation without result, or one of
    two that may be meant."""
    listed = _list_numbers(text)
    numbers = [number for number in numbers if number.start not in listed] or numbers
    if len(numbers) > 1:
        before, last = numbers[-2:]
        if _operator(text, before, last) not in (None, "=", "≈"):
            return None
        if before.value != last.value and _ONE_OF_TWO.fullmatch(text, before.end, last.start):
            return None
    return numbers[-1].value


def _list_numbers(text: str) -> set[int]:
    """Where the numbers of a list's lines begin: "2. Check"."""
    return {found.start("number") for found in _LIST_NUMBER.finditer(text)}
