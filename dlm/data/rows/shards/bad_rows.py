"""The rows that were skipped while a data set was prepared, kept beside its shards.

Whoever finds the shards finished knows of them as the process does that made them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlm.data.rows.shards.place import writing
from dlm.data.sources import Place
from dlm.files import write_text

BAD_ROWS = "bad_rows.jsonl"


def write_bad_rows(directory: Path, rows: Sequence[tuple[Place, str]]) -> None:
    """One JSON list a line: origin, number and unit of the place, and the reason."""
    if rows:
        lines = (json.dumps([*place, reason], ensure_ascii=False) for place, reason in rows)
        with writing(directory):
            write_text(directory / BAD_ROWS, "".join(f"{line}\n" for line in lines))


def read_bad_rows(directory: Path) -> Iterator[tuple[Place, str]]:
    """What :func:`write_bad_rows` wrote; nothing where no row was skipped."""
    path = directory / BAD_ROWS
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            origin, number, unit, reason = json.loads(line)
            yield Place(origin, number, unit), reason
