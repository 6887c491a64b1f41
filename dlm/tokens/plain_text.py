"""Text to token ids, as text: what spells a special token does not become one.

``split_special_tokens`` takes care of special tokens that are matched before a tokenizer's model
splits the text. Where the model itself has them in its vocabulary (the Unigram tokenizers of XLM-R,
CamemBERT, T5 and DeBERTa-v3; word-level ones) a text that spells ``<mask>`` still becomes a mask.
Such a text is split again by the same tokenizer without these pieces; every other text keeps its
ids.
"""

import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError

_SHOWN = 60
# No text has it: U+FFFF is no character.
_NOWHERE = "\uffff"


class SpelledToken(UserError):
    """A text spells a special token, and cannot be read as text."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        """Its number among the texts."""


class PlainText:
    """What makes text of the texts that spell special tokens, for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.never = frozenset(text_never_is(tokenizer))
        """Ids that text does not become."""
        unknown = tokenizer.unk_token_id
        # Text becomes the unknown token, but not the text that spells it.
        self._unknown = None if unknown is None else (int(unknown), str(tokenizer.unk_token))
        self._tokenizer = tokenizer
        self._without: Tokenizer | None = None

    def spells(self, text: str, ids: Sequence[int]) -> bool:
        """Whether a text's ids hold a special token."""
        if not self.never.isdisjoint(ids):
            return True
        return self._unknown is not None and self._unknown[1] in text and self._unknown[0] in ids

    def mended(self, texts: Sequence[str], rows: list[list[int]]) -> list[list[int]]:
        """The rows of ids, those of texts that spell special tokens as text; the others as they
        are.

        Raises:
            SpelledToken: The tokenizer cannot do it.
        """
        for index, (text, ids) in enumerate(zip(texts, rows, strict=True)):
            if self.spells(text, ids):
                rows[index] = self._as_text(text).ids if self._tokenizer.is_fast else ids
                if not self.never.isdisjoint(rows[index]):
                    tokens = self._tokenizer.convert_ids_to_tokens(rows[index])
                    raise SpelledToken(index, _spelled_text(text, tokens))
        return rows

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a fast tokenizer lies in the text."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False,
            return_offsets_mapping=True,
        )  # fmt: skip
        if self.spells(text, encoded["input_ids"]):
            return self._as_text(text).offsets
        return list(encoded["offset_mapping"])

    def _as_text(self, text: str) -> Encoding:
        if self._without is None:
            self._without = _without_pieces(self._tokenizer, self.never)
        return self._without.encode(text, add_special_tokens=False)


def plain_text(tokenizer: PreTrainedTokenizerBase) -> PlainText:
    """Of a tokenizer; made once for each, and anew when its tokens change."""
    state = (tuple(tokenizer.all_special_ids), len(tokenizer), tokenizer.unk_token_id)
    found = _MADE.get(tokenizer)
    if found is None or found[0] != state:
        found = _MADE[tokenizer] = state, PlainText(tokenizer)
    return found[1]


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, no special token among them but the unknown one.

    Raises:
        SpelledToken: A text spells a special token, and the tokenizer cannot read it as text (some
            that are written in Python).
    """
    if not texts:
        return []
    if tokenizer.is_fast:
        rows = _ids(tokenizer, texts, split=True)
    else:
        # Some of these (ESM's) find words by what split_special_tokens turns off.
        rows = [_ids(tokenizer, [text], split=_spells_any(tokenizer, text))[0] for text in texts]
    return plain_text(tokenizer).mended(texts, rows)


def _ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, split: bool
) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=split, verbose=False
    )["input_ids"]
    return rows


def _spells_any(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    return any(token in text for token in tokenizer.all_special_tokens)


def text_never_is(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of special tokens, without that of the unknown one (unless it is another too)."""
    own = {
        tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id,
        tokenizer.eos_token_id, tokenizer.mask_token_id,
    } - {None}  # fmt: skip
    return own | (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})


_MADE: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, PlainText]] = WeakKeyDictionary()


def _without_pieces(tokenizer: PreTrainedTokenizerBase, ids: frozenset[int]) -> Tokenizer:
    """The tokenizer with the pieces of these ids, and the unknown one, out of the reach of text;
    ids, scores and the price of unknown characters stay."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    hidden, unknown = set(ids), model.get("unk_token")
    if model["type"] == "Unigram":
        hidden |= {model["unk_id"]} - {None}
        for id_ in (id_ for id_ in hidden if id_ < len(model["vocab"])):
            model["vocab"][id_][0] = _hidden(id_)
    else:
        names = {t for t, id_ in model["vocab"].items() if id_ in hidden and t != unknown}
        model["vocab"] = {_hidden(i) if t in names else t: i for t, i in model["vocab"].items()}
        if "merges" in model:
            model["merges"] = [
                merge for merge in model["merges"]
                if names.isdisjoint((*_parts(merge), "".join(_parts(merge))))
            ]  # fmt: skip
    # All stay in the list: the ids of those behind them are counted.
    for entry in state["added_tokens"]:
        if entry["id"] in hidden and entry["content"] != unknown:
            entry["content"] = _hidden(entry["id"])
    # It names special tokens, and nothing is put around the text.
    state["post_processor"] = state["padding"] = state["truncation"] = None
    without = Tokenizer.from_str(json.dumps(state))
    without.encode_special_tokens = True
    return without


def _hidden(id_: int) -> str:
    return f"{_NOWHERE}{id_}"


def _parts(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _spelled_text(text: str, tokens: Sequence[str]) -> str:
    return (
        f"the text '{text[:_SHOWN]}' spells a special token, and its tokenizer can only read it as "
        f"that ({' '.join(tokens[:12])}): take the token's name out of the text, or use a "
        "tokenizer of the tokenizers library (a tokenizer.json)"
    )
