"""Work that several ranks share: each does some of the items, all get every result."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from dlm.host_memory import give_back

Item = TypeVar("Item")
Result = TypeVar("Result")


class Share(Protocol):
    """What one process has of the work of all."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""

    @property
    def size(self) -> int:
        """How many processes share the work."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of every item, in their order; every rank calls it with the same items.

        Items go round the ranks one by one, so those of like size, side by side, are shared evenly.
        """

    def of_first(self, make: Callable[[], Result]) -> Result:
        """What rank 0 makes, on every rank: a decision that all must take alike."""


class Alone:
    """One process: all of it is its own."""

    first = True
    size = 1

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of every item."""
        results = []
        for item in items:
            results.append(work(item))
            give_back()
        return results

    def of_first(self, make: Callable[[], Result]) -> Result:
        """What it makes."""
        return make()


ALONE = Alone()
