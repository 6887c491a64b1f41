"""Rows from parallel text files: line n of each is a field of row n."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from typing import NoReturn

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.lines import numbered_lines
from dlm.data.sources.places import Place, Row
from dlm.data.sources.reading import opened_text
from dlm.data.sources.source import Source
from dlm.errors import UserError

Line = tuple[int, str, str]
"""As :func:`numbered_lines` gives them."""


def parallel_rows(source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Line n of every file as row n; lines that are blank in all of them are left out.

    Raises:
        UserError: A file cannot be read, or they have different numbers of lines.
    """
    texts = replace(source, format="txt")
    with ExitStack() as stack:
        files = {
            name: numbered_lines(stack.enter_context(opened_text(path, texts)))
            for name, path in source.parallel.items()
        }
        for number, lines in enumerate(zip_longest(*files.values()), start=1):
            if None in lines:
                _refuse_lengths(source, number, files, lines)
            place = Place(source.place, number, "line")
            problems = [
                f"{source.parallel[name]}: {problem}"
                for name, (_, _, problem) in zip(files, lines, strict=True)
                if problem
            ]
            row = {name: text.rstrip("\r") for name, (_, text, _) in zip(files, lines, strict=True)}
            if problems:
                bad_rows.bad(place, problems[0])
            elif any(text and not text.isspace() for text in row.values()):
                yield place, row


def _refuse_lengths(
    source: Source, number: int, files: dict[str, Iterator[Line]], lines: tuple[Line | None, ...]
) -> NoReturn:
    """Raise with the number of lines of every file, of which those that have ended end here."""
    counts = [
        number - 1 if line is None else number + sum(1 for _ in rest)
        for rest, line in zip(files.values(), lines, strict=True)
    ]
    files_of = zip(source.parallel.values(), counts, strict=True)
    shown = ", ".join(f"{path} has {count:,}" for path, count in files_of)
    raise UserError(
        f"parallel files with other numbers of lines: {shown}: give files that belong together, "
        "or find the lines that are missing"
    )
