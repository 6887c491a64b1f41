"""Which choice a text names, and the answer that it writes out."""

import re

from dlm.evaluation.extraction.languages import ANOTHER_QUESTION, ANSWER_LABELS, ANSWER_PHRASES
from dlm.evaluation.extraction.numbers import plain

_WRITTEN_MARK = "|".join([*ANSWER_PHRASES.values(), *ANSWER_LABELS.values()])
_LETTER_MARKS = "|".join([
    _WRITTEN_MARK,
    r"\banswer\s+[-–—]",
    r"\b(?:option|choice|letter)\s+is\b",
    r"\\boxed",  # MATH (Hendrycks et al. 2021)
    # MMLU's prompts end with "A:" (Hendrycks et al. 2021): "A: B", but not "A: four".
    r"(?-i:(?<!\w)A\s?:(?=[\s*_]*(?:[A-Z]\b\W*$|\([A-Z]\))))",
])  # fmt: skip
_MARK = re.compile(_LETTER_MARKS, re.IGNORECASE)
_ANSWER = re.compile(_WRITTEN_MARK, re.IGNORECASE)

_GAP = r"[\s*_`\"'“”«:{]*(?:\\text\s*\{)?\s*"
_OTHER = r"(?!\s*(?:and|or|und|oder|et|ou|y|o|/|&|,)\s*\(?[A-Z](?![\w']))"  # "A and B" is none
_IN_BRACKETS = rf"[(\[]\s?([A-Za-z])\s?[)\]]{_OTHER}"
# The words "A" and "I" before another word are none, but for "A is right", "A because ...".
_CAPITAL = rf"(?![AI] (?!(?:is|because|since|as|for)\b)\w)([A-Z])(?![\w']){_OTHER}"
_SMALL_AT_END = r"([a-z])(?=[\s.)\]}*_\"']*(?:$|\n))"  # of a model without capitals
_SMALL_BEFORE_MARK = r"([a-z])\s?(?:\)|[.:](?=\s)(?! [a-z]\.))"  # b) four; not "i. e."
_NAME = r"(?i:option|choice)\s+"
_FOLLOWS = re.compile(rf"{_GAP}(?:{_NAME})?(?:{_IN_BRACKETS}|{_CAPITAL}|{_SMALL_AT_END})")
_BEGINS = re.compile(rf"[\s*_]*(?:{_IN_BRACKETS}|\(?{_CAPITAL}|{_SMALL_BEFORE_MARK})")
_NAMED = re.compile(rf"\b{_NAME}(?:{_IN_BRACKETS}|{_CAPITAL})")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LONE = re.compile(r"\W*([A-Za-z])\W*")

_NO_MEANING = re.compile(r"[\"“”*_`\\]|\.$")
_WRAPPING = "'()[]{}!?:; "


def chosen_letter(text: str) -> str | None:
    """The letter that a text chooses, A to Z; None where there is none, or a doubtful one.

    1. A letter alone, which may be small: a vocabulary may have no capitals.
    2. Behind the last phrase or label of an answer: "The answer is B because", "ANSWER: (b)",
       "A: B", "\\boxed{B}" (lm-evaluation-harness: ``bbh``, ``mmlu``; MATH).
    3. The one that the text begins with: "B", "(B) four", "B.", "b) four"; not where the options
       are repeated, "(A) ... (B) ... (C)".
    4. The only one behind "option" or "choice", else the only one in brackets (lm-evaluation-
       harness: ``(\\([A-Z]\\))``, which takes the first).
    What follows the next question does not count.
    """
    text = _first_turn(plain(text))
    if lone := _LONE.fullmatch(text):
        return lone[1].upper()
    for mark in reversed(list(_MARK.finditer(text))):
        if found := _FOLLOWS.match(text, mark.end()):
            return _letter(found)
    bracketed = _BRACKETED.findall(text)
    if (found := _BEGINS.match(text)) and bracketed[:3] != ["A", "B", "C"]:
        return _letter(found)
    for letters in ([_letter(found) for found in _NAMED.finditer(text)], bracketed):
        if letters:
            return letters[0] if len(set(letters)) == 1 else None
    return None


def final_answer(text: str) -> str:
    """What stands behind the last phrase or label of an answer, on its line and without its full
    stop (BBH's script: behind "answer is"); else the whole text."""
    text = _first_turn(text).strip()
    *_, mark = (None, *_ANSWER.finditer(text))
    behind = "" if mark is None else text[mark.end() :].strip(" :*\n").split("\n")[0]
    return behind.strip().removesuffix(".") or text


def same_answer(given: str, right: str) -> bool:
    """Whether two written answers are the same but for what carries no meaning.

    That is, as in lm-evaluation-harness's ``bbh``: case, commas, quotes, a full stop at the end;
    and blanks beside signs, which tokenizers set, and brackets around words. Signs, points within
    and hyphens count.
    """
    return _normal(given) == _normal(right)


def _normal(text: str) -> str:
    text = _NO_MEANING.sub("", plain(text).casefold().strip()).replace(",", " ")
    text = re.sub(r"\s*([^\w\s])\s*", r"\1", " ".join(text.split()))
    return text.strip(_WRAPPING) if re.search(r"\w", text) else text


def _first_turn(text: str) -> str:
    return ANOTHER_QUESTION.split(text, maxsplit=1)[0]


def _letter(found: re.Match[str]) -> str:
    return next(letter for letter in found.groups() if letter).upper()
