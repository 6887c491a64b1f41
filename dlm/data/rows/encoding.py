"""Rows as token ids: one flat array for all of them, with where each begins.

A row is  begin prompt end response end  (conditional tasks), or  begin text end  (text). On a
canvas (LLaDA, arXiv 2502.09992) end tokens fill it up:  begin prompt end response end ... end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from dlm.data.rows.masking import PLAIN, Masking, has_prompt, maskable_counts
from dlm.data.rows.protocol import Tokens
from dlm.data.rows.wanted import RowSides
from dlm.data.shuffle import Positions
from dlm.errors import UserError
from dlm.tokens.plain_text import plain_ids
from dlm.tokens.special import SpecialTokens

_RAISE_MAXIMUM = "data.max_length if the model has more positions"


@dataclass(frozen=True)
class EncodedRows:
    """Token ids of a data set."""

    tokens: npt.NDArray[np.int32]
    """All rows, one after the other."""
    offsets: npt.NDArray[np.int64]
    """Where each row begins; the last entry is the end."""
    prompt_lengths: npt.NDArray[np.int32]
    """Tokens before each row's response: begin, prompt and its end; before a text: begin."""
    prompts: list[str]
    """The prompts as text."""
    responses: list[str]
    """The responses as text: the references of a validation score."""
    answer_lengths: npt.NDArray[np.int32] | None = None
    """On a canvas whose padding does not count in the loss: tokens of each response with its first
    end token. None: every maskable token counts."""
    masking: Masking = PLAIN
    """What may be predicted."""

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @property
    def maskable_lengths(self) -> npt.NDArray[np.int64]:
        """Maskable tokens of each row."""
        return maskable_counts(self.lengths, self.prompt_lengths, self.masking)

    @property
    def counted_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row that count in the loss and its normaliser."""
        if self.answer_lengths is None:
            return self.maskable_lengths
        return self.answer_lengths.astype(np.int64)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """Token ids of one row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def read(self, indices: Positions) -> list[Tokens]:
        """Token ids of these rows."""
        return [self.row(index) for index in indices.tolist()]

    def select(self, indices: Sequence[int]) -> "EncodedRows":
        """A data set of some of the rows."""
        rows = [self.row(i) for i in indices]
        return EncodedRows(
            np.concatenate(rows) if rows else self.tokens[:0],
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            self.prompt_lengths[list(indices)],
            [self.prompts[i] for i in indices],
            [self.responses[i] for i in indices],
            None if self.answer_lengths is None else self.answer_lengths[list(indices)],
            self.masking,
        )

    @classmethod
    def joined(cls, parts: Sequence["EncodedRows"], masking: Masking = PLAIN) -> "EncodedRows":
        """The rows of several data sets, one after the other."""
        answers = [part.answer_lengths for part in parts if part.answer_lengths is not None]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
            np.concatenate([part.prompt_lengths for part in parts]),
            [prompt for part in parts for prompt in part.prompts],
            [response for part in parts for response in part.responses],
            np.concatenate(answers) if answers else None,
            masking,
        )


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """begin prompt end, for each prompt."""
    special = SpecialTokens.of(tokenizer)
    return [[special.begin, *row, special.end] for row in plain_ids(tokenizer, prompts)]


def encode_responses(
    tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]
) -> list[list[int]]:
    """Token ids of each response, without the end token."""
    return plain_ids(tokenizer, responses)


def unknown_tokens(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> int:
    """How many tokens of the rows the tokenizer does not know: text that is lost."""
    unknown = tokenizer.unk_token_id
    return 0 if unknown is None else sum(list(row).count(unknown) for row in rows)


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    responses: list[str],
    *,
    conditional: bool,
    canvas_length: int | None = None,
    count_padding: bool = True,
) -> EncodedRows:
    """Tokenize rows; ``conditional`` ones have a prompt, others are plain text.

    ``canvas_length`` pads conditional rows with end tokens to this many tokens behind the prompt's
    end; longer responses stay as they are. ``count_padding``: whether the padding counts in the
    loss, as the response's own end token does.
    """
    special = SpecialTokens.of(tokenizer)
    heads = encode_prompts(tokenizer, prompts) if conditional else [[special.begin]] * len(prompts)
    tails = encode_responses(tokenizer, responses)
    answer_lengths = [len(tail) + 1 for tail in tails]
    ends = [max(1, (canvas_length or 0) - len(tail)) for tail in tails]
    rows = [
        [*head, *tail, *[special.end] * count]
        for head, tail, count in zip(heads, tails, ends, strict=True)
    ]
    flat = np.fromiter((token for row in rows for token in row), dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    prompt_lengths = np.array([len(head) for head in heads], dtype=np.int32)
    return EncodedRows(
        flat, offsets, prompt_lengths, prompts, responses,
        None if count_padding else np.array(answer_lengths, dtype=np.int32),
    )  # fmt: skip


def limit_length(
    rows: EncodedRows,
    max_length: int,
    *,
    drop: bool,
    place: str,
    where: Callable[[int], str] | None = None,
    canvas_length: int | None = None,
    sides: RowSides | None = None,
) -> tuple[EncodedRows, int]:
    """Rows of at most ``max_length`` tokens, and how many were dropped; with ``canvas_length`` also
    without the rows whose response and end token are longer than the canvas, with ``sides`` without
    those of whose two sides one is longer.

    ``where`` says in which file and line the row of an index is; for messages.

    Raises:
        UserError: A row is longer and ``drop`` is False, or no row is left.
    """
    responses = rows.lengths - rows.prompt_lengths
    over_canvas = responses > (canvas_length or max_length)
    misfits = over_canvas | (rows.lengths > max_length)
    if sides is not None:
        pairs = has_prompt(rows.prompt_lengths)
        misfits |= pairs & (rows.prompt_lengths > sides.prompt)
        misfits |= pairs & (responses > sides.response)
    too_long = np.flatnonzero(misfits)
    if not len(too_long):
        return rows, 0
    if not drop:
        first = int(too_long[0])
        row = where(first) if where else f"{place}, row {first + 1}"
        raise UserError(
            f"{row}: "
            + misfit_text(
                int(rows.lengths[first]), int(responses[first]), max_length,
                canvas_length, rows.responses[first],
                more=f"{len(too_long)} of {len(rows)} rows are too long. Shorten or remove them",
            )
        )  # fmt: skip
    kept = np.flatnonzero(~misfits)
    if not len(kept):
        raise UserError(f"{place}: {no_row_left(max_length, canvas_length)}")
    return rows.select(kept.tolist()), len(too_long)


def misfit_text(
    length: int, response: int, max_length: int, canvas_length: int | None, text: str, *, more: str
) -> str:
    """What of a row is too long, how long it is, and what can be done; ``response`` counts its end
    token, ``more`` is said between them."""
    if canvas_length and response > canvas_length:
        problem = (
            f"a response of {response} tokens, its end token included, where the canvas has "
            f"{canvas_length}"
        )
        remedy = "data.canvas_length"
    else:
        canvas = f" and a canvas of {canvas_length}" if canvas_length else ""
        problem = (
            f"{length} tokens, special tokens{canvas} included, where at most {max_length} fit"
        )
        remedy = _RAISE_MAXIMUM
    return f"{problem} ('{text[:40]}...'); {more}, set data.too_long=drop, or raise {remedy}"


def no_row_left(max_length: int, canvas_length: int | None) -> str:
    """That no row fits, and what can be done."""
    canvas = f", or its response than the canvas of {canvas_length}" if canvas_length else ""
    return (
        f"every row is longer than {max_length} tokens{canvas}: shorten the rows, or "
        f"raise {'data.canvas_length or ' if canvas_length else ''}{_RAISE_MAXIMUM}"
    )
