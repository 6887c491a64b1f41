"""What the beginning of a table says of its delimiter and of blanks at the edges of its cells."""

import csv
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

from dlm.data.sources.commands import TEXT, python_command

Blanks = Literal["", "header", "cells"]
"""Blanks that are no part of a table's texts: none, those around the names of the header, or these
and those behind every delimiter."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ ,;\t]*\r?(?:\n|\Z)')
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CANDIDATES = ";\t|,"
_RECORDS = 20


def separator_line(text: str) -> str | None:
    """The delimiter that Excel's first line ``sep=;`` names; None where there is no such line."""
    found = _SEPARATOR_LINE.match(text)
    return found[1] if found else None


def several_characters(text: str, path: Path, encoding: str) -> str | None:
    """What a table is whose first line has three bars between cells; None: it has not.

    ``encoding`` is that of the file, for the command of the message.
    """
    if " ||| " not in text.partition("\n")[0]:
        return None
    program = f'print({TEXT}.replace(" ||| ", "\\t"), end="")'
    return (
        "a table with ' ||| ' between cells (fast_align's), where a delimiter is one character: "
        f"write tabs, `{python_command(program, path, encoding, 'tsv')}`, or set `delimiter` if "
        "bars are text"
    )


def table_delimiter(text: str, usual: str, columns: int) -> str:
    """The usual delimiter, or another that splits the beginning of a table where that does not.

    Another one counts where it gives the header and a record behind it (or, of a table without a
    header, the first record and ``columns`` names) the same number of cells, two or more.
    """
    if [len(cells) for cells in _records(text, usual, 1)] != [1]:
        return usual
    found: dict[str, int] = {}
    for delimiter in _CANDIDATES.replace(usual, ""):
        widths = [len(cells) for cells in _records(text, delimiter, _RECORDS)]
        first = widths[0] if widths else 0
        fits = first == columns if columns else first in widths[1:] or len(widths) == 1
        if first > 1 and fits:
            found[delimiter] = first
    return max(found, key=found.__getitem__, default=usual)


def edge_blanks(text: str, delimiter: str, *, header: bool) -> Blanks:
    """Which blanks at the edges of cells are no part of the texts.

    Those behind every delimiter, where in every record of the text each cell but the first begins
    with one.
    """
    records = _records(text, delimiter, 2)
    names = records[0] if header and records else []
    padded = any(name != name.strip() for name in names)
    if _all_begin_blank(records[len(names) > 0 :]):
        records = _records(text, delimiter, None)
        if _all_begin_blank(records[len(names) > 0 :]):
            return "cells"
    return "header" if padded else ""


def _all_begin_blank(records: list[list[str]]) -> bool:
    behind = [cell for record in records for cell in record[1:]]
    return bool(behind) and all(cell.startswith(" ") for cell in behind)


def _records(text: str, delimiter: str, number: int | None) -> list[list[str]]:
    """The first records that are not blank."""
    lines = (found[0] for found in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter)
    records: list[list[str]] = []
    with suppress(csv.Error):  # what was read until then is enough for a guess
        records += islice((cells for cells in reader if cells), number)
    return records
