"""Rows from CSV and TSV: quoted cells may hold line ends, and a header names the columns."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.commands import TEXT, python_command
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
    encoding: str = "utf-8",
) -> Iterator[tuple[Place, Row]]:
    """Every record as texts by column, placed at its first line; blank lines are left out.

    ``columns`` names the columns of a file without a header. ``unquoted``: a quote mark is a
    character like any other. ``skip_first``: the first line is no record. ``blank_begins``: blanks
    that begin a cell are no part of it. Blanks around the names of a header never are.
    ``encoding`` is that of the file, for the command of a message.

    Raises:
        UserError: The header has a name twice, or a quote mark is never closed (which would make
            one cell of the rest of the file).
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    lines: list[str] = []  # that the reader took for its latest record,
    problems: list[str] = []  # and what is wrong with them
    reader = csv.reader(
        _lines(file, lines, problems), delimiter=delimiter, strict=True,
        quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL, skipinitialspace=blank_begins,
    )  # fmt: skip
    if skip_first:
        next(reader, None)
    header, tabs = list(columns), delimiter == "\t"
    while True:
        place = Place(origin, reader.line_num + 1, "line")
        lines.clear()
        problems.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            endless = str(error).startswith(_ENDLESS)  # its lines are the rest of the file
            escaped = _escaped(lines[:1] if endless else lines, origin, delimiter, encoding)
            if endless:
                raise UserError(
                    f"{place}: a quote mark that is opened from here on is never closed: "
                    f"{escaped or f'close it, or {_UNQUOTED}'}"
                ) from error
            remedy = escaped or f"correct it, or {_UNQUOTED}"
            bad_rows.bad(place, f"not a record ({error}): {remedy}")
            continue
        if problems:
            bad_rows.bad(place, problems[0])
        elif not header:
            header = _checked_header(_names(cells), place)
        elif cells and len(cells) != len(header):
            named = "`columns` names" if columns else "the header has"
            escaped = "" if unquoted else _escaped(lines, origin, delimiter, encoding)
            remedy = escaped or (
                "correct the row, or say the `delimiter` of the source, which is read as "
                f"{shown(delimiter)}"
            )
            bad_rows.bad(place, f"{_cells(cells)} where {named} {len(header)}: {remedy}")
        elif not columns and _names(cells) == header:
            bad_rows.bad(
                place,
                "the header once more, as in files that were joined: remove the line (where it is "
                "a row, remove the file's first line and name the `columns` of the source)",
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


_UNQUOTED = "set `unquoted: true` on the source if quote marks are plain text"


def _escaped(lines: list[str], origin: str, delimiter: str, encoding: str) -> str:
    """The remedy where a backslash stands before quote marks within a cell; empty elsewhere."""
    if not any('\\"' in line for line in lines):
        return ""
    program = (
        f'csv.writer(sys.stdout).writerows(csv.reader(io.StringIO({TEXT}, newline=""), '
        f'delimiter={json.dumps(delimiter)}, escapechar="\\\\", doublequote=False))'
    )
    command = python_command(program, Path(origin), encoding, "csv", "csv", "io")
    return f'quote marks within a cell are written \\", where CSV doubles them: `{command}`'


def _names(cells: list[str]) -> list[str]:
    """The names that a header's cells are; in the midst of a file one may begin with a mark."""
    if cells and cells[0].startswith("\ufeff"):
        cells = [cells[0].removeprefix("\ufeff").strip().strip('"'), *cells[1:]]
    return [name.strip() for name in cells]


def _lines(file: TextReader, lines: list[str], problems: list[str]) -> Iterator[str]:
    for _, line, problem in numbered_lines(file):
        lines.append(line)
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
