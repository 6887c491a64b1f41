"""What of a text a tokenizer can give back: no model writes the rest."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import encode_responses, unknown_tokens
from dlm.tokens.text_form import FORMS, TextForm, decode_texts, form_of

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
    """Texts that come back as they were; blanks at their ends count where the tokenizer's form of
    texts has them."""
    losses: Counter[str] = field(default_factory=Counter)
    """What was lost -> in how many of the texts."""
    example: tuple[str, str] | None = None
    """The first text that changes, and what it becomes."""
    indented: list[str] = field(default_factory=list)
    """Texts whose blanks or line ends at their beginning do not come back."""

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
        lines = []
        if len(self.indented) > (1 - ENOUGH) * self.texts:
            lines.append(
                f"{len(self.indented):,} of {self.texts:,} {what} begin with blanks or line ends "
                f"({self.indented[0][:_SHOWN]!r}), which do not come back from the tokenizer: they "
                "are written and scored without. Take a tokenizer that keeps them (byte-level ones "
                "do), if they mean something"
            )
        if self.example is None or self.share >= ENOUGH:
            return lines
        text, becomes = _around_the_difference(*self.example)
        return [
            *lines,
            f"{self.share:.1%} of {self.texts:,} {what} come back from the tokenizer as they were "
            f"(lost: {self.lost}), and no model can write the others: {text!r} becomes "
            f"{becomes!r}. Take another tokenizer, or a score that does not count what is lost",
        ]


def round_trip(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> RoundTrip:
    """Compare texts with what they become in the form that the tokenizer's texts have."""
    if not texts:
        return RoundTrip()
    rows = encode_responses(tokenizer, texts)
    form = form_of(tokenizer)
    whole = decode_texts(tokenizer, rows, replace(form, ends="kept"))
    written = list(map(form.of, whole))
    exact, losses, example = 0, Counter[str](), None
    for text, row, becomes in zip(map(form.of, texts), rows, written, strict=True):
        if text == becomes:
            exact += 1
            continue
        example = example or (text, becomes)
        unknown = unknown_tokens(tokenizer, [row])
        losses.update((UNKNOWN,) if unknown else _losses(text, becomes))
    indented = [
        text for text, back in zip(texts, whole, strict=True)
        if text[:1].isspace() and _beginning(text) != _beginning(back)
    ]  # fmt: skip
    return RoundTrip(written, [len(row) for row in rows], exact, losses, example, indented)


def fitting_form(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> TextForm:
    """The form in which most of the texts come back as they were to the letter; of several such the
    first, so that the usual one stays where another gains nothing.

    Tokens that are not written as they read (``##ing``) are joined only where no other form does as
    well: texts that have none of them may stand beside others that do, which nobody has compared.
    """
    rows = encode_responses(tokenizer, texts)
    exact: dict[TextForm, int] = {}
    for form in FORMS:
        exact[form] = sum(map(str.__eq__, texts, decode_texts(tokenizer, rows, form)))
        if exact[form] == len(texts) and form.between != "joined":
            break
    most = max(exact.values())
    best = [form for form in FORMS if exact.get(form) == most]
    others = [form for form in best if form.between != "joined"]
    if best[0].between == "joined" and others and not _read_as_written(tokenizer):
        return others[0]
    return best[0]


def _read_as_written(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether each token stands in a text as the vocabulary has it, without a mark of where it
    stands (``##ing``, ``\u2581the``)."""
    ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    tokens = [str(tokenizer.convert_ids_to_tokens(id_)) for id_ in ids]
    # Behind another: a decoder may cut off the mark of a text's first token.
    return all(
        str(tokenizer.decode([ids[0], id_])).endswith(token)
        for id_, token in zip(ids, tokens, strict=True)
    )


def _beginning(text: str) -> str:
    """The blanks and line ends before a text."""
    return text[: len(text) - len(text.lstrip())]


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
