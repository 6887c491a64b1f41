"""Rows to token ids in bulk: the tokenizer's own threads, and no Python object for a token."""

import hashlib
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from dlm.data.prompts import Example
from dlm.data.rows.encoding import encode_responses
from dlm.data.rows.prompt_limit import cut_prompt
from dlm.errors import UserError
from dlm.tokens.plain_text import SpelledToken, plain_text
from dlm.tokens.special import SpecialTokens

Ids = Sequence[int]
_PLACES = ("name_or_path", "is_local", "vocab_file", "tokenizer_file")
"""Settings of a tokenizer that say where it lies, not what it does."""


class RowEncoder:
    """Gives the ids of :func:`dlm.data.rows.encoding.encode_rows`, for a stream of rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.special = SpecialTokens.of(tokenizer)
        self.unknown = tokenizer.unk_token_id
        self.dtype: npt.DTypeLike = np.uint16 if len(tokenizer) <= 2**16 else np.int32
        self._tokenizer = tokenizer
        self._fast: Tokenizer | None = None
        if tokenizer.is_fast:
            # A copy: nobody else's calls set padding or truncation in it.
            self._fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
            self._fast.no_padding()
            self._fast.no_truncation()
            self._fast.encode_special_tokens = True

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the ids of a text, and what a row is put together from."""
        if self._fast is not None:
            content = self._fast.to_str()
        else:
            settings = self._tokenizer.init_kwargs
            kept = {
                "class": type(self._tokenizer).__name__,
                "settings": {k: v for k, v in settings.items() if k not in _PLACES},
            }
            content = json.dumps(kept | {"vocabulary": self._tokenizer.get_vocab()},
                                 sort_keys=True, default=str)  # fmt: skip
        digest = hashlib.sha256(content.encode()).hexdigest()
        return {
            "tokenizer": digest,
            "special": vars(self.special),
            "dtype": np.dtype(self.dtype).name,
        }

    def encode(self, examples: Sequence[Example], *, conditional: bool) -> list[Ids]:
        """The ids of all responses, then of all prompts; see :meth:`ids`. ``conditional`` examples
        have a prompt, others are texts. Most of the work is done without the interpreter's lock.

        Raises:
            UserError: An example spells a special token, and the tokenizer cannot read it as text.
        """
        texts = [example.response for example in examples]
        if conditional:
            texts += [example.prompt for example in examples]
        try:
            if self._fast is None:
                return list(encode_responses(self._tokenizer, texts))
            encodings = self._fast.encode_batch_fast(texts, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            return list(plain_text(self._tokenizer).mended(texts, ids))
        except SpelledToken as error:
            place = examples[error.index % len(examples)].place
            raise UserError(f"{place}: {error}") from error

    def end_of(self, prompt: str, tokens: int) -> Ids:
        """Token ids of the end of a prompt, at most this many (see ``cut_prompt``)."""
        return encode_responses(self._tokenizer, [cut_prompt(self._tokenizer, prompt, tokens)])[0]

    def ids(self, encoded: list[Ids], count: int) -> tuple[list[Ids], list[Ids]]:
        """The prompts' and responses' ids of what :meth:`encode` gave of ``count`` examples; texts
        have no prompts."""
        return encoded[count:], encoded[:count]

    def rows(self, prompts: list[Ids], responses: list[Ids]) -> list[list[Ids]]:
        """Each row in parts: begin prompt end response end; without prompts begin text end."""
        begin, end = [self.special.begin], [self.special.end]
        if not prompts:
            return [[begin, text, end] for text in responses]
        return [
            [begin, prompt, end, response, end]
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    def flat(self, rows: list[list[Ids]], count: int) -> npt.NDArray[Any]:
        """The rows' tokens one after the other; ``count`` is their number."""
        parts = chain.from_iterable(rows)
        return np.fromiter(chain.from_iterable(parts), dtype=self.dtype, count=count)
