"""Rows as token ids: one flat array for all of them, with where each begins.

A row is  begin prompt end response end  (conditional tasks), or  begin text end  (text).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.models.special_tokens import SpecialTokens


@dataclass(frozen=True)
class EncodedRows:
    """Token ids of a data set."""

    tokens: npt.NDArray[np.int32]
    """All rows, one after the other."""
    offsets: npt.NDArray[np.int64]
    """Where each row begins; the last entry is the end."""
    prompt_lengths: npt.NDArray[np.int32]
    """Leading tokens of each row that noise never touches: begin, prompt and its end."""
    end_maskable: bool
    """Whether noise may hit the last end token (responses: yes, as it is trained; texts: no)."""
    prompts: list[str]
    """The prompts as text."""
    responses: list[str]
    """The responses as text: the references of a validation score."""

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @property
    def maskable_lengths(self) -> npt.NDArray[np.int64]:
        """Maskable tokens of each row."""
        return self.lengths - self.prompt_lengths - (0 if self.end_maskable else 1)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """Token ids of one row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def select(self, indices: Sequence[int]) -> "EncodedRows":
        """A data set of some of the rows."""
        rows = [self.row(i) for i in indices]
        return EncodedRows(
            np.concatenate(rows) if rows else self.tokens[:0],
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            self.prompt_lengths[list(indices)],
            self.end_maskable,
            [self.prompts[i] for i in indices],
            [self.responses[i] for i in indices],
        )


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """begin prompt end, for each prompt."""
    special = SpecialTokens.of(tokenizer)
    return [[special.begin, *row, special.end] for row in _token_ids(tokenizer, prompts)]


def encode_responses(
    tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]
) -> list[list[int]]:
    """Token ids of each response, without the end token."""
    return _token_ids(tokenizer, responses)


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    # Text is text: a row that spells out "<mask>" or "</s>" must not become noise or an end.
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )["input_ids"]
    return ids


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    responses: list[str],
    *,
    conditional: bool,
) -> EncodedRows:
    """Tokenize rows; ``conditional`` ones have a prompt, others are plain text."""
    special = SpecialTokens.of(tokenizer)
    heads = encode_prompts(tokenizer, prompts) if conditional else [[special.begin]] * len(prompts)
    tails = encode_responses(tokenizer, responses)
    rows = [[*head, *tail, special.end] for head, tail in zip(heads, tails, strict=True)]
    flat = np.fromiter((token for row in rows for token in row), dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    prompt_lengths = np.array([len(head) for head in heads], dtype=np.int32)
    return EncodedRows(flat, offsets, prompt_lengths, conditional, prompts, responses)


def limit_length(
    rows: EncodedRows,
    max_length: int,
    *,
    drop: bool,
    place: str,
    where: Callable[[int], str] | None = None,
) -> tuple[EncodedRows, int]:
    """Rows of at most ``max_length`` tokens, and how many were dropped.

    ``where`` says in which file and line the row of an index is; for messages.

    Raises:
        UserError: A row is longer and ``drop`` is False, or no row is left.
    """
    too_long = np.flatnonzero(rows.lengths > max_length)
    if not len(too_long):
        return rows, 0
    if not drop:
        first = int(too_long[0])
        row = where(first) if where else f"{place}, row {first + 1}"
        raise UserError(
            f"{row}: {rows.lengths[first]} tokens, special tokens included, where at most "
            f"{max_length} fit ('{rows.responses[first][:40]}...'); {len(too_long)} of {len(rows)} "
            "rows are too long. Shorten or remove them, set data.too_long=drop, or raise "
            "data.max_length if the model has more positions"
        )
    kept = np.flatnonzero(rows.lengths <= max_length)
    if not len(kept):
        raise UserError(
            f"{place}: every row is longer than {max_length} tokens: shorten the rows, or raise "
            "data.max_length if the model has more positions"
        )
    return rows.select(kept.tolist()), len(too_long)
