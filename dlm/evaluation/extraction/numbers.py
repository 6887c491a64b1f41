"""Numbers as people write them, read exactly or not at all."""

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from dlm.evaluation.extraction.languages import NEGATIONS, Writing
from dlm.evaluation.extraction.maths import TERM

_HARD_BLANKS = "\u00a0\u202f\u2009"  # they hold one number together
_VULGAR = "¼½¾⅐-⅞"
_JOINS = "|".join([
    r"[.,'٫٬](?=\d)",
    r"[.,] (?=\d)",  # WordPiece writes 1,000 as "1, 000" and 5.5 as "5. 5"
    rf"(?<!\d{{4}})[ {_HARD_BLANKS}](?=\d{{3}}(?!\d))",
])  # fmt: skip
_PLAIN = rf"\d+(?:(?:{_JOINS})\d+)*"
_PI = r"(?<![^\W\d_])π(?![^\W\d_])"
_NO_NUMBER = rf"(?:{TERM}|∞|{_PI}|[√∛∜]\s?(?:\([^()\n]*\)|{_PLAIN})?)"
_DIVISORS = r"(?: ?/ ?\d+(?:[.,]\d+)*)"
_BODY = re.compile(
    rf"(?:{_PLAIN}{_DIVISORS}? ?)?{_NO_NUMBER}(?: ?{_NO_NUMBER})*{_DIVISORS}?"
    rf"|\d* ?[{_VULGAR}]"
    rf"|(?:\d{{1,3}} (?=\d+ ?/ ?\d))?{_PLAIN}{_DIVISORS}+"
    rf"|{_PLAIN}(?:[eE][+-]?\d+(?!\w))?"
    r"|(?<![\w.\u0300-\u036f\u0900-\u0eff])\.\d+"  # no abbreviation before it (India: రూ.10)
)
CURRENCY = r"(?:[A-Z]{0,3}[$¢£¥৳฿﷼\u20a0-\u20c0]|\b(?:USD|EUR|GBP|CHF|INR|Rs\.?))"
"""Before or behind a number; Unicode's currency signs and the codes of ISO 4217 that are met."""
_MINUS_WORDS = "minus|negative|menos|moins|минус|マイナス|负|負"
_SIGN = re.compile(rf"(?P<minus>-|–(?! )|(?:{_MINUS_WORDS}) ?)(?P<blank> ?)(?:{CURRENCY} ?)?$")
_CURRENCY_BEFORE = re.compile(rf"{CURRENCY} ?$")
_BEFORE_SIGNS = tuple('=(:*+/<>[{#"×÷|')
_SIGN_REACH = 16  # characters that a sign and a currency take at most
_LETTER_OF_WORDS = re.compile(r"[A-Za-z\u00c0-\u024f\u0370-\u052f]")  # Latin, Greek, Cyrillic
_HAN_SCALES = "十百千拾佰仟万萬億亿兆京"
_DOUBTFUL_BEHIND = re.compile(
    r"\^|[²³¹⁰⁴-⁹⁺⁻]|_\{?\d"  # a power, or digits to another base
    rf"| ?[kKMBT](?![^\W\d_]|[-&'])| ?hundred\b|[{_HAN_SCALES}]"  # thousands, and the like
    r"|[A-Za-z]{1,3}\d|e-\d"  # 8h30, 3x4, 1/2e-3
    r"|:\d| : \d"  # a time or a ratio
)
_DOUBTFUL_BEFORE = re.compile(
    rf"(?:\d:|\d : |\^\s?[{{(]?-?|[\w)}}]_\{{?|\d[{_HAN_SCALES}]|± ?|\b(?:{NEGATIONS}) )$",
    re.IGNORECASE,
)
_LONGEST = 60
_AROUND_ALONE = re.compile(rf"(?:[^\w\n]|{CURRENCY})*")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN_LETTERS = {
    **_FULL_WIDTH, 0x3000: " ", 0x2212: "-", 0xFE63: "-", 0x2019: "'",
    0x2044: "/", 0x2215: "/",
    **dict.fromkeys([0x200E, 0x200F, 0x061C, 0x2066, 0x2067, 0x2068, 0x2069, 0xFEFF]),
}  # fmt: skip
_EMPHASIS = re.compile(
    r"(?<![\w*])(?P<mark>\*\*?|__?)(?P<words>[^\W\d_][^*_\n\d(){}\[\]<>=+/-]+)"
    r"(?<=\S)(?P=mark)(?![\w*])"
)


@dataclass(frozen=True)
class Number:
    """A number in a text."""

    start: int
    """Where it begins, with its sign and its currency."""
    end: int
    value: Fraction | None
    """None: doubtful."""


def plain(text: str) -> str:
    """The text with ASCII's digits, minus, fraction slash and letters, and without emphasis."""
    text = without_emphasis(text.translate(_PLAIN_LETTERS))
    return "".join(
        str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in text
    )


def without_emphasis(text: str) -> str:
    """The text without Markdown's signs around words: "**Answer**: 42" is "Answer: 42"."""
    return _EMPHASIS.sub(r"\g<words>", text)


def numbers_in(
    text: str, writings: Collection[Writing], begin: int = 0, *, marked: bool = False
) -> list[Number]:
    """The numbers of a text from ``begin`` on; digits within words (cm2, H2O) are none.

    Args:
        text: What is read, ``plain`` and with ``plain_maths``.
        writings: The languages that it may be in; where they read differently, it is doubtful.
        begin: Where to begin.
        marked: A mark of the answer stands before ``begin``.
    """
    found: list[Number] = []
    for match in _BODY.finditer(text, begin):
        if found and match.start() < found[-1].end:
            continue  # the rest of "8万5000"
        for start, end in _pieces(match, text, writings, begin):
            number = _number(text, start, end, writings, begin, marked)
            found += [number] if number else []
    return found


def shown_number(number: Fraction) -> str:
    """In digits where they end, else as a fraction."""
    rest = number.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest > 1:
        return str(number)
    return f"{Decimal(number.numerator) / Decimal(number.denominator):f}"


def _pieces(
    match: re.Match[str], text: str, writings: Collection[Writing], begin: int
) -> Iterator[tuple[int, int]]:
    """One number, or the items of a list: "89, 71, 92" is none."""
    body, start = match[0], match.start()
    readings = (_read(body, writing, alone=True) for writing in writings)
    if not re.search("[.,] ", body) or any(value is not None for value in readings):
        yield match.span()
        return
    for item in re.finditer(r"(?:[^., ]|[.,](?! )|(?<![.,]) )+", body):
        yield start + item.start(), start + item.end()


def _number(
    text: str, start: int, end: int, writings: Collection[Writing], begin: int, marked: bool
) -> Number | None:
    sign, signed = _sign(text, start, end, begin, marked)
    if signed > begin and _LETTER_OF_WORDS.match(text[signed - 1]) and signed == start:
        return None
    alone = _is_alone(text, signed, end, begin)
    values = {_scaled(text, start, end, writing, alone) for writing in writings}
    value, end = values.pop() if len(values) == 1 else (None, end)
    doubtful = _DOUBTFUL_BEHIND.match(text, end)
    doubtful = doubtful or _DOUBTFUL_BEFORE.search(text, max(0, start - _SIGN_REACH), start)
    if value is None or sign == 0 or doubtful:
        return Number(signed, end, None)
    return Number(signed, end, sign * value)


def _sign(text: str, start: int, end: int, begin: int, marked: bool) -> tuple[int, int]:
    """1, -1, or 0 where it is doubtful; and where sign and currency begin.

    A minus is an operator behind a digit or a bracket ("10 - 5"). It is doubtful where it may be a
    hyphen ("x-5"), or a dash or a bullet, with a blank behind it.
    """
    before = text[max(begin, start - _SIGN_REACH) : start]
    found = _SIGN.search(before)
    if found is None:
        currency = _CURRENCY_BEFORE.search(before)
        return 1, start - len(currency[0]) if currency else start
    signed = start - len(before) + found.start()
    plain_start = signed + len(found["minus"]) + len(found["blank"])
    left = text[max(begin, signed - _SIGN_REACH) : signed]
    if re.search(rf"(?:[\d)\]}}%²³°]|\d ?{CURRENCY}) *$", left):
        return 1, plain_start
    if found["minus"] in "-–" and _LETTER_OF_WORDS.match(left[-1:]):
        return 0, signed
    left = re.sub(rf"{CURRENCY} *$", "", left).rstrip(" ")
    clear = not found["blank"] or found["minus"] not in "-–" or left[-1:] in _BEFORE_SIGNS
    if clear or (not left and marked) or _is_alone(text, signed, end, begin):
        return -1, signed
    return 0, signed


def _is_alone(text: str, start: int, end: int, begin: int) -> bool:
    """Whether nothing else is said on the line, or behind the mark."""
    first = max(begin, text.rfind("\n", 0, start) + 1)
    last = text.find("\n", end)
    behind = text[end : len(text) if last < 0 else last]
    around = (text[first:start], behind)
    return all(_AROUND_ALONE.fullmatch(part) for part in around)


def _scaled(
    text: str, start: int, end: int, writing: Writing, alone: bool
) -> tuple[Fraction | None, int]:
    """The value with the signs that multiply it, and where they end: 8万5000."""
    value = _read(text[start:end], writing, alone)
    if value is None or writing.unit_behind.match(text, end):
        return None, end
    if writing.unit_before.search(text[max(0, start - _SIGN_REACH) : start]):
        return None, end
    found = writing.scale.match(text, end)
    if found is None:
        return value, end
    scale, end = writing.scales[found[0]], found.end()
    rest = re.compile(r"\d(?:[\d,]*\d)?").match(text, end)
    if rest is None:
        return value * scale, end
    more, end = _scaled(text, rest.start(), rest.end(), writing, alone)
    return (None if more is None or more >= scale else value * scale + more), end


def _read(body: str, writing: Writing, alone: bool) -> Fraction | None:
    """The value of a number without its sign; None where it can be read in two ways, or in none."""
    if len(body) > _LONGEST or re.search(_NO_NUMBER, body):
        return None
    if vulgar := re.fullmatch(rf"(\d*) ?([{_VULGAR}])", body):
        part = Fraction(unicodedata.numeric(vulgar[2])).limit_denominator(10)
        return int(vulgar[1] or 0) + part
    if "/" in body:
        return _fraction(body, writing)
    mantissa, _, exponent = body.lower().partition("e")
    value = _plain_value(mantissa, writing, alone)
    if value is None or not exponent:
        return value
    return value * Fraction(10) ** int(exponent) if abs(int(exponent)) <= _LONGEST else None


def _fraction(body: str, writing: Writing) -> Fraction | None:
    found = re.fullmatch(r"(?:(\d+) )?([\d.,]+) ?/ ?([\d.,]+)", body)  # 12/25/1937 is a date
    if found is None:
        return None
    over, under = (_plain_value(found[group], writing, alone=False) for group in (2, 3))
    if over is None or not under:
        return None
    part = over / under
    if found[1] is None:
        return part
    return int(found[1]) + part if part < 1 else None


def _plain_value(text: str, writing: Writing, alone: bool) -> Fraction | None:
    if re.search("[.,] ", text):
        if not alone and not re.search(r"[.,] 0\d\d(?!\d)", text):
            return None  # a list, or a sentence's end: 1, 250
        if re.search(r"[.,] \d\d?[.,]", text):
            return None  # the first two of a list, or India's groups
        text = re.sub("([.,]) ", r"\1", text)
    parts = re.split(r"\D", text)
    marks = re.findall(r"\D", text)
    if " " in marks and not writing.blank_groups:
        return None
    if not marks or text.startswith("."):
        return Fraction("0" + text)
    if len(marks) == 1:
        return _one_mark(parts, marks[0], writing)
    if len(set(marks)) == 1:  # only groups can be parted more than once
        return _grouped(parts, marks[0])
    *groups, last = marks
    if len(set(groups)) > 1 or groups[0] == last or last not in ".,٫":
        return None
    whole = _grouped(parts[:-1], groups[0])
    return None if whole is None else whole + _decimals(parts[-1])


def _one_mark(parts: list[str], mark: str, writing: Writing) -> Fraction | None:
    """CLDR's decimal mark parts decimals, and the other one groups of three digits. Other decimals
    than three can be no group: a point parts them in every language, a comma where CLDR has it."""
    decimal = int(parts[0]) + _decimals(parts[1])
    group = _grouped(parts, mark)
    if mark == "٫":
        return decimal
    if mark not in ".,":
        return group
    if group is None or parts[0].startswith("0"):
        return decimal if mark == "." or writing.decimal == "," else None
    if writing.decimal is None:
        return group if mark == "," else None
    return decimal if mark == writing.decimal else group


def _grouped(parts: list[str], mark: str) -> Fraction | None:
    """Groups of three digits; of two before the last three in India (CLDR: hi, "#,##,##0")."""
    first, *groups = (len(part) for part in parts)
    indian = mark == "," and first <= 2 and groups[-1] == 3 and set(groups[:-1]) == {2}
    if mark != "٫" and first <= 3 and (set(groups) == {3} or indian):
        return Fraction("".join(parts))
    return None


def _decimals(digits: str) -> Fraction:
    return Fraction(int(digits), 10 ** len(digits))
