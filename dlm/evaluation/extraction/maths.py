"""Formulas, LaTeX's and others, as plain text writes their numbers."""

import re

TERM = "\ufffc"
"""Stands for a term that is no plain number, such as a root; so it is never read as another one."""

_BRACED = r"\{(?P<%s>(?:[^{}]|\{[^{}]*\})*)\}"
_SIMPLE = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d)\\[,!]\s*(?=\d{3}(?!\d))"), "\u202f"),
    (re.compile(r"\\(?:text|textbf|mbox|mathrm|mathbf)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"\\pm(?![A-Za-z])"), "±"),
    (re.compile(r"\^\s?(?:\\circ(?![A-Za-z])|\{\s?\\circ\s?\})"), "°"),
)
_NUMBER = re.compile(r"\s*(?P<sign>-?)\s*(?P<size>\d+(?:[.,]\d+)*)\s*")
_FRACTION = re.compile(
    rf"(?P<before>(?:[-\d](?: |\\[,; ])*)?)\\[dtc]?frac\s*(?:{_BRACED % 'over'}|(?P<over_digit>\d))"
    rf"\s*(?:{_BRACED % 'under'}|(?P<under_digit>\d))"
)
_FUNCTIONS = "sqrt|log|ln|lg|exp|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan"
_FUNCTION = re.compile(
    rf"\\(?:{_FUNCTIONS})(?![A-Za-z])(?:\[[^\[\]]*\]|[_^](?:\w|{_BRACED % 'index'}))*"
    rf"\s*(?:{_BRACED % 'argument'}|\([^()]*\)|[\d.]*\d)?"
    rf"|\\[dt]?binom\s*{_BRACED % 'upper'}\s*{_BRACED % 'lower'}"
)
_LETTER = re.compile(
    r"\\(?:pi|tau|alpha|beta|gamma|delta|theta|lambda|mu|sigma|phi|omega|infty)(?![A-Za-z])"
)
# A dollar opens a formula before no blank, and closes it behind no blank and before no digit
# (Pandoc's manual, tex_math_dollars): "$5 and $6" is none.
_FORMULA = re.compile(rf"\\boxed\s*{_BRACED % 'boxed'}|\$(?=\S)[^$\n]*(?<=\S)\$(?!\d)")
_FACTORIAL = re.compile(r"(?<=[\d)])!(?!=)")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_POWER_OF_TEN = re.compile(
    r"(?<=\d)\s?[×x*·]\s?10\s?"
    r"(?:\^\s?[{(]?\s?(?P<raised>[-+]?\s?\d+)(?:\s?[})])?|(?P<high>[⁻⁺]?[⁰¹²³⁴-⁹]+))(?P<word>\w?)"
)
_LENGTHS = "[cdkm]?m|ft|in|yd|mi"
_POWER_OF_UNIT = re.compile(
    rf"(?<![^\W\d_])(?P<unit>{_LENGTHS}|units?|s)\s?\^\s?\{{?\s?(?P<power>[23])(?!\d)(?:\s?\}})?"
    rf"|(?<=\d)(?P<joined>{_LENGTHS})(?P<digit>[23])(?!\w)"  # 42cm2
)


def plain_maths(text: str) -> str:
    """The text with fractions as 1/2, powers of ten as 1e3 and squared units as m².

    What is no plain number, such as a root, a logarithm or a fraction of letters, is a ``TERM``.
    """
    for pattern, written in _SIMPLE:
        text = pattern.sub(written, text)
    text = _LETTER.sub(TERM, _FORMULA.sub(lambda found: _FACTORIAL.sub(TERM, found[0]), text))
    before = None
    while text != before:  # from the innermost term to the outermost
        before = text
        text = _FRACTION.sub(_fraction, _FUNCTION.sub(TERM, text))
    return _POWER_OF_UNIT.sub(_power_of_unit, _POWER_OF_TEN.sub(_power_of_ten, text))


def _fraction(found: re.Match[str]) -> str:
    over = _NUMBER.fullmatch(found["over"] or found["over_digit"] or "")
    under = _NUMBER.fullmatch(found["under"] or found["under_digit"] or "")
    before = found["before"]
    if before[:1].isdigit():
        before = f"{before[0]} "  # 5 1/2
    if over is None or under is None:
        return f"{before}{TERM}"
    sign = "-" if over["sign"] != under["sign"] else ""
    if sign and before:
        return f"{before}{TERM}"
    return f"{before}{sign}{over['size']}/{under['size']}"


def _power_of_ten(found: re.Match[str]) -> str:
    exponent = (found["raised"] or found["high"]).translate(_SUPERSCRIPTS).replace(" ", "")
    return f"e{exponent}" + (f" {found['word']}" if found["word"] else "")


def _power_of_unit(found: re.Match[str]) -> str:
    unit, power = found["unit"] or found["joined"], found["power"] or found["digit"]
    return unit + {"2": "²", "3": "³"}[power]
