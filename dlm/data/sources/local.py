"""Rows of local files of every kind, one file after the other."""

from collections.abc import Iterator
from pathlib import Path

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.delimited import delimited_rows
from dlm.data.sources.files import source_files
from dlm.data.sources.json_array import json_array_rows, json_object_rows
from dlm.data.sources.line_formats import json_line_rows, text_rows
from dlm.data.sources.opening import ByteReader, opened
from dlm.data.sources.parquet import parquet_rows
from dlm.data.sources.places import Place, Row
from dlm.data.sources.reading import DELIMITERS, Reading, reading_of, text_of
from dlm.data.sources.saved import saved_rows
from dlm.data.sources.source import Source
from dlm.data.sources.tmx import tmx_rows
from dlm.errors import UserError


def local_rows(path: Path, source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The rows of a file, or of the files of a folder or a pattern in the order of their names.

    Raises:
        UserError: A file is missing, empty, damaged, changed meanwhile, or of no kind that is
            read.
    """
    for file in source_files(path, source.format):
        before = bad_rows.met
        rows = file_rows(file, source, bad_rows)
        first = next(rows, None)
        if first is not None:
            yield first
            yield from rows
        elif bad_rows.met > before:
            bad_rows.nothing_good_in(str(file))
        else:
            raise UserError(f"{file} has no rows: give a source with at least one")


def file_rows(path: Path, source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The rows of one file; raises as :func:`local_rows`."""
    reading = reading_of(path, source)
    _check_settings(path, reading, source)
    if reading.format == "parquet":
        yield from parquet_rows(path, bad_rows)
    elif reading.format == "saved":
        yield from saved_rows(path, bad_rows)
    else:
        with opened(path, reading.compression) as file:
            yield from _rows(file, reading, str(path), source, bad_rows)


def _check_settings(path: Path, reading: Reading, source: Source) -> None:
    """Refuse settings that the format has no use for."""
    if reading.format not in DELIMITERS:
        for setting in ("columns", "unquoted", "delimiter"):
            if getattr(source, setting):
                raise UserError(
                    f"{path}: `{setting}` is read with CSV and TSV files only; remove it"
                )
    if reading.format in ("parquet", "saved", "tmx") and source.encoding:
        raise UserError(f"{path}: `encoding` is not read: such files say it themselves; remove it")


def _rows(
    file: ByteReader, reading: Reading, origin: str, source: Source, bad_rows: BadRows
) -> Iterator[tuple[Place, Row]]:
    if reading.format == "tmx":
        return tmx_rows(file, origin, bad_rows)
    text = text_of(file, reading, origin)
    if reading.format in DELIMITERS:
        return delimited_rows(
            text, origin, bad_rows, delimiter=reading.delimiter, columns=source.columns,
            unquoted=source.unquoted, skip_first=reading.separator_line,
            blank_begins=reading.blanks == "cells", encoding=reading.encoding,
        )  # fmt: skip
    if reading.format == "txt":
        return text_rows(text, origin, bad_rows)
    return _JSON_ROWS[reading.layout](text, origin, bad_rows)


_JSON_ROWS = {"lines": json_line_rows, "array": json_array_rows, "objects": json_object_rows}
