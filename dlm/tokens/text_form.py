"""From tokens back to text as it was: the blanks that a tokenizer puts between its tokens or drops
at a text's ends.

Many tokenizers of letters (DNA, proteins, SMILES, Chinese) join their tokens by blanks that their
texts do not have, and some keep the indentation of code where others drop it. Which form a
tokenizer's texts have is found by texts that go through it and back
(``dlm/data/rows/round_trip.py``), and said in the export's ``dlm.json``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

Between = Literal["decoded", "joined", "none", "none_at_han"]
"""Between tokens stands what the tokenizer decodes; nothing; no blank anywhere in the text; or no
blank beside a sign of Chinese or Japanese."""
_HAN = "\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
_BESIDE_HAN = re.compile(f"(?<=[{_HAN}]) +| +(?=[{_HAN}])")


@dataclass(frozen=True)
class TextForm:
    """How tokens become text."""

    between: Between = "decoded"
    ends: Literal["cut", "kept"] = "cut"
    """Of blanks and line ends at both ends of a text."""

    @property
    def note(self) -> str:
        """In words."""
        ends = "keep their blanks and line ends at both ends" if self.ends == "kept" else ""
        between = _SAID.get(self.between, "")
        return f"texts {' and '.join(filter(None, (between, ends)))}"

    def of(self, text: str) -> str:
        """A text that is compared with decoded ones."""
        return text if self.ends == "kept" else text.strip()


_SAID = {
    "joined": "are written without the blanks that the tokenizer puts between its tokens",
    "none": "are written without blanks",
    "none_at_han": "are written without blanks beside Chinese and Japanese signs",
}
USUAL = TextForm()
"""What the tokenizer decodes, without blanks at its ends."""
FORMS = tuple(
    TextForm(between, ends)
    for between in ("decoded", "joined", "none_at_han", "none")
    for ends in ("cut", "kept")
)  # fmt: skip
"""All there are, the usual one first, and what takes more blanks away behind what takes fewer."""
_CHOSEN: WeakKeyDictionary[PreTrainedTokenizerBase, TextForm] = WeakKeyDictionary()


def form_of(tokenizer: PreTrainedTokenizerBase) -> TextForm:
    """The form of the texts of a tokenizer: the usual one until another is set."""
    return _CHOSEN.get(tokenizer, USUAL)


def set_form(tokenizer: PreTrainedTokenizerBase, form: TextForm) -> None:
    """Say the form of the texts of a tokenizer."""
    _CHOSEN[tokenizer] = form


def decode_texts(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    form: TextForm | None = None,
    **options: Any,
) -> list[str]:
    """The texts of rows of token ids without their special tokens, in the tokenizer's form or the
    one given; ``options`` are those of its ``decode``."""
    form = form or form_of(tokenizer)
    if form.between == "joined":
        special = set(tokenizer.all_special_ids)
        decoded = [_joined(tokenizer, [id_ for id_ in row if id_ not in special]) for row in rows]
    else:
        decoded = [
            str(tokenizer.decode(list(row), skip_special_tokens=True, **options)) for row in rows
        ]
    change = _CHANGES.get(form.between)
    return [form.of(change(text) if change else text) for text in decoded]


def _joined(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return "".join(cast("list[str]", tokenizer.convert_ids_to_tokens(ids)))


_CHANGES: dict[str, Callable[[str], str]] = {
    "none": lambda text: text.replace(" ", ""),
    "none_at_han": lambda text: _BESIDE_HAN.sub("", text),
}
