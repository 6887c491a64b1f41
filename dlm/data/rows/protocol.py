"""What training needs of tokenized rows, whether they lie in memory or in files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dlm.data.shuffle import Positions

Tokens = npt.NDArray[np.int32] | npt.NDArray[np.uint16]


class Column(Protocol):
    """A whole number for each row, looked up for the rows that are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Positions, /) -> npt.NDArray[np.int64]:
        """The numbers of these rows, in the shape of ``indices``."""


@dataclass(frozen=True)
class LazyColumn:
    """A column that is computed for the rows that are asked for."""

    size: int
    lookup: Callable[[Positions], npt.NDArray[np.int64]]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, indices: Positions, /) -> npt.NDArray[np.int64]:
        return self.lookup(np.asarray(indices, dtype=np.int64))


class TokenRows(Protocol):
    """Rows of token ids: begin prompt end response end, or begin text end."""

    @property
    def prompts_maskable(self) -> bool:
        """Whether noise may hit prompts too (see ``dlm.data.rows.masking``)."""

    @property
    def lengths(self) -> Column:
        """Tokens of each row."""

    @property
    def prompt_lengths(self) -> Column:
        """Tokens before each row's response: begin, prompt and its end; before a text: begin."""

    @property
    def maskable_lengths(self) -> Column:
        """Maskable tokens of each row."""

    @property
    def answer_lengths(self) -> Column | None:
        """On a canvas whose padding does not count: tokens of each response with its first end."""

    @property
    def counted_lengths(self) -> Column:
        """Tokens of each row that count in the loss and its normaliser."""

    def __len__(self) -> int: ...

    def read(self, indices: Positions) -> list[Tokens]:
        """Token ids of these rows."""
