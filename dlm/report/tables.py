"""A table that becomes HTML, Markdown or CSV, and whose figures say which file they are from."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

from dlm.quoting import markdown_row, markdown_text

_FEW_FILES = 2


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str = ""
    """As people read it."""
    value: Any = None
    """As programs read it; None for the text."""
    source: str = ""
    """The file, and the place in it, that the cell is from."""
    markup: str = ""
    """HTML in place of the text: a graphic, a badge. Made here, never read from a file."""


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    title: str
    number: bool = False
    """Set to the right, in figures of one width."""
    graphic: bool = False
    """On the page alone."""
    wide: bool = False
    """Running text, which may wrap."""


@dataclass(frozen=True)
class Table:
    """Rows under a head."""

    name: str
    """Unique in a report: the stem of the CSV file."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """Said below it."""


def sources_line(sources: Iterable[str]) -> str:
    """HTML: the files that something is from, each once."""
    files = _files(sources)
    if not files:
        return ""
    names = ", ".join(f"<code>{escape(name)}</code>" for name in files)
    if len(files) <= _FEW_FILES:
        return f'<p class="source">from {names}</p>'
    count = f"from {len(files)} files"
    return f'<details class="source"><summary>{count}</summary><p>{names}</p></details>'


def _files(sources: Iterable[str]) -> list[str]:
    """The files that places lie in, each once; a figure may be from two."""
    places = [place for source in sources if source for place in source.split("; ")]
    return list(dict.fromkeys(place.partition(": ")[0] for place in places))


def _patterns(files: Iterable[str]) -> list[str]:
    """Files of one name and depth as one pattern, with * for what differs."""
    alike: dict[tuple[int, str], list[list[str]]] = {}
    for file in files:
        parts = file.split("/")
        alike.setdefault((len(parts), parts[-1]), []).append(parts)
    return [
        "/".join(
            same.pop() if len(same) == 1 else "*" for same in map(set, zip(*group, strict=True))
        )
        for group in alike.values()
    ]


def table_html(table: Table) -> str:
    """The table in a box of its own that scrolls where it is wider than the page."""
    head = "".join(
        f"<th{_class(column)}>{escape(column.title).replace(' %', '&nbsp;%')}</th>"
        for column in table.columns
    )
    body = "".join(
        "<tr>" + "".join(map(_cell_html, row, table.columns)) + "</tr>" for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
        + sources_line(cell.source for row in table.rows for cell in row)
    )


def table_markdown(table: Table) -> str:
    """The table under its title."""
    keep = [index for index, column in enumerate(table.columns) if not column.graphic]
    columns = [table.columns[index] for index in keep]
    lines = [f"### {markdown_text(table.title)}", ""]
    lines.append(markdown_row(markdown_text(column.title) for column in columns))
    lines.append("|" + "".join("---:|" if column.number else "---|" for column in columns))
    lines += [markdown_row(markdown_text(row[index].text) for index in keep) for row in table.rows]
    lines += ["", markdown_text(table.note)] if table.note else []
    files = _files(cell.source for row in table.rows for cell in row)
    if len(files) <= _FEW_FILES:
        lines += ["", "from " + markdown_text(", ".join(files))] if files else []
    else:
        patterns = markdown_text(", ".join(_patterns(files)))
        lines += ["", f"from {len(files)} files, {patterns}; the CSV names those of each row"]
    return "\n".join(lines) + "\n"


def table_csv(table: Table) -> str:
    """Values as they are in their files, and a last column that names these."""
    keep = [index for index, column in enumerate(table.columns) if not column.graphic]
    rows: list[Sequence[Any]] = [[*(table.columns[index].title for index in keep), "source"]]
    for row in table.rows:
        values = [cell.text if cell.value is None else cell.value for cell in row]
        sources = dict.fromkeys(cell.source for cell in row if cell.source)
        rows.append([*(values[index] for index in keep), "; ".join(sources)])
    return csv_text(rows)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated values."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _cell_html(cell: Cell, column: Column) -> str:
    title = f' title="{escape(cell.source)}"' if cell.source else ""
    return f"<td{_class(column)}{title}>{cell.markup or escape(cell.text)}</td>"


def _class(column: Column) -> str:
    names = [name for name in ("number", "graphic", "wide") if getattr(column, name)]
    return f' class="{" ".join(names)}"' if names else ""
