"""Global batches of this many tokens, not rows: which samples, a function of (seed, step) alone.

The stream is cut into windows of equally many samples, and where epochs end among these into runs
that do not go from one to the next. A run is sorted by length and cut into batches of like length
whose padded size, rows x longest, is within the budget; without grouping it keeps the stream's
order, and the sum of a batch's lengths is. About a batch of samples around an epoch's end is a run
of its own, in which that epoch stays before the next. A window's batches are known from its
lengths, so that the window of a step is found by counting the batches of those before it.
"""

import heapq
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dlm.data.batches.epochs import (
    SampleStream,
    ShuffledRows,
    order_within,
    runs_within_epochs,
)
from dlm.data.batches.order import WholeWindows
from dlm.data.rows.protocol import Column
from dlm.data.shuffle import Positions, shuffled_places

_UNGROUPED = 50
_MEASURED = 4096
_PART = 1 << 20
_MOST = 2
"""Without grouping a batch has at most this many times the usual number of rows: copies of a row
are that far apart. Short rows seldom come together in such numbers."""


class WindowPlace(NamedTuple):
    """Where a window stands among the steps."""

    window: int
    first_step: int


@dataclass(frozen=True)
class _Window:
    positions: Positions
    """Its samples, batch after batch."""
    bounds: Positions
    """Where each batch begins; the last entry is the end."""


class TokenBudgetOrder:
    """The global batch of every step, of at most this many tokens."""

    def __init__(
        self,
        lengths: Column,
        tokens: int,
        seed: int,
        grouping: int = 50,
        *,
        packed: bool = False,
        stream: SampleStream | None = None,
        known: WindowPlace = WindowPlace(0, 0),  # noqa: B008 - it cannot change
    ) -> None:
        """
        Args:
            lengths: tokens of each row, none above ``tokens``.
            tokens: the budget of a global batch.
            seed: decides the order.
            grouping: about this many batches in a window of like-length grouping; 0 keeps the
                stream's order.
            packed: how devices share a batch: by real tokens, or by padded ones.
            stream: the samples; None: every row once an epoch.
            known: a window whose first step is known: what comes before need not be counted.
        """
        self.lengths, self.tokens, self.seed, self.packed = lengths, tokens, seed, packed
        self.grouped = grouping > 0
        samples: SampleStream = stream or ShuffledRows(len(lengths), seed)
        measured = samples.positions(0, min(_MEASURED, len(lengths)))
        mean = float(self._lengths_of(measured).mean())
        self.usual_rows = max(1, int(tokens / mean))
        self.samples_per_window = (grouping or _UNGROUPED) * self.usual_rows
        self._most_rows = self.usual_rows if self.grouped else _MOST * self.usual_rows
        self.stream = samples.spread(self._most_rows, self.samples_per_window)
        self._window = lru_cache(maxsize=4)(self._cut_window)
        self._known = known.window
        self._first_steps = [known.first_step]

    def batch(self, step: int) -> Positions:
        """Sample positions of the step's global batch, int64."""
        place = self.window_of(step)
        window, number = self._window(place.window), step - place.first_step
        return window.positions[window.bounds[number] : window.bounds[number + 1]]

    def samples_before(self, step: int) -> int:
        """Samples of all earlier steps."""
        place = self.window_of(step)
        inside = self._window(place.window).bounds[step - place.first_step]
        return place.window * self.samples_per_window + int(inside)

    def whole_windows(self, step: int) -> WholeWindows:
        """See ``GlobalBatches``."""
        place = self.window_of(step)
        return WholeWindows(place.first_step, place.window * self.samples_per_window)

    def window_of(self, step: int) -> WindowPlace:
        """The window that holds a step."""
        if step < self._first_steps[0]:
            self._known, self._first_steps = 0, [0]
        while step >= self._first_steps[-1]:
            batches = len(self._window(self._known + len(self._first_steps) - 1).bounds) - 1
            self._first_steps.append(self._first_steps[-1] + batches)
        number = bisect_right(self._first_steps, step) - 1
        return WindowPlace(self._known + number, self._first_steps[number])

    def parts(self, batch: Positions, devices: int, accumulate: int) -> list[list[Positions]]:
        """Places in the batch that each device takes, by device and micro-batch: parts of nearly
        equal tokens, none without a row if the budget is at least ``smallest_budget``."""
        split = equal_sums if self.packed else equal_areas
        parts = split(self._lengths_of(batch), devices * accumulate)
        return [parts[rank::devices] for rank in range(devices)]

    def _lengths_of(self, positions: Positions) -> Positions:
        return self.lengths[positions % len(self.lengths)]

    def _longest_first(self, positions: Positions) -> Positions:
        return np.argsort(-self._lengths_of(positions), kind="stable")

    def _order_over_border(self, positions: Positions) -> Positions:
        """Samples among which sources go from one epoch to the next: what ends an epoch shortest
        first, then what begins one longest first, so that neighbours are of like length. As they
        are where a row occurs twice: the stream has its copies far apart."""
        rows = positions % len(self.lengths)
        if len(np.unique(rows)) < len(rows):
            return np.arange(len(rows))
        sources, passes = self.stream.source_of(positions), positions // len(self.lengths)
        earliest = np.full(int(sources.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(earliest, sources, passes)
        later = passes > earliest[sources]
        lengths = self._lengths_of(positions)
        return np.lexsort((np.where(later, -lengths, lengths), later))

    def _cut_window(self, window: int) -> _Window:
        size = self.samples_per_window
        positions = self.stream.positions(window * size, size)
        if not self.grouped:
            lengths = self._lengths_of(positions)
            return _Window(positions, np.array(cut_in_order(lengths, self.tokens, self._most_rows)))
        batches: list[Positions] = []
        mixed: list[tuple[int, int]] = []  # from which to which batch the order is shuffled
        rows, unit = len(self.lengths), self.usual_rows
        for first, end, border in runs_within_epochs(self.stream, positions, rows, unit):
            run = positions[first * unit : end * unit]
            run = run[self._order_over_border(run) if border else self._longest_first(run)]
            bounds = cut_padded(self._lengths_of(run), self.tokens)
            if not border:
                mixed.append((len(batches), len(batches) + len(bounds) - 1))
            batches += np.split(run, bounds[1:-1])
        places = np.arange(len(batches), dtype=np.int64)
        # Windows have shuffles of their own: theirs are numbered below zero, epochs from zero on.
        order = shuffled_places(places, len(batches), seed=self.seed, number=-1 - window)
        for first, end in mixed:
            places[first:end] = first + order_within(order[first:end])
        shuffled = [batches[number] for number in places]
        return _Window(np.concatenate(shuffled), np.cumsum([0, *map(len, shuffled)]))


def longest_row(lengths: Column) -> int:
    """Tokens of the longest row, looked at part by part: a large data set's lengths are on disk."""
    starts = range(0, len(lengths), _PART)
    ends = (min(start + _PART, len(lengths)) for start in starts)
    parts = (np.arange(start, end) for start, end in zip(starts, ends, strict=True))
    return max(int(lengths[part].max()) for part in parts)


def smallest_budget(longest: int, parts: int) -> int:
    """Tokens with which every batch has rows for this many devices and micro-batches: a batch has
    at least half as many rows as rows of the greatest length would fit."""
    return longest if parts == 1 else 2 * parts * longest


def cut_padded(lengths: Positions, tokens: int) -> list[int]:
    """Bounds of batches of rows x longest <= tokens."""

    def reach(start: int) -> int:
        longest = np.maximum.accumulate(lengths[start : start + tokens // int(lengths[start])])
        areas = longest * np.arange(1, len(longest) + 1)
        return start + int(np.searchsorted(areas, tokens, side="right"))

    def area(start: int, end: int) -> int:
        return (end - start) * int(lengths[start:end].max())

    return _cut(len(lengths), tokens, reach, area)


def cut_in_order(lengths: Positions, tokens: int, most: int) -> list[int]:
    """Bounds of batches of at most ``most`` rows whose lengths sum to <= tokens."""
    sums = np.cumsum([0, *lengths])

    def reach(start: int) -> int:
        fits = int(np.searchsorted(sums, sums[start] + tokens, side="right")) - 1
        return min(fits, start + most)

    def area(start: int, end: int) -> int:
        return int(sums[end] - sums[start])

    return _cut(len(lengths), tokens, reach, area)


def _cut(
    count: int, tokens: int, reach: Callable[[int], int], area: Callable[[int, int], int]
) -> list[int]:
    bounds = [0]
    while bounds[-1] < count:
        bounds.append(min(count, max(bounds[-1] + 1, reach(bounds[-1]))))
    if len(bounds) > 2:
        # The last batch has what was left over: it takes rows of the one before.
        before, last, end = bounds[-3:]
        while last - before > end - last + 1 and area(last - 1, end) <= tokens:
            last -= 1
        bounds[-2] = last
    return bounds


def equal_areas(lengths: Positions, parts: int) -> list[Positions]:
    """Places of ``lengths`` in this many parts of like length, the greatest rows x longest as small
    as it can be."""
    longest_first = np.argsort(-lengths, kind="stable")
    fallen = lengths[longest_first]
    low, high = int(fallen[0]), int(fallen[0]) * len(lengths)
    while low < high:
        middle = (low + high) // 2
        if len(_areas_within(fallen, middle)) - 1 <= parts:
            high = middle
        else:
            low = middle + 1
    bounds = _areas_within(fallen, low)
    while len(bounds) - 1 < min(parts, len(lengths)):
        widest = int(np.argmax(np.diff(bounds)))
        bounds.insert(widest + 1, (bounds[widest] + bounds[widest + 1]) // 2)
    return np.split(longest_first, bounds[1:-1])


def _areas_within(fallen: Positions, tokens: int) -> list[int]:
    bounds = [0]
    while bounds[-1] < len(fallen):
        bounds.append(min(len(fallen), bounds[-1] + tokens // int(fallen[bounds[-1]])))
    return bounds


def equal_sums(lengths: Positions, parts: int) -> list[Positions]:
    """Places of ``lengths`` in this many parts of nearly equal sums: the longest first, each where
    there is least so far."""
    sums = [(0, number) for number in range(parts)]
    members: list[list[int]] = [[] for _ in range(parts)]
    for place in np.argsort(-lengths, kind="stable").tolist():
        total, least = sums[0]
        members[least].append(place)
        heapq.heapreplace(sums, (total + int(lengths[place]), least))
    return [np.array(part, dtype=np.int64) for part in members]
