"""What of a text a tokenizer can give back: no model writes the rest."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import encode_responses, unknown_tokens

ENOUGH = 0.99
"""A smaller share of texts that come back is worth a warning."""

_SHOWN = 40
UNKNOWN, OTHER = "unknown characters", "other"


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


_LOSSES: dict[str, Callable[[str], str]] = {
    "blanks": lambda text: "".join(text.split()),
    "case": str.lower,
    "Unicode form": lambda text: unicodedata.normalize("NFKC", text),
    "accents": _without_accents,
}
"""What tokenizers lose -> the text without it."""


@dataclass(frozen=True)
class RoundTrip:
    """Texts beside what becomes of them through the tokenizer and back."""

    written: list[str] = field(default_factory=list)
    """The texts as a model writes them that has every token right."""
    tokens: list[int] = field(default_factory=list)
    """How many tokens each text has."""
    exact: int = 0
    """Texts that come back as they were, blanks at their ends apart."""
    losses: Counter[str] = field(default_factory=Counter)
    """What was lost -> in how many of the texts."""
    example: tuple[str, str] | None = None
    """The first text that changes, and what it becomes."""

    @property
    def texts(self) -> int:
        """Their number."""
        return len(self.written)

    @property
    def share(self) -> float:
        """Of the texts, those that come back as they were; 1 of no text."""
        return self.exact / self.texts if self.texts else 1.0

    @property
    def lost(self) -> str:
        """What is lost in how many texts, most first."""
        return ", ".join(f"{name} in {count:,}" for name, count in self.losses.most_common())

    def warnings(self, what: str) -> list[str]:
        """A line if too many texts change; ``what`` they are, in the plural."""
        if self.example is None or self.share >= ENOUGH:
            return []
        text, becomes = _around_the_difference(*self.example)
        return [
            f"{self.share:.1%} of {self.texts:,} {what} come back from the tokenizer as they were "
            f"(lost: {self.lost}), and no model can write the others: {text!r} becomes "
            f"{becomes!r}. Take another tokenizer, or a score that does not count what is lost"
        ]


def round_trip(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> RoundTrip:
    """Compare texts with what they become."""
    if not texts:
        return RoundTrip()
    rows = encode_responses(tokenizer, texts)
    written = list(tokenizer.batch_decode(rows, skip_special_tokens=True))
    exact, losses, example = 0, Counter[str](), None
    for text, row, becomes in zip(texts, rows, written, strict=True):
        if text.strip() == becomes.strip():
            exact += 1
            continue
        example = example or (text, becomes)
        unknown = unknown_tokens(tokenizer, [row])
        losses.update((UNKNOWN,) if unknown else _losses(text, becomes))
    return RoundTrip(written, [len(row) for row in rows], exact, losses, example)


def _around_the_difference(text: str, becomes: str) -> tuple[str, str]:
    pairs = zip(text, becomes, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(becomes)))
    part = slice(max(0, same - _SHOWN // 2), same + _SHOWN // 2)
    return text[part], becomes[part]


def _losses(text: str, becomes: str) -> tuple[str, ...]:
    """The fewest losses that explain the difference."""
    for count in range(1, len(_LOSSES) + 1):
        for names in combinations(_LOSSES, count):
            if _without(text, names) == _without(becomes, names):
                return names
    return (OTHER,)


def _without(text: str, names: Sequence[str]) -> str:
    for name in names:
        text = _LOSSES[name](text)
    return text
