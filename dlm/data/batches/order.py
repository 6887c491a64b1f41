"""Which samples make up which step: a pure function, so that a resume needs a step number only.

The epochs' permutations, one after the other, are an endless stream of samples. It is cut into
windows of so many global batches; within a window rows are sorted by length and cut into batches
of like length, whose order is shuffled again. Nothing depends on devices or workers.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from dlm.data.rows.protocol import Column
from dlm.data.shuffle import Positions, shuffled_places


class WholeWindows(NamedTuple):
    """So many first steps train on exactly so many first samples of the stream."""

    steps: int
    samples: int


class GlobalBatches(Protocol):
    """Which samples every step trains on, and how devices share them."""

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64."""

    def samples_before(self, step: int) -> int:
        """Samples of all earlier steps."""

    def whole_windows(self, step: int) -> WholeWindows:
        """Those that are complete before a step."""

    def parts(self, batch: Positions, devices: int, accumulate: int) -> list[list[Positions]]:
        """Places in the batch that each device takes, by device and micro-batch."""


class SampleStream(Protocol):
    """An endless sequence of samples, any part of which can be asked for.

    A sample's position is pass x rows + row: it never occurs twice in a run.
    """

    def positions(self, start: int, count: int) -> Positions:
        """Samples number start..start+count-1, int64 [count]."""


@dataclass(frozen=True)
class ShuffledRows:
    """Every row once an epoch, in an order of each epoch's own."""

    rows: int
    seed: int

    def positions(self, start: int, count: int) -> Positions:
        """See ``SampleStream``; the pass is the epoch."""
        wanted = np.arange(start, start + count, dtype=np.int64)
        epochs, places = wanted // self.rows, wanted % self.rows
        shuffled = shuffled_places(places, self.rows, seed=self.seed, number=epochs)
        positions: Positions = epochs * self.rows + shuffled
        return positions


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """The global batch of every step."""

    lengths: Column
    """Tokens of each row."""
    global_batch_size: int
    """Rows per step."""
    seed: int
    grouping: int = 50
    """Batches in a window of like-length grouping; 0 keeps the stream's own order."""
    stream: SampleStream | None = None
    """The samples; None: every row once an epoch."""

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64 [global_batch_size]."""
        if not self.grouping:
            return self._samples(step * self.global_batch_size, self.global_batch_size)
        batch: Positions = self._window(step // self.grouping)[step % self.grouping]
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

    def _samples(self, start: int, count: int) -> Positions:
        return (self.stream or ShuffledRows(len(self.lengths), self.seed)).positions(start, count)

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run
    def _window(self, window: int) -> Positions:
        size = self.global_batch_size * self.grouping
        positions = self._samples(window * size, size)
        lengths = self.lengths[positions % len(self.lengths)]
        by_length = positions[np.argsort(lengths, kind="stable")]
        batches = by_length.reshape(self.grouping, self.global_batch_size)
        places = np.arange(self.grouping, dtype=np.int64)
        # Windows have shuffles of their own: theirs are numbered below zero, epochs from zero on.
        order = shuffled_places(places, self.grouping, seed=self.seed, number=-1 - window)
        shuffled: Positions = batches[order]
        return shuffled
