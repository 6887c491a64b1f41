"""Rows on a canvas: end tokens fill the responses up while the rows are read."""

import numpy as np

from dlm.data.rows.protocol import Column, LazyColumn, TokenRows, Tokens
from dlm.data.shuffle import Positions


class CanvasRows:
    """Rows (``TokenRows``) as :func:`dlm.data.rows.encoding.encode_rows` pads them.

    Every response and its end token fit on the canvas.
    """

    prompts_maskable = False

    def __init__(
        self, rows: TokenRows, length: int, end_token_id: int, *, count_padding: bool
    ) -> None:
        self.rows = rows
        self.length = length
        self.end_token_id = end_token_id
        self.count_padding = count_padding

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> LazyColumn:
        """Tokens of each row, the canvas included."""
        return LazyColumn(len(self), lambda rows: self.rows.prompt_lengths[rows] + self.length)

    @property
    def prompt_lengths(self) -> Column:
        """Tokens before each row's response: begin, prompt and its end."""
        return self.rows.prompt_lengths

    @property
    def maskable_lengths(self) -> LazyColumn:
        """The whole canvas."""
        return LazyColumn(len(self), lambda rows: np.full(rows.shape, self.length))

    @property
    def answer_lengths(self) -> Column | None:
        """Where the padding does not count: tokens of each response with its first end token."""
        return None if self.count_padding else self.rows.maskable_lengths

    @property
    def counted_lengths(self) -> Column:
        """Tokens of each row that count in the loss and its normaliser."""
        answers = self.answer_lengths
        return self.maskable_lengths if answers is None else answers

    def read(self, indices: Positions) -> list[Tokens]:
        """Token ids of these rows."""
        plain = self.rows.read(indices)
        lengths = self.lengths[indices].tolist()
        return [self._filled(row, length) for row, length in zip(plain, lengths, strict=True)]

    def _filled(self, row: Tokens, length: int) -> Tokens:
        filled: Tokens = np.full(length, self.end_token_id, dtype=row.dtype)
        filled[: len(row)] = row
        return filled
