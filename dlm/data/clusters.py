"""Rows that share something, such as a paragraph: their scores are not independent."""

import re
from dataclasses import dataclass

from dlm.data.sources import BadRow, Place, Row
from dlm.data.tasks.pieces import field_of, text_of


@dataclass(frozen=True)
class Cluster:
    """What rows of one cluster have in common: a field, or a part of it."""

    field: str
    pattern: str = ""
    """A regular expression with a group; the last place in the field where it fits."""

    def of(self, row: Row, place: Place) -> str:
        """The text that the row's cluster shares.

        Raises:
            BadRow: The field is missing or no text, or the pattern fits nowhere in it.
        """
        value = text_of(field_of(row, self.field, place), self.field, place)
        if not self.pattern:
            return value
        found = re.findall(self.pattern, value, re.DOTALL)
        if not found:
            raise BadRow(
                place,
                f"the pattern of `cluster` fits nowhere in field '{self.field}': correct the "
                "pattern of the task, or the row",
            )
        return str(found[-1])


def cluster_numbers(shared: list[str]) -> list[int]:
    """Of every row the first row (from 0) that shares its text."""
    first: dict[str, int] = {}
    return [first.setdefault(text, index) for index, text in enumerate(shared)]
