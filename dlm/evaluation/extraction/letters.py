"""Which choice a text names, and the answer that it writes out."""

import re
import string

from dlm.evaluation.extraction.languages import (
    ANOTHER_QUESTION,
    ANSWER_LABELS,
    ANSWER_PHRASES,
    MARKUP_LABELS,
)
from dlm.evaluation.extraction.numbers import plain, without_emphasis

_WRITTEN_MARK = "|".join([*ANSWER_PHRASES.values(), *ANSWER_LABELS.values()])
_PHRASES = "|".join(
    [*ANSWER_PHRASES.values(), r"\b(?:option|choice|letter|(?:correct|right|best)\s+one)\s+is\b"]
)
_LETTER_MARKS = "|".join([
    _PHRASES,
    *ANSWER_LABELS.values(),
    *MARKUP_LABELS.values(),
    r"\banswer\s+[-–—]",
    r"\bI\s?(?:'d|'ll|would|will)?\s+(?:choose|pick|select|go\s+with)\b",
    r"[选選](?=\s*[A-Z])",  # 故选B
    # MMLU's prompts end with "A:" (Hendrycks et al. 2021): "A: B", but not "A: four".
    r"(?-i:(?<!\w)A\s?:(?=[\s*_]*(?:[A-Z]\b\W*$|\([A-Z]\))))",
])  # fmt: skip
_MARK = re.compile(_LETTER_MARKS, re.IGNORECASE)
_ANSWER = re.compile(_WRITTEN_MARK, re.IGNORECASE)

_GAP = r"[\s*_`\"'“”«:{$]*(?:\\text\s*\{)?\s*"
_OTHER = r"(?!\s*(?:and|or|und|oder|et|ou|y|o|/|&|,)\s*\(?[A-Z](?![\w']))"  # "A and B" is none
_IN_BRACKETS = rf"[(\[]\s?([A-Za-z])\s?[)\]]{_OTHER}"
# A letter is part of a name or a formula before one of these: B-cells, C++, E = mc^2, N/A, Tシャツ.
# Hiragana make none (Bです), and neither do the Chinese words for because and option.
_JOINED = r"(?!(?![ぁ-ゟ因选選])\w|[-'/&]\w|\.[A-Z]\b| ?[+=^]|#)"
# Before another word on its line it is a name (G protein) or a word (A man), but for these.
_SAYS_WHY = (
    r"(?i:because|since|as|for|which|that|in|with|where|and"
    r"|due\s+to|based\s+on|the|parce|puisque|car\s+(?:c'est|il|elle|les?|la)|weil|denn|porque"
    r"|(?:explanation|reason)(?=:))(?![\w-])"
)
_CAPITAL = rf"([A-Z]){_JOINED}(?! (?!{_SAYS_WHY})[^\W\d_]){_OTHER}"
_SMALL_AT_END = r"([a-z])(?=[\s.)\]}*_\"']*(?:$|\n))"  # of a model without capitals
_SMALL_BEFORE_MARK = r"([a-z])\s?(?:\)|[.:](?=\s)(?! [a-z]\.))"  # b) four; not "i. e."
_NAME = r"(?i:option|choice)\s+"
_FOLLOWS = re.compile(
    rf"{_GAP}(?:{_NAME})?(?:{_IN_BRACKETS}|{_CAPITAL}|{_SMALL_AT_END}|([a-z])(?=</answer>))"
)
_BEGINS = re.compile(rf"[\s*_]*(?:{_IN_BRACKETS}|\(?{_CAPITAL}|{_SMALL_BEFORE_MARK})")
_NAMED = re.compile(rf"\b{_NAME}(?:{_IN_BRACKETS}|{_CAPITAL})")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LONE = re.compile(r"\W*([A-Za-z])\W*")

_A_LETTER = r"(?:\([A-Z]\)|(?<![\w'-])[A-Z](?![\w'-]))"
_IS_THE_ANSWER = re.compile(
    rf"(?<!if )(?<!whether )(?<!tatement )(?P<letter>{_A_LETTER}) is (?:"
    r"(?:the|my) (?:(?:correct|right|best|final) )?(?:answer|option|choice|one)\b"
    r"|(?:the )?(?:correct|right)(?=\s*(?:[.,;!]|$|because|since)))"  # not "right of C"
)
_REJECTED = re.compile(
    rf"(?:\bnot|n't) (?:{_NAME})?{_A_LETTER}"
    rf"|{_A_LETTER} (?:is|was|are|can|could)(?: ?not|n't| wrong| incorrect| false)\b"
)
_OPTION = re.compile(r"[\s>*_-]*(?:\(\s?([A-Za-z])\s?\)|([A-Za-z])\s?[.):])\s.*")

_NO_MEANING = re.compile(r"[\"“”*_`\\]|\.$")
_WRAPPING = "'()[]{}!?:; "


def chosen_letter(text: str) -> str | None:
    """The letter that a text chooses, A to Z; None where there is none, or a doubtful one.

    1. A letter alone, which may be small: a vocabulary may have no capitals.
    2. Behind the last phrase or label of an answer, or before one: "The answer is B because",
       "ANSWER: (b)", "A: B", "\\boxed{B}" (lm-evaluation-harness: ``bbh``, ``mmlu``; MATH),
       "I would choose B", "B is the answer".
    3. The one that the text begins with: "B", "(B) four", "B.", "b) four".
    4. The only one behind "option" or "choice", else the only one in brackets (lm-evaluation-
       harness: ``(\\([A-Z]\\))``, which takes the first).
    What follows the next question does not count, and neither do the options where the text repeats
    them, nor a letter that it rejects: "not B", "B is wrong".
    """
    text = _REJECTED.sub("", _without_options(_first_turn(plain(text))))
    if lone := _LONE.fullmatch(text):
        return lone[1].upper()
    announced = [*_MARK.finditer(text), *_IS_THE_ANSWER.finditer(text)]
    for mark in sorted(announced, key=re.Match.start, reverse=True):
        if mark.re is _IS_THE_ANSWER:
            return mark["letter"].strip("()")
        if found := _FOLLOWS.match(text, mark.end()):
            return _letter(found)
    bracketed = _BRACKETED.findall(text)
    if (found := _BEGINS.match(text)) and bracketed[:2] != ["A", "B"]:
        return _letter(found)
    for letters in ([_letter(found) for found in _NAMED.finditer(text)], bracketed):
        if letters:
            return letters[0] if len(set(letters)) == 1 else None
    return None


def final_answer(text: str) -> str:
    """What stands behind the last phrase or label of an answer, on its line and without its full
    stop (BBH's script: behind "answer is"); else the whole text."""
    text = without_emphasis(_first_turn(text).strip())
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


def _without_options(text: str) -> str:
    """The text without the lines that repeat the options: "A. ..." and "B. ...", and what letters
    follow them."""
    lines = text.split("\n")
    options: list[int] = []
    for at, line in enumerate(lines):
        label = _OPTION.fullmatch(line)
        if label and _letter(label) == string.ascii_uppercase[len(options) % 26]:
            options.append(at)
    if len(options) < 2:
        return text
    return "\n".join(line for at, line in enumerate(lines) if at not in options)


def _letter(found: re.Match[str]) -> str:
    return next(letter for letter in found.groups() if letter).upper()
