"""Mixtures: which sample of which source is drawn when.

The endless stream of draws is cut into blocks. Every source has a quota in each block, from
cumulative rounding: the sources' shares are laid end to end over the block and the ends rounded to
whole draws. Where the rounding begins moves from block to block, through every one of ``_PERIOD``
offsets, so that over a period the quotas add up to the share exactly (to 1 in 2 ** 20 draws) and
the sum of all earlier quotas is one line of arithmetic. So any part of the stream can be asked for.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Self

import numpy as np

from dlm.data.batches.epochs import ShuffledRows
from dlm.data.shuffle import Positions, shuffled_places
from dlm.diffusion.counter import counter_seed

BLOCK = 1024
"""Draws of a block: in each the sources have their shares to within one draw."""
_PERIOD = 1024
_STEP = 633
"""Odd, so that its multiples meet every offset of the period; near the golden section of it, so
that neighbouring blocks round differently."""
_STREAM = 107


@dataclass(frozen=True)
class MixtureStream:
    """A ``SampleStream`` over sources whose rows stand one source after the other.

    Each source walks its own shuffled epochs; its epoch is the pass of a position.
    """

    rows: tuple[int, ...]
    """Rows of each source, at least 1."""
    shares: tuple[float, ...]
    """Share of each source, above 0; they add up to 1."""
    seed: int
    apart: int = 1
    """See ``ShuffledRows``: here of each source's rows."""

    def positions(self, start: int, count: int) -> Positions:
        """Samples number start..start+count-1, int64 [count]: epoch x all rows + row."""
        first, last = start // BLOCK, -(-(start + count) // BLOCK)
        offset = start - first * BLOCK
        return self._blocks(first, last)[offset : offset + count]

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as the run; neighbouring batches share blocks
    def _blocks(self, first: int, last: int) -> Positions:
        blocks = np.arange(first, last, dtype=np.int64)
        before = self._drawn(np.arange(first, last + 1, dtype=np.int64))  # [blocks + 1, sources]
        ends = np.diff(before, axis=0).cumsum(axis=1)  # [blocks, sources]
        places = np.tile(np.arange(BLOCK), (len(blocks), 1))
        items = shuffled_places(places, BLOCK, seed=self.seed, number=blocks[:, None])
        source = np.stack(
            [np.searchsorted(end, row, side="right") for end, row in zip(ends, items, strict=True)]
        )
        # In each block the draws of a source come in their order, so that an epoch is finished
        # before the next: a draw's number is that of the earlier ones of its source in the block.
        block = np.arange(len(blocks))[:, None]
        begins = ends - np.diff(before, axis=0)
        by_source = np.argsort(source, axis=1, kind="stable")
        draw = np.empty_like(items)
        draw[block, by_source] = places - begins[block, source[block, by_source]]
        draw += before[block, source]
        result = np.empty_like(items)
        for number in np.unique(source):
            mine = source == number
            result[mine] = self._positions_of(int(number), before[:, number])[
                draw[mine] - before[0, number]
            ]
        drawn: Positions = result.flatten()
        return drawn

    def source_of(self, positions: Positions) -> Positions:
        """The source of each position, int64 in the same shape."""
        places = positions % self._total
        found: Positions = np.searchsorted(self._ends, places, side="right").astype(np.int64)
        return found

    def spread(self, apart: int, cut: int) -> Self:
        """See ``SampleStream``. (Where a source's epoch begins with a batch is not looked for.)"""
        return replace(self, apart=apart)

    def _most_drawn(self, source: int) -> int:
        """Draws of a source among ``apart`` consecutive ones, or more."""
        blocks = 1 + -(-(self.apart - 1) // BLOCK)
        most: int = min(self.apart, blocks * int(np.diff(self._table[:, source]).max()))
        return most

    def _positions_of(self, source: int, drawn: Positions) -> Positions:
        """A source's draws number drawn[0]..drawn[-1]-1."""
        rows, seed = self.rows[source], counter_seed(self.seed, _STREAM, source)
        stream = ShuffledRows(rows, seed, max(1, self._most_drawn(source)))
        own = stream.positions(int(drawn[0]), int(drawn[-1] - drawn[0]))
        found: Positions = own // rows * self._total + own % rows + self._ends[source] - rows
        return found

    def _drawn(self, blocks: Positions) -> Positions:
        """How often each source was drawn in the blocks before these, int64 [blocks, sources]."""
        periods, rest = blocks // _PERIOD, blocks % _PERIOD
        drawn: Positions = periods[:, None] * self._table[-1] + self._table[rest]
        return drawn

    @property
    def _total(self) -> int:
        return sum(self.rows)

    @cached_property
    def _ends(self) -> Positions:
        return np.array(list(accumulate(self.rows)), dtype=np.int64)

    @cached_property
    def _table(self) -> Positions:
        """Draws of each source in the first this many blocks of a period, [_PERIOD + 1, sources].

        Hermite's identity: floor((K + b) / P) summed over b = 0..P-1 is K, for whole K.
        """
        ends = np.rint(np.cumsum(self.shares) * (BLOCK * _PERIOD)).astype(np.int64)
        ends[-1] = BLOCK * _PERIOD
        offset = np.arange(_PERIOD, dtype=np.int64)[:, None] * _STEP % _PERIOD
        quotas = np.diff((ends[None] + offset) // _PERIOD, axis=1, prepend=0)
        table: Positions = np.concatenate([np.zeros_like(quotas[:1]), quotas.cumsum(axis=0)])
        return table
