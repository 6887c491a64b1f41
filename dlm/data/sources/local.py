"""Rows of local files of every kind, one file after the other."""

from collections.abc import Iterator
from pathlib import Path

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.delimited import delimited_rows
from dlm.data.sources.files import FileKind, file_kind, source_files, unreadable
from dlm.data.sources.json_array import begins_an_array, json_array_rows
from dlm.data.sources.line_formats import json_line_rows, text_rows
from dlm.data.sources.opening import ByteReader, opened
from dlm.data.sources.parquet import parquet_rows
from dlm.data.sources.places import Place, Row
from dlm.data.sources.source import Source
from dlm.errors import UserError

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def local_rows(path: Path, source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The rows of a file, or of the files of a folder or a pattern in the order of their names.

    Raises:
        UserError: A file is missing, empty, damaged, changed meanwhile, or of no kind that is
            read.
    """
    for file in source_files(path):
        before = bad_rows.met
        rows = file_rows(file, source, bad_rows)
        first = next(rows, None)
        if first is not None:
            yield first
            yield from rows
        elif bad_rows.met == before:
            raise UserError(f"{file} has no rows: give a source with at least one")


def file_rows(path: Path, source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The rows of one file; raises as :func:`local_rows`."""
    try:
        path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    kind = file_kind(path)
    if kind.format not in _DELIMITERS and (source.columns or source.unquoted):
        setting = "columns" if source.columns else "unquoted"
        raise UserError(f"{path}: `{setting}` is read with CSV and TSV files only; remove it")
    if kind.format == "parquet":
        yield from parquet_rows(path, bad_rows)
        return
    array = kind.format == "json" and _is_array(path, kind)
    with opened(path, kind.compression) as file:
        yield from _rows(file, kind, str(path), source, bad_rows, array=array)


def _is_array(path: Path, kind: FileKind) -> bool:
    with opened(path, kind.compression) as file:
        return begins_an_array(file)


def _rows(
    file: ByteReader, kind: FileKind, origin: str, source: Source, bad_rows: BadRows, *, array: bool
) -> Iterator[tuple[Place, Row]]:
    if kind.format in _DELIMITERS:
        return delimited_rows(
            file, origin, bad_rows, delimiter=_DELIMITERS[kind.format],
            columns=source.columns, unquoted=source.unquoted,
        )  # fmt: skip
    if array:
        return json_array_rows(file, origin, bad_rows)
    return (text_rows if kind.format == "txt" else json_line_rows)(file, origin, bad_rows)
