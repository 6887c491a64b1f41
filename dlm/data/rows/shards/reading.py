"""Rows of a prepared data set, read from memory-mapped files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dlm.data.rows.masking import PLAIN, Masking, maskable_counts
from dlm.data.rows.protocol import LazyColumn, Tokens
from dlm.data.rows.shards.format import ARRAYS, DamagedShards, Index, file_name, read_index
from dlm.data.shuffle import Positions
from dlm.errors import reason_of


class OpenShard(NamedTuple):
    """The arrays of a shard; the operating system keeps of them what fits beside everything."""

    tokens: Tokens
    offsets: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int32]


class TokenShards:
    """The rows of a data set (``TokenRows``) in a few kilobytes of its own memory.

    A copy for another process is the index alone: it maps the files itself.
    """

    def __init__(self, directory: Path, index: Index, masking: Masking = PLAIN) -> None:
        self.directory = directory
        self.index = index
        self.masking = masking
        self._ends = np.cumsum([shard.rows for shard in index.shards], dtype=np.int64)
        self._open: dict[int, OpenShard] = {}

    @classmethod
    def open(cls, directory: Path, masking: Masking = PLAIN) -> "TokenShards | None":
        """The data set in a directory; None if none is finished there.

        Raises:
            DamagedShards: It is not whole, or of another version.
        """
        index = read_index(directory)
        if index is None:
            return None
        return cls(directory, index, masking)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def lengths(self) -> LazyColumn:
        """Tokens of each row."""
        return LazyColumn(len(self), self._lengths)

    @property
    def prompt_lengths(self) -> LazyColumn:
        """Tokens before each row's response: begin, prompt and its end; before a text: begin."""
        return LazyColumn(len(self), self._prompt_lengths)

    @property
    def maskable_lengths(self) -> LazyColumn:
        """Maskable tokens of each row."""
        return LazyColumn(len(self), self._maskable_lengths)

    @property
    def answer_lengths(self) -> None:
        """There is no canvas here (``dlm.data.rows.canvas`` lays one over the rows)."""

    @property
    def counted_lengths(self) -> LazyColumn:
        """Every maskable token counts."""
        return self.maskable_lengths

    def row(self, index: int) -> Tokens:
        """Token ids of one row."""
        return self.read(np.array([index]))[0]

    def read(self, indices: Positions) -> list[Tokens]:
        """Token ids of these rows; nothing is copied."""
        rows: list[Any] = [None] * len(indices)
        for shard, places, local in self._by_shard(indices):
            starts, stops = shard.offsets[local], shard.offsets[local + 1]
            for place, start, stop in zip(
                places.tolist(), starts.tolist(), stops.tolist(), strict=True
            ):
                rows[place] = shard.tokens[start:stop]
        return rows

    def shards(self) -> Iterator[OpenShard]:
        """Every shard in the order of its rows."""
        return map(self._shard, range(len(self._ends)))

    def _lengths(self, indices: Positions) -> npt.NDArray[np.int64]:
        return self._numbers(
            indices, lambda shard, local: shard.offsets[local + 1] - shard.offsets[local]
        )

    def _prompt_lengths(self, indices: Positions) -> npt.NDArray[np.int64]:
        return self._numbers(indices, lambda shard, local: shard.prompts[local])

    def _maskable_lengths(self, indices: Positions) -> npt.NDArray[np.int64]:
        return maskable_counts(
            self._lengths(indices), self._prompt_lengths(indices),
            masking=self.masking,
        )  # fmt: skip

    def _numbers(
        self, indices: Positions, of: Callable[[OpenShard, Positions], npt.NDArray[Any]]
    ) -> npt.NDArray[np.int64]:
        flat = indices.ravel()
        numbers = np.empty(len(flat), dtype=np.int64)
        for shard, places, local in self._by_shard(flat):
            numbers[places] = of(shard, local)
        return numbers.reshape(indices.shape)

    def _by_shard(self, indices: Positions) -> Iterator[tuple[OpenShard, Positions, Positions]]:
        """Each shard that is asked for, the places in ``indices``, and the rows within it."""
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"rows are numbered 0..{len(self) - 1}")
        numbers = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            first = self._ends[number] - self.index.shards[number].rows
            yield self._shard(number), places, indices[places] - first

    def _shard(self, number: int) -> OpenShard:
        if number not in self._open:
            self._open[number] = OpenShard(*(self._map(number, array) for array in ARRAYS))
        return self._open[number]

    def _map(self, number: int, array: str) -> Any:
        path = self.directory / file_name(number, array)
        try:
            # As a plain array: slices of numpy's memmap class cost several times as much.
            return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise DamagedShards(
                self.directory, f"{path.name} cannot be read ({reason_of(error)})"
            ) from error
