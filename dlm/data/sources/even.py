"""A limit over several files: as many rows of each, as far as each has them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

Rows = Callable[[Path], Iterator[Any]]
"""The rows of a file that can be used, from the first on."""


def rows_of_each(files: Sequence[Path], limit: int, rows_of: Rows) -> list[int]:
    """How many rows each file gives, so that together there are ``limit``, or all.

    Files that have fewer give all of theirs, and the others make up for it. Rows are counted, but
    no more than may be needed: ``rows_of`` is called anew where a file turns out to be short.
    """
    most = 2 * -(-limit // len(files))
    while True:
        counts = [sum(1 for _ in islice(rows_of(file), most)) for file in files]
        if sum(counts) >= limit or max(counts) < most:
            return shares(counts, limit)
        most *= 2


def shares(counts: Sequence[int], limit: int) -> list[int]:
    """``limit`` dealt out alike among files with this many rows; what is left over after that goes,
    one row each, to files that have more, at even distances."""
    level = 0
    for count in sorted({*counts, limit}):
        if sum(min(own, count) for own in counts) > limit:
            break
        level = count
    larger = [number for number, count in enumerate(counts) if count > level]
    rest = limit - sum(min(count, level) for count in counts)
    if larger and rest > 0:
        more, rest = divmod(rest, len(larger))
        level += more
    given = [min(count, level) for count in counts]
    for place, number in enumerate(larger):
        given[number] += (place + 1) * rest // len(larger) - place * rest // len(larger)
    return given
