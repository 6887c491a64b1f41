"""Which samples make up which step: a pure function, so that a resume needs a step number only.

The epochs' permutations, one after the other, are an endless stream of samples. It is cut into
windows of so many global batches; within a window rows are sorted by length and cut into batches
of like length, whose order is shuffled again. Nothing depends on devices or workers.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from dlm.diffusion.counter import counter_bits

_PERMUTATION, _BATCHES = 101, 102

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """The global batch of every step.

    A sample's position is epoch x rows + index: it never occurs twice in a run.
    """

    lengths: npt.NDArray[np.int64]
    """Tokens of each row."""
    global_batch_size: int
    """Rows per step."""
    seed: int
    grouping: int = 50
    """Batches in a window of like-length grouping; 0 keeps the stream's own order."""

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64 [global_batch_size]."""
        if not self.grouping:
            return self._stream(step * self.global_batch_size, self.global_batch_size)
        batch: Positions = self._window(step // self.grouping)[step % self.grouping]
        return batch

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run
    def _window(self, window: int) -> Positions:
        size = self.global_batch_size * self.grouping
        positions = self._stream(window * size, size)
        lengths = self.lengths[positions % len(self.lengths)]
        by_length = positions[np.argsort(lengths, kind="stable")]
        batches = by_length.reshape(self.grouping, self.global_batch_size)
        order: Positions = batches[_shuffled(self.grouping, self.seed, _BATCHES, window)]
        return order

    def _stream(self, start: int, count: int) -> Positions:
        rows = len(self.lengths)
        wanted = np.arange(start, start + count, dtype=np.int64)
        result = np.empty_like(wanted)
        for epoch in range(start // rows, (start + count - 1) // rows + 1):
            inside = wanted // rows == epoch
            result[inside] = epoch * rows + self._permutation(epoch)[wanted[inside] % rows]
        return result

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run
    def _permutation(self, epoch: int) -> Positions:
        return _shuffled(len(self.lengths), self.seed, _PERMUTATION, epoch)


def _shuffled(count: int, seed: int, stream: int, number: int) -> Positions:
    keys = counter_bits(seed, stream, number, torch.arange(count))
    order: Positions = keys.argsort(stable=True).numpy()
    return order
