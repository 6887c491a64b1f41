"""What becomes of rows that cannot be used: refused together, or skipped, counted and listed."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from dlm.data.sources.places import NUL_REASON, Place, Row, has_nul
from dlm.errors import UserError
from dlm.files import make_folder

_SHOWN = 10


class BadRow(UserError):
    """A row that cannot be used; the message is its place, then the reason with its remedy."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class BadRows:
    """Collects the bad rows of a stage; a row that is read twice counts once.

    Policies: ``first`` refuses the first of them on the spot; ``error`` lets reading go on, and
    :meth:`finish` refuses them together; ``skip`` counts them, and lists them in a file.
    Memory: a few hundred bytes a bad row.
    """

    def __init__(
        self, policy: Literal["first", "error", "skip"] = "first", listing: Path | None = None
    ) -> None:
        """``listing`` is the file that ``skip`` writes: one ``{"place", "reason"}`` a line."""
        self.policy = policy
        self.listing = listing if policy == "skip" else None
        self.met = 0
        """How often a bad row was met, one that is read twice twice."""
        self.hopeless: list[str] = []
        """Files and sources of which every row is bad: they are read in a wrong way."""
        self._rows: dict[tuple[Place, str], None] = {}

    @property
    def rows(self) -> list[tuple[Place, str]]:
        """The bad rows so far, with their reasons."""
        return list(self._rows)

    @property
    def first(self) -> list[str]:
        """The first ten, as place and reason."""
        return [f"{place}: {reason}" for place, reason in islice(self._rows, _SHOWN)]

    @property
    def count(self) -> int:
        """How many there are so far."""
        return len(self._rows)

    def bad(self, place: Place, reason: str) -> None:
        """Take note of a row that is not used.

        Raises:
            BadRow: The policy is ``first``.
        """
        if self.policy == "first":
            raise BadRow(place, reason)
        self.met += 1
        self._rows[place, reason] = None

    def nothing_good_in(self, place: str) -> None:
        """Take note that every row of a file or source is bad."""
        if place not in self.hopeless:
            self.hopeless.append(place)

    def finish(self) -> None:
        """Call it when a set is read to its end (as often as there are sets).

        Raises:
            UserError: The policy is ``error``, and there are bad rows: the first ten are named.
        """
        if self.listing is not None:
            self._list(self.listing)
        if self.policy == "error" and self.count:
            more = self.count - len(self.first)
            raise UserError(
                "\n  ".join([f"{_counted(self.count)}:", *self.first])
                + (f"\n  and {more} more" if more else "")
                + f"\n{self._way_on()}"
            )

    def _way_on(self) -> str:
        if not self.hopeless:
            return "Or leave such rows out: data.on_bad_row=skip counts and lists them"
        return (
            f"Every row of {self.hopeless[0]} is bad, so it is not read as it was written: correct "
            "the file, or `format`, `delimiter`, `encoding` or `fields` of the source"
        )

    def note(self) -> str:
        """One line on what was skipped, for the log; empty where nothing was."""
        if not self.count:
            return ""
        listed = f", listed in {self.listing}" if self.listing is not None else ""
        return f"{_counted(self.count)} skipped{listed}; the first: {self.first[0]}"

    def _list(self, listing: Path) -> None:
        """Write the list anew: what lies there may be of an earlier attempt, over other rows."""
        if not self._rows:
            listing.unlink(missing_ok=True)
            return
        make_folder(listing.parent)
        with listing.open("w", encoding="utf-8") as file:
            for place, reason in self._rows:
                entry = {"place": str(place), "reason": reason}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _counted(number: int) -> str:
    return f"{number} bad row{'s' if number > 1 else ''}"


def placed_rows(rows: Iterable[Row], origin: str, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Rows of a library's data set with their number from 1; one with a NUL character is bad."""
    for number, row in enumerate(rows, start=1):
        place = Place(origin, number)
        if has_nul(row):
            bad_rows.bad(place, NUL_REASON)
        else:
            yield place, row
