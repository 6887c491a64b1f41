"""Text that continues other text, to tokens and back, without a blank gained or lost.

Tokenizers mark the beginning of a word on its first token (``▁cat``, ``Ġcat``) or its inside on
the others (``##ing``), and treat the beginning of what they are given as that of a word. So a text
that goes on behind a mask, and tokens that stand behind others, are handled behind an anchor: a
letter that is cut off again.
"""

from dataclasses import replace
from string import ascii_lowercase, ascii_uppercase, digits, punctuation

from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import encode_responses
from dlm.tokens.text_form import decode_texts, form_of


class Pieces:
    """Continuations under one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[int, str] = {}
        candidates = [*ascii_lowercase, *digits, *punctuation, *ascii_uppercase]
        encoded = encode_responses(tokenizer, candidates)
        # An anchor that is unknown or comes back as something else says nothing about blanks.
        self._anchors = [
            (text, ids)
            for text, ids in zip(candidates, encoded, strict=True)
            if self._decode(ids) == text
        ]

    def encode_after(self, text: str) -> list[int]:
        """Token ids of ``text`` as the continuation of a text that is not known."""
        if not text:
            return []
        joined = encode_responses(self._tokenizer, [anchor + text for anchor, _ in self._anchors])
        possible = [
            (ids, both[len(ids) :])
            for (_, ids), both in zip(self._anchors, joined, strict=True)
            if both[: len(ids)] == ids  # else the text's first letters went into a token with it
        ]
        for ids, continued in possible:
            blank = self._after(ids, continued[:1]).startswith(" ")
            if blank == text.startswith(" "):
                return continued
        # No way without a blank, as between two words of BERT: the tokenizer cannot say it.
        return possible[0][1] if possible else encode_responses(self._tokenizer, [text])[0]

    def decode_after(self, token_ids: list[int]) -> str:
        """The text of tokens that stand behind others: with a blank if they begin with one."""
        if not self._anchors:
            return self._decode(token_ids)
        return self._after(self._anchors[0][1], token_ids)

    def piece(self, token_id: int) -> str:
        """The text of one token behind others; its name where it is no text by itself (a part of
        a character's bytes, a special token)."""
        if token_id not in self._cache:
            text = self.decode_after([token_id])
            if not text or "\ufffd" in text:
                text = str(self._tokenizer.convert_ids_to_tokens(token_id))
            self._cache[token_id] = text
        return self._cache[token_id]

    def _after(self, anchor_ids: list[int], token_ids: list[int]) -> str:
        anchor = self._decode(anchor_ids)
        text = self._decode([*anchor_ids, *token_ids])
        return text[len(anchor) :] if text.startswith(anchor) else self._decode(token_ids)

    def _decode(self, token_ids: list[int]) -> str:
        whole = replace(form_of(self._tokenizer), ends="kept")
        (text,) = decode_texts(
            self._tokenizer, [token_ids], whole, clean_up_tokenization_spaces=False
        )
        return text
