"""A validation set from a set that has none: each row's content decides on which side it is."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from dlm.data.sources.bad_rows import BadRow
from dlm.data.sources.places import Place, Row, names_of
from dlm.errors import did_you_mean


@dataclass(frozen=True)
class Holdout:
    """One part of a set that is split by content.

    The row as its source has it (after ``normalise``, before ``fields``) is hashed, so the split
    is the same whatever the order, the file or its format, exact duplicates are on one side, and
    a larger share holds out the rows of a smaller one and more.
    """

    part: Literal["train", "validation"]
    share: float
    """Of the distinct rows, above 0 and below 1, that are held out for validation."""
    by: tuple[str, ...] = ()
    """The fields that are hashed; none: all of them. Rows alike in these are on one side."""

    def has(self, row: Row, place: Place, id_field: str | None = None) -> bool:
        """Whether the row is in this part; its id is no part of its content.

        Raises:
            BadRow: The row lacks a field of ``by``.
        """
        for name in self.by:
            if name not in row:
                raise BadRow(
                    place,
                    f"no field '{name}' to split by (the row has {names_of(row)}"
                    f"{did_you_mean(name, row)}): correct the row, or `holdout.by`",
                )
        names = self.by or (name for name in row if name != id_field)
        held_out = content_position({name: row[name] for name in names}) < self.share
        return held_out == (self.part == "validation")


def content_position(row: Row) -> float:
    """A row's place in [0, 1): a hash of its fields and values, in whatever order they are."""
    # Dates, bytes and the like (Parquet, the hub) have no JSON: their text decides.
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
