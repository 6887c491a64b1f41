"""Rows from CSV and TSV: quoted cells may hold line ends, and a header names the columns."""

import csv
from collections.abc import Iterator, Sequence

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.lines import MAX_LINE_BYTES, numbered_lines
from dlm.data.sources.opening import TextReader
from dlm.data.sources.places import Place, Row
from dlm.errors import UserError

_ENDLESS = ("unexpected end of data", "field larger than field limit")


def delimited_rows(
    file: TextReader,
    origin: str,
    bad_rows: BadRows,
    *,
    delimiter: str,
    columns: Sequence[str] = (),
    unquoted: bool = False,
    skip_first: bool = False,
    blank_begins: bool = False,
) -> Iterator[tuple[Place, Row]]:
    """Every record as texts by column, placed at its first line; blank lines are left out.

    ``columns`` names the columns of a file without a header. ``unquoted``: a quote mark is a
    character like any other. ``skip_first``: the first line is no record. ``blank_begins``: blanks
    that begin a cell are no part of it. Blanks around the names of a header never are.

    Raises:
        UserError: The header has a name twice, or a quote mark is never closed (which would make
            one cell of the rest of the file).
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    problems: list[str] = []  # of the lines that the reader took for its latest record
    reader = csv.reader(
        _lines(file, problems), delimiter=delimiter, strict=True,
        quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL, skipinitialspace=blank_begins,
    )  # fmt: skip
    if skip_first:
        next(reader, None)
    header, tabs = list(columns), delimiter == "\t"
    while True:
        place = Place(origin, reader.line_num + 1, "line")
        problems.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error).startswith(_ENDLESS):
                raise UserError(
                    f"{place}: a quote mark that is opened from here on is never closed: close "
                    "it, or set `unquoted: true` on the source if quote marks are plain text"
                ) from error
            bad_rows.bad(
                place,
                f"not a record ({error}): correct it, or set `unquoted: true` on the source if "
                "quote marks are plain text",
            )
            continue
        if problems:
            bad_rows.bad(place, problems[0])
        elif not header:
            header = _checked_header([name.strip() for name in cells], place)
        elif cells and len(cells) != len(header):
            named = "`columns` names" if columns else "the header has"
            bad_rows.bad(
                place,
                f"{_cells(cells)} where {named} {len(header)}: correct the row, or say the "
                f"`delimiter` of the source, which is read as {shown(delimiter)}",
            )
        elif tabs and reader.line_num > place.number + 1 and _swallowed(cells):
            bad_rows.bad(
                place,
                f"a quote mark is closed only in line {reader.line_num}, and the lines between "
                "look like records: set `unquoted: true` on the source if quote marks are plain "
                "text, or close it",
            )
        elif cells:
            yield place, dict(zip(header, cells, strict=True))


def _lines(file: TextReader, problems: list[str]) -> Iterator[str]:
    for _, line, problem in numbered_lines(file):
        if problem:
            problems.append(problem)
        yield line + "\n"


def _swallowed(cells: list[str]) -> bool:
    """Whether a cell of a table of tabs holds whole lines of as many cells as the record has.

    Quote marks in TSV are mostly plain text: one at the beginning of a cell and one at the end of
    another, lines later, would make one record of all between them. (In CSV, texts of several
    lines with a comma or two in each are usual.)
    """
    between = [line for cell in cells for line in cell.split("\n")[1:-1]]
    return (
        bool(between)
        and len(cells) > 1
        and all(line.count("\t") == len(cells) - 1 for line in between)
    )


def _checked_header(cells: list[str], place: Place) -> list[str]:
    twice = sorted({name for name in cells if cells.count(name) > 1})
    if twice == [""]:
        raise UserError(
            f"{place}: the header has {cells.count('')} columns without a name: name them, or "
            "remove them"
        )
    if twice:
        raise UserError(
            f"{place}: the header names '{twice[0]}' twice: correct it, or set `columns` on the "
            "source if the file has no header"
        )
    return cells


def shown(delimiter: str) -> str:
    """A delimiter for messages."""
    return "tab" if delimiter == "\t" else f"'{delimiter}'"


def _cells(cells: list[str]) -> str:
    return f"{len(cells)} cell{'s' if len(cells) != 1 else ''}"
