"""Which samples make up which step: a pure function, so that a resume needs a step number only.

The epochs' permutations, one after the other, are an endless stream of samples (``epochs.py``). It
is cut into windows of at most this many global batches, each within an epoch; within a window rows
are sorted by length and cut into batches of like length, whose order is shuffled again. A batch
with the end of one epoch and the beginning of the next is a window of its own. Nothing depends on
devices or workers.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from dlm.data.batches.epochs import (
    SampleStream,
    ShuffledRows,
    order_within,
    runs_within_epochs,
)
from dlm.data.rows.protocol import Column
from dlm.data.shuffle import Positions, shuffled_places


class WholeWindows(NamedTuple):
    """This many first steps train on exactly this many first samples of the stream."""

    steps: int
    samples: int


class GlobalBatches(Protocol):
    """Which samples every step trains on, and how devices share them.

    Every row is in a batch once an epoch, and an epoch is finished before the next begins (in a
    mixture those of each source). No batch holds a row twice if it has room for different ones;
    where it must, the copies are spread evenly.
    """

    @property
    def usual_rows(self) -> int:
        """Rows of a batch, or about this many."""

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64."""

    def samples_before(self, step: int) -> int:
        """Samples of all earlier steps."""

    def whole_windows(self, step: int) -> WholeWindows:
        """Those that are complete before a step."""

    def parts(self, batch: Positions, devices: int, accumulate: int) -> list[list[Positions]]:
        """Places in the batch that each device takes, by device and micro-batch."""


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """The global batch of every step."""

    lengths: Column
    """Tokens of each row."""
    global_batch_size: int
    """Rows per step."""
    seed: int
    grouping: int = 50
    """Most batches in a window of like-length grouping; 0 keeps the stream's own order."""
    stream: SampleStream | None = None
    """The samples; None: every row once an epoch."""

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64 [global_batch_size]."""
        if not self.grouping:
            return self._samples(step * self.global_batch_size, self.global_batch_size)
        batch: Positions = self._batches(step // self.grouping)[step % self.grouping]
        return batch

    def samples_before(self, step: int) -> int:
        """See ``GlobalBatches``."""
        return step * self.global_batch_size

    def whole_windows(self, step: int) -> WholeWindows:
        """See ``GlobalBatches``."""
        steps = step // (self.grouping or 1) * (self.grouping or 1)
        return WholeWindows(steps, steps * self.global_batch_size)

    def parts(self, batch: Positions, devices: int, accumulate: int) -> list[list[Positions]]:
        """See ``GlobalBatches``: equal numbers of rows."""
        places = np.arange(len(batch))
        return [np.array_split(places[rank::devices], accumulate) for rank in range(devices)]

    @property
    def usual_rows(self) -> int:
        """See ``GlobalBatches``: exactly this many."""
        return self.global_batch_size

    @cached_property
    def _stream(self) -> SampleStream:
        stream: SampleStream = self.stream or ShuffledRows(len(self.lengths), self.seed)
        return stream.spread(self.global_batch_size, self.global_batch_size)

    def _samples(self, start: int, count: int) -> Positions:
        return self._stream.positions(start, count)

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run
    def _batches(self, number: int) -> Positions:
        """``grouping`` batches: one window, or several where epochs end among them."""
        size, rows = self.global_batch_size, len(self.lengths)
        positions = self._samples(number * size * self.grouping, size * self.grouping)
        places = np.arange(self.grouping, dtype=np.int64)
        # Windows have shuffles of their own: theirs are numbered below zero, epochs from zero on.
        order = shuffled_places(places, self.grouping, seed=self.seed, number=-1 - number)
        batches = np.empty((self.grouping, size), dtype=np.int64)
        for first, end, _ in runs_within_epochs(self._stream, positions, rows, size):
            window = positions[first * size : end * size]
            by_length = window[np.argsort(self.lengths[window % rows], kind="stable")]
            batches[first:end] = by_length.reshape(-1, size)[order_within(order[first:end])]
        return batches
