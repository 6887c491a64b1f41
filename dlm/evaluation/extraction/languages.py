"""How languages write numbers (CLDR), and how they announce an answer (MGSM).

CLDR is read through Babel. The words before answers are those of MGSM's exemplars (Shi et al. 2022,
arXiv:2210.03057) and of lm-evaluation-harness's `mgsm` tasks.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from babel import Locale, UnknownLocaleError
from babel.numbers import get_decimal_symbol


@dataclass(frozen=True)
class Languages:
    """The languages of a task's answers and of its references, by CLDR's codes; None: not known."""

    answers: str | None = None
    references: str | None = None


UNKNOWN = Languages()
_NEVER = re.compile(r"(?!)")
_SHORT_SCALES: dict[str, tuple[str, ...]] = {
    "de": ("Tsd",),
    "en": ("mn", "bn", "tn", "lakh", "lakhs", "crore", "crores"),
    "es": ("Mill",),
}
"""Language -> what is written for a scale beside CLDR's forms."""


@dataclass(frozen=True)
class Writing:
    """How numbers are written."""

    decimal: str | None = None
    """"." or ","; None: not known, so "1.000" is doubtful and "1,000" is a thousand, as in GSM8K's
    files."""
    scales: Mapping[str, int] = field(default_factory=dict)
    """Signs behind a number that multiply it, as 万 does in Chinese and Japanese."""
    scale: re.Pattern[str] = _NEVER
    """Finds one of them behind a number."""
    unit_behind: re.Pattern[str] = _NEVER
    """Finds a word such as million behind a number. It is doubtful whether it multiplies, or is the
    unit that was asked for ("how many million")."""
    unit_before: re.Pattern[str] = _NEVER
    """Finds such a word before a number, as Swahili's elfu is."""

    @property
    def blank_groups(self) -> bool:
        """Whether a plain blank may part groups of three digits: where the comma is the decimal
        mark (CLDR: fr, ru; MGSM's questions: es; SI brochure, 5.4.4)."""
        return self.decimal == ","


@cache
def writing_of(language: str | None) -> Writing:
    """The conventions of a language such as ``de`` or ``de-CH``; None: not known.

    Raises:
        UnknownLocaleError, ValueError: CLDR has no such language; ``language_problem`` tells.
    """
    if language is None:
        return replace(writing_of("en"), decimal=None)  # never 1.0 for a thousand
    locale = Locale.parse(language.replace("-", "_"))
    behind, before = _scales(locale, "long")
    decimal = get_decimal_symbol(locale)
    if not behind and not before:  # ja, ko, zh: signs, no words
        behind, _ = _scales(locale, "short")
        return Writing(decimal, behind, re.compile(_one_of(behind)))
    # Scales of one letter ("5 M") are doubtful in every language (``numbers``).
    short = [word for word in _scales(locale, "short")[0] if len(word) > 1]
    short += _SHORT_SCALES.get(locale.language, ())
    blank, no_letter = "[ \u00a0\u202f]?", r"(?![A-Za-z\u00c0-\u024f\u0370-\u052f])"
    no_word = r"(?![^\W\d_]|[\u0300-\u036f\u0900-\u0eff])"
    words = rf"(?:{_one_of(behind)}){no_letter}|(?:{_one_of(short)}){no_word}"
    return Writing(
        decimal,
        unit_behind=re.compile(rf"{blank}(?:{words})", re.IGNORECASE),
        unit_before=re.compile(rf"(?:{_one_of(before)}) $", re.IGNORECASE),
    )


def language_problem(language: object) -> str | None:
    """What is wrong with the name of a language, or None."""
    try:
        if isinstance(language, str):
            writing_of(language)
            return None
    except (UnknownLocaleError, ValueError):
        pass
    return (
        f"{language!r} is no language that CLDR knows: write its code in quotes, such as "
        "'de' or 'pt-BR'"
    )


_Scales = tuple[dict[str, int], dict[str, int]]
_SCALE = re.compile(r"(?P<before>[^\d\s]*) ?(?P<zeros>0+) ?(?P<behind>[^;]*)")


def _scales(locale: Locale, length: Literal["short", "long"]) -> _Scales:
    """Words behind and before numbers, from CLDR's compact forms ("00 million" for 10000000)."""
    formats = locale.compact_decimal_formats
    behind: dict[str, int] = {}
    before: dict[str, int] = {}
    for forms in formats[length].values() if length in list(formats) else ():
        for number, form in forms.items():
            if found := _SCALE.match(form.pattern.replace("\u00a0", " ").replace("'.'", "")):
                scale = int(number) // 10 ** (len(found["zeros"]) - 1)
                behind |= {found["behind"]: scale} if found["behind"] else {}
                before |= {found["before"]: scale} if found["before"] else {}
    return behind, before


def _one_of(words: Collection[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


ANSWER_PHRASES: dict[str, str] = {
    "en": r"\banswers?\s+(?:is|are)\b",  # MGSM: The answer is 11.
    "de": r"\bantwort\s+(?:ist|lautet)\b",  # MGSM: Die Antwort lautet 29.
    "es": r"\brespuesta\s+(?:(?:correcta|final|exacta)\s+)?es\b",  # MGSM: La respuesta es 11.
    "fr": r"\br[ée]ponse\s+(?:(?:correcte|finale|exacte)\s+)?est\b",  # MGSM: La réponse est 11.
    "sw": r"\bjibu\s+(?:(?:sahihi|la\s+mwisho)\s+)?ni\b",  # MGSM: Jibu ni 11.
    "bn": r"উত্তর\s+(?:হলো|হল|হচ্ছে)",  # MGSM: উত্তর হল 11।
    "th": r"คำตอบ(?:ที่ถูกต้อง|สุดท้าย)?\s*คือ",  # MGSM: คำตอบคือ 11
    "ja": r"答\s?え\s?は",  # MGSM: 答えは11です。
    "zh": r"答\s?案\s?[是为為选選]",  # MGSM: 答案是 11。
}
"""Language -> words behind which the answer stands, in its sentence."""


def _label(word: str) -> str:
    """A word before a colon, or as a heading: the last one of at most two, alone on a line."""
    return rf"{word}\s*:|(?m:^[#>* ]*(?:\w+ )?{word} *$)"


ANSWER_LABELS: dict[str, str] = {
    "en": _label(r"\banswer"),  # lm-evaluation-harness: Answer:
    "de": _label(r"\bantwort"),
    "es": _label(r"\brespuesta(?:\s+(?:correcta|final|exacta))?"),
    "fr": _label(r"\br[ée]ponse(?:\s+(?:correcte|finale|exacte))?"),
    "ru": r"\bответ\s*[:—–]?",  # MGSM: Ответ — 11.
    "sw": _label(r"\bjibu(?:\s+(?:sahihi|la\s+mwisho))?"),
    "bn": _label(r"উত্তর"),
    "te": r"సమాధానం\s*:?",  # MGSM: సమాధానం 11.
    "th": _label(r"คำตอบ(?:ที่ถูกต้อง|สุดท้าย)?"),
    "ja": _label(r"答\s?え"),
    "zh": _label(r"答\s?案"),
}
"""Language -> words that the answer follows at once; else they begin the reasoning ("Step-by-step
answer: Roger started with 5 balls")."""

MARKUP_LABELS: dict[str, str] = {
    "boxed": r"\\boxed\s*\{",  # MATH (Hendrycks et al. 2021)
    "tag": r"<answer>",
}
"""Marks of an answer in no language."""

NEGATIONS = "not|no|nicht|non|pas|не"
"""Words before a number that is not the answer."""

ANOTHER_QUESTION = re.compile(
    r"(?<=\S)(?:\s*\n|(?<=[.!?।。])\s)\s*(?:\b(?:question|frage|pregunta|swali|задача|q)|প্রশ্ন|ప్రశ్న|โจทย์|問題|问题)\s*:",
    re.IGNORECASE,
)
"""Where a text that runs on asks the next question, behind a line or a sentence (lm-evaluation-
harness stops at "Question:"; the words are those of its `mgsm`)."""
