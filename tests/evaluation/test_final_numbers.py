"""Numbers found in texts, in the ways that languages write them; the right values are by hand."""

from fractions import Fraction

import pytest
from babel.numbers import format_decimal

from dlm.evaluation.answer_scores import number_match
from dlm.evaluation.extraction.final_number import final_number
from dlm.evaluation.extraction.languages import Languages, language_problem
from dlm.evaluation.extraction.numbers import shown_number

PHRASES = {
    "bn": "উত্তর হল {}।", "de": "Die Antwort lautet {}.", "en": "The answer is {}.",
    "es": "La respuesta es {}.", "fr": "La réponse est {}.", "ja": "答えは{}です。",
    "ru": "Ответ — {}.", "sw": "Jibu ni {}.", "te": "సమాధానం {}.", "th": "คำตอบคือ {}",
    "zh": "答案是 {}。",
}  # fmt: skip
"""The last sentence of MGSM's exemplars (Shi et al. 2022)."""
GROUPS = {"de": ".\u202f", "es": " .\u202f", "fr": " \u202f\u00a0", "ru": " \u202f\u00a0"}
"""How MGSM's questions and the language's typography part thousands; else by a comma."""
FIRST_DIGITS = {"bn": "০", "te": "౦", "th": "๐", "ja": "０", "zh": "０"}


def ways_to_write(value: int, language: str) -> set[str]:
    """As questions of MGSM, the language's typography and CLDR write a whole number."""
    ways = {f"{value:,}".replace(",", mark) for mark in GROUPS.get(language, ",")}
    ways |= {str(value), format_decimal(value, locale=language)}
    zero = ord(FIRST_DIGITS.get(language, "0"))
    ways |= {way.translate({48 + n: zero + n for n in range(10)}) for way in ways}
    return ways | {way.replace("-", "\u2212") for way in ways}


@pytest.mark.parametrize("language", PHRASES)
@pytest.mark.parametrize("value", [0, 7, -18, 250, 2125, -5600, 70000, 114200, 1234567])
def test_a_right_answer_counts_as_its_language_writes_it(language: str, value: int) -> None:
    languages = Languages(language, "en")
    for way in ways_to_write(value, language):
        for text in ("{}", "#### {}", "{} $", PHRASES[language]):
            assert number_match(text.format(way), f"{value:,}", languages), (text, way)


READ = [
    # Signs and currencies.
    ("-$5", "en", "-5"), ("$-5", "en", "-5"), ("- $ 5", "en", "-5"), ("\u22125", None, "-5"),
    ("The answer is –5", "en", "-5"), ("- 3", "en", "-3"), ("the answer is - 3", "en", "-3"),
    ("5 - 8 = - 3", "en", "-3"), ("(-5)", "en", "-5"), ("minus 5", "en", "-5"), ("US$5", "en", "5"),
    # Separators: the language decides where both readings are possible.
    ("1.000", "de", "1000"), ("1.000", "en", "1"), ("1,000", "en", "1000"), ("1,000", "de", "1"),
    ("3,5", "de", "3.5"), ("0,30", "es", "0.3"), ("$0.30", "es", "0.3"),
    ("1.234,50", "en", "1234.5"),
    ("1,234.5", "de", "1234.5"), ("1.234.567", "en", "1234567"), ("1,00,000", "en", "100000"),
    ("1\u202f000", None, "1000"), ("1'000", "de-CH", "1000"), ("1.000", "de-CH", "1"),
    ("1,000", None, "1000"), ("Die Antwort ist 1.000.", None, "1000"),
    # Scripts.
    ("１，０００", "ja", "1000"), ("٣٫٥", "ar", "3.5"), ("١٬٠٠٠", "ar", "1000"), ("-٥", "ar", "-5"),
    ("8万", "ja", "80000"), ("8万5,", "ja", "80005"), ("8万5,000円", "ja", "85000"),
    ("3亿", "zh", "300000000"),
    # As WordPiece writes them.
    ("the answer is 1, 000", "en", "1000"), ("# # # # 1, 250", "en", "1250"), ("5. 5", "en", "5.5"),
    ("the answer is 1, 072 dollars", "en", "1072"), ("1 / 2", "en", "1/2"),
    # Fractions and powers of ten.
    ("The answer is 1/2", "en", "1/2"), ("2 1/2", "en", "5/2"), ("2½", "en", "5/2"),
    ("1e3", "en", "1000"),
    ("\\boxed{\\frac{1}{2}}", "en", "1/2"), (".5", "en", "1/2"), ("12/15 = .8", "en", "4/5"),
    # Which number.
    ("18 cm2", "en", "18"), ("#### 18\n\nQuestion: 3 + 4?\n#### 7", "en", "18"),
    ("#### Step 1\nIt is 9 + 9.\n#### 18", "en", "18"),
    ("Answer: 18\nQ: 5 apples?\nAnswer: 7", "en", "18"),
    ("Step-by-Step Answer: Roger had 5 balls, and 5 + 6 = 11", "en", "11"),
    ("The answer is not 5. The answer is 6", "en", "6"),
    ("The answer is eighteen (18).", "en", "18"),
    ("The answer is 9 + 9 = 18.", "en", "18"), ("9 eggs * $2 = $18", "en", "18"),
    ("The answer is 18 dollars for 3 days.", "en", "18"), ("89, 71, 92, 100", "en", "100"),
    ("**Answer:** 42 apples in 3 bags", "en", "42"), ("$1{,}000$", "en", "1000"),
    # LaTeX, and mathematics in plain text.
    ("\\boxed{5\\frac{1}{2}}", "en", "11/2"), ("-2\\frac{1}{3}", "en", "-7/3"),
    ("\\frac{-3}{4}", "en", "-3/4"), ("\\frac{5}{-2}", "en", "-5/2"), ("\\frac34", "en", "3/4"),
    ("\\boxed{-\\dfrac{3}{4}}", "en", "-3/4"), ("\\frac{2.5}{3}", "en", "5/6"),
    ("\\frac{1,000}{3}", "en", "1000/3"), ("\\frac 3 4", "en", "3/4"), ("1⁄2", "en", "1/2"),
    ("1∕2", "en", "1/2"), ("1.5\\times10^{-3}", "en", "0.0015"), ("2 \\cdot 10^4", "en", "20000"),
    ("5\\times10^{3}", "en", "5000"), ("3.0×10⁸ m/s", "en", "300000000"),
    ("3×10⁸m", "en", "300000000"), ("The answer is 1.5×10⁻³", "en", "0.0015"),
    ("The answer is 5!", "en", "5"), ("$5! and $6", "en", "6"), ("\\log_2 8 = 3", "en", "3"),
    ("The area is 9π = 28.27", "en", "28.27"), ("5 \\cdot \\frac{1}{2} = 2.5", "en", "2.5"),
    # Units with powers.
    ("42 m^2", "en", "42"), ("42cm2", "en", "42"), ("9.8 m/s^2", "en", "9.8"),
    ("\\boxed{90^{\\circ}}", "en", "90"), ("90^\\circ", "en", "90"), ("5 m", "en", "5"),
    ("\\boxed{42\\text{ cm}^2}", "en", "42"), ("2 kg/m^{3}", "en", "2"), ("5 T-shirts", "en", "5"),
    # Labels in bold and as headings, and adjectives within phrases.
    ("**Answer**: 42. That is 2 more than 40.", "en", "42"),
    ("The **answer** is 42, which is 2 more than 40", "en", "42"),
    ("**Final Answer**\n42\n\n(checked 2 times)", "en", "42"),
    ("## Answer\n\n42\n\nIt is 2 more", "en", "42"),
    ("We need 3 for the answer\n5 are left. The total is 42", "en", "42"),
    ("Respuesta final\n42\nSon 2 más", "es", "42"), ("__Answer__: 42, of 50", "en", "42"),
    ("<answer>42</answer> (2 tries)", "en", "42"), ("5 *4* 3 = 60", "en", "60"),
    ("La respuesta correcta es 42, no 41.", "es", "42"),
    ("La réponse finale est 42, et non 41.", "fr", "42"), ("Ответ 42, а не 41.", "ru", "42"),
    # Numbers of a list's lines are none, unless there is no other.
    ("So he has 11 left.\n\n1. Check: yes", "en", "11"), ("The total is 11\n2. Check", "en", "11"),
    ("Answer:\n1. Add 5 and 6.\n2. So it is 11", "en", "11"), ("11. That is it", "en", "11"),
    ("Answer:\n42. That is 2 more", "en", "42"), ("180 rings, or 180 years", "en", "180"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "language", "value"), READ)
def test_a_number_is_read_as_by_hand(text: str, language: str | None, value: str) -> None:
    assert final_number(text, language) == Fraction(value)


DOUBTFUL = [
    ("1.000", None), ("Die Antwort ist 1.000.", "en"), ("The answer is 1,000.", "de"),
    ("3,4", "en"),
    ("1 000", "en"), ("8:30", "en"), ("7 : 11", "fr"), ("12/25/1937", "en"), ("1.2.3", "en"),
    ("10-5", "en"), ("covid-19", "en"), ("She has 5 - 3", "en"), ("The answer is 18 = 9 + 9", "en"),
    ("The answer is 5 or 7.", "en"), ("The answer is 5, 7 and 9.", "en"), ("2^3", "en"),
    ("5²", "en"),
    ("The answer is 1, 250 dollars.", "en"), ("- 5 apples\n- 3 pears", "en"), ("8h30", "fr"),
    ("2.5 million", "en"), ("80 mil", "es"), ("elfu 80", "sw"), ("5k", "en"), ("8万5,000", "en"),
    ("The answer is that 5 of 8 are left.", "en"),
    ("#### eighteen, of 20", "en"), ("9" * 5000, "en"), ("1e999", "en"), ("5/0", "en"),
    ("no number", "en"), ("", "en"), ("cm2", "en"),
    # Mathematics that is no plain number.
    ("\\frac{\\pi}{4}", "en"), ("$\\frac{\\sqrt{3}}{2}$", "en"), ("2\\sqrt{3}", "en"),
    ("\\sqrt{x^{2}+1}", "en"), ("\\frac{1}{\\frac{2}{3}}", "en"), ("-\\frac{-3}{4}", "en"),
    ("3\\pi", "en"), ("\\log 5", "en"), ("\\binom{5}{2}", "en"), ("$5!$", "en"),
    ("\\boxed{5!}", "en"), ("1011_2", "en"), ("1011_{2}", "en"), ("The answer is 3√2", "en"),
    ("3√(2)", "en"), ("1/2 × 10^-3", "en"),
    ("2π", "en"), ("π/2", "en"), ("10^{-3}", "en"), ("E=mc^2", "en"),
    # One of two.
    ("It is 5 or 7.", "en"), ("It takes 10 to 12 hours.", "en"), ("5 cm or 7 cm", "en"),
    ("\\boxed{7 \\text{ or } 8}", "en"), ("5 ± 0.1", "en"), ("$5 \\pm 0.1$", "en"),
    ("x = \\pm 5", "en"), ("It is not 41.", "en"), ("The answer is not 41.", "en"),
    # Scales that are cut short.
    ("1.2 bn", "en"), ("5 K", "en"), ("5 M", "en"), ("5 lakh", "en"), ("5 crore", "en"),
    ("5 mn", "en"), ("1,5 Mio.", "de"), ("3,5\u00a0Mrd.", "de"), ("5 Tsd.", "de"),
    ("5 тыс.", "ru"), ("2 Mill.", "es"), ("2 tys.", "pl"), ("2 Md", "fr"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "language"), DOUBTFUL)
def test_a_doubtful_reading_is_none_and_never_another_number(
    text: str, language: str | None
) -> None:
    assert final_number(text, language) is None


def test_numbers_are_shown_in_digits_where_they_end() -> None:
    values = {
        Fraction(-5): "-5",
        Fraction(7, 2): "3.5",
        Fraction(1, 3): "1/3",
        Fraction(70000): "70000",
    }
    assert {value: shown_number(value) for value in values} == values


@pytest.mark.parametrize("name", ["xx-yy", "german", "", False, 7])
def test_an_unknown_language_is_refused(name: object) -> None:
    assert "is no language that CLDR knows" in str(language_problem(name))
    assert language_problem("pt-BR") is None
