"""The endless stream of samples: shuffled epochs one after the other, copies of a row far apart.

An epoch's shuffle knows nothing of the one before, so that a row at the end of one may stand at the
beginning of the next, and a batch that holds the border would hold the row twice. ``apart`` forbids
it: among that many consecutive samples no row occurs twice if there are as many rows, and else each
occurs equally often, to within one. Any part of the stream can still be asked for: an epoch depends
on the shuffle of the one before, never on what was done to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from heapq import heappop, heappush
from math import gcd
from typing import NamedTuple, Protocol, Self

import numpy as np

from dlm.data.shuffle import Positions, shuffled_places
from dlm.diffusion.counter import counter_seed

_STREAM = 109
_CHUNK = 1024
"""The beginnings of epochs are made for about this many rows at once."""


class SampleStream(Protocol):
    """An endless sequence of samples, any part of which can be asked for.

    A sample's position is pass x rows + row: it never occurs twice in a run.
    """

    def positions(self, start: int, count: int) -> Positions:
        """Samples number start..start+count-1, int64 [count]."""

    def source_of(self, positions: Positions) -> Positions:
        """The source of each position, int64 in the same shape: each walks its own epochs."""

    def spread(self, apart: int, cut: int) -> Self:
        """The same samples in an order that keeps copies of a row apart, for batches of at most
        ``apart`` consecutive samples, none of which reaches over a multiple of ``cut``."""


@dataclass(frozen=True)
class ShuffledRows:
    """Every row once an epoch, in an order of each epoch's own."""

    rows: int
    seed: int
    apart: int = 1
    """Among this many consecutive samples every row is another, or all occur equally often."""
    cut: int | None = None
    """Where an epoch begins at a multiple of this, earlier ones need not be looked at."""

    def positions(self, start: int, count: int) -> Positions:
        """See ``SampleStream``; the pass is the epoch."""
        wanted = np.arange(start, start + count, dtype=np.int64)
        epochs, places = wanted // self.rows, wanted % self.rows
        if self.rows < 2 * self.apart:
            return epochs * self.rows + self._in_neighbourhoods(epochs, places)
        found = shuffled_places(places, self.rows, seed=self.seed, number=epochs)
        for epoch in range(start // self.rows, -(-(start + count) // self.rows)):
            chunk = max(1, _CHUNK // self.apart)
            head = _heads(self.rows, self.seed, self.apart, chunk, epoch // chunk)[epoch % chunk]
            begin = epoch * self.rows - start
            first, end = max(0, -begin), min(len(head), count - begin)
            if first < end:
                found[begin + first : begin + end] = head[first:end]
        positions: Positions = epochs * self.rows + found
        return positions

    def source_of(self, positions: Positions) -> Positions:
        """See ``SampleStream``: there is one."""
        return np.zeros_like(positions)

    def spread(self, apart: int, cut: int) -> Self:
        """See ``SampleStream``."""
        return replace(self, apart=apart, cut=cut)

    def _in_neighbourhoods(self, epochs: Positions, places: Positions) -> Positions:
        """Of rows so few that an epoch has no middle: one order of them, in which each epoch
        shuffles neighbourhoods so small that copies stay apart. Where an epoch begins with a batch
        they begin with another order."""
        width = self.rows - min(self.apart, self.rows) + 1
        number, inside = places // width, places % width
        blocks = -(-self.rows // width)
        numbers = epochs * blocks + number
        seed = counter_seed(self.seed, _STREAM)
        moved = np.empty_like(places)
        for here, size in (
            (number < blocks - 1, width),
            (number == blocks - 1, self.rows - (blocks - 1) * width),
        ):
            moved[here] = shuffled_places(inside[here], size, seed=seed, number=numbers[here])
        same = self.cut // gcd(self.cut, self.rows) if self.cut else None
        orders = epochs // same if same else np.zeros_like(epochs)
        return shuffled_places(number * width + moved, self.rows, seed=self.seed, number=orders)


@lru_cache(maxsize=64)
def _heads(rows: int, seed: int, apart: int, epochs: int, chunk: int) -> list[Positions]:
    """The rows at the first places of epochs, as far as they are not those of their shuffles.

    A row that the epoch before had less than ``apart`` samples ago waits; later ones go ahead of
    it. With at least 2 x ``apart`` rows there are always enough of these before the last ``apart``
    places, so that what the next epoch looks at is the shuffle's.
    """
    near = apart - 1
    if near == 0:
        return [np.empty(0, dtype=np.int64)] * epochs
    numbers = np.arange(chunk * epochs, (chunk + 1) * epochs, dtype=np.int64)[:, None]
    last, first = np.arange(rows - near, rows), np.arange(2 * apart)
    # All at once: a shuffle costs its many small steps, not its rows.
    places = np.tile(np.concatenate([last, first]), (epochs, 1))
    which = np.concatenate([numbers - 1 + 0 * last, numbers + 0 * first], axis=1)
    found = shuffled_places(places, rows, seed=seed, number=which)

    def more(number: int, place: int) -> list[int]:
        further = np.arange(place, min(rows, place + apart), dtype=np.int64)
        items: list[int] = shuffled_places(further, rows, seed=seed, number=number).tolist()
        return items

    return [
        np.array(
            _head(line[:near], line[near:], partial(more, number)) if number else [],
            dtype=np.int64,
        )
        for line, number in zip(found.tolist(), numbers[:, 0].tolist(), strict=True)
    ]


def _head(before: list[int], ours: list[int], more: Callable[[int], list[int]]) -> list[int]:
    """The first rows of an epoch, as far as ``ours`` must change: the row at place i of ``before``,
    the last ones of the epoch before, may come at place i + 1 or later."""
    earliest = {row: place for place, row in enumerate(before, start=1)}
    late = [place for place, row in enumerate(ours) if earliest.get(row, 0) > place]
    head: list[int] = []
    waiting: list[tuple[int, int]] = []
    taken = 0
    while late and (taken <= late[-1] or waiting):
        if waiting and waiting[0][0] <= len(head):
            head.append(heappop(waiting)[1])
            continue
        if taken == len(ours):
            ours = ours + more(taken)
        row = ours[taken]
        taken += 1
        if earliest.get(row, 0) <= len(head):
            head.append(row)
        else:
            heappush(waiting, (earliest[row], row))
    return head


class Run(NamedTuple):
    """Consecutive units of samples, ``first`` to ``end - 1``."""

    first: int
    end: int
    border: bool
    """One unit, in which a source goes from one epoch to the next."""


def runs_within_epochs(
    stream: SampleStream, positions: Positions, rows: int, unit: int
) -> list[Run]:
    """Consecutive samples as runs of units of this many, in none of which a source goes from one
    epoch to the next; a unit that holds such a border is a run of its own.

    So a run's samples may be put into any order: a row occurs once, and the epochs of a source stay
    one after the other.
    """
    passes, sources = positions // rows, stream.source_of(positions)
    units = len(positions) // unit
    unit_of = np.repeat(np.arange(units), unit)
    first = np.full((units, int(sources.max()) + 1), np.iinfo(np.int64).max)
    last = np.full_like(first, -1)
    np.minimum.at(first, (unit_of, sources), passes)
    np.maximum.at(last, (unit_of, sources), passes)
    runs: list[Run] = []
    begin, epoch = 0, np.full_like(first[0], -1)
    for number, (low, high) in enumerate(zip(first, last, strict=True)):
        drawn, border = high >= 0, bool((high > low).any())
        if border or (drawn & (epoch >= 0) & (epoch != low)).any():
            if begin < number:
                runs.append(Run(begin, number, False))
            begin, epoch = number, np.full_like(epoch, -1)
        if border:
            runs.append(Run(number, number + 1, True))
            begin = number + 1
        else:
            epoch = np.where(drawn, low, epoch)
    if begin < units:
        runs.append(Run(begin, units, False))
    return runs


def order_within(order: Positions) -> Positions:
    """Part of a shuffle as a shuffle of its own, 0..n-1: of the whole it is the whole."""
    ranks: Positions = np.argsort(np.argsort(order)).astype(np.int64)
    return ranks
