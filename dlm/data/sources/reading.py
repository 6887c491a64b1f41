"""How a file is read: as its source says, else as its name and its beginning say."""

import codecs
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dlm.data.sources.delimited import shown
from dlm.data.sources.files import Compression, FileKind, Format, file_kind, unreadable
from dlm.data.sources.json_layout import Layout, json_layout
from dlm.data.sources.known_kinds import known_by_beginning
from dlm.data.sources.opening import ByteReader, TextReader, opened
from dlm.data.sources.recoding import RecodedReader
from dlm.data.sources.source import Source
from dlm.data.sources.table_guess import (
    Blanks,
    edge_blanks,
    separator_line,
    several_characters,
    table_delimiter,
)
from dlm.errors import UserError
from dlm.saying import say_once

DELIMITERS = {"csv": ",", "tsv": "\t"}
_SAMPLE_BYTES = 1 << 18
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
"""Byte order marks -> encoding; that of UTF-32 begins as that of UTF-16 does."""


@dataclass(frozen=True)
class Reading:
    """How the bytes of one file become rows."""

    format: Format
    compression: Compression
    encoding: str = "utf-8"
    carriage_returns: bool = False
    """Lines end in carriage returns alone."""
    delimiter: str = ""
    """Of CSV and TSV."""
    separator_line: bool = False
    """Whether the first line is ``sep=`` and the delimiter, and no row."""
    blanks: Blanks = ""
    """Which blanks at the edges of cells are no part of the table's texts."""
    layout: Layout = "lines"
    """Of JSON."""

    def unusual(self) -> dict[str, Any]:
        """What a file of the format usually is not, JSON-able: all of it decides the rows."""
        usual = {
            "encoding": "utf-8", "carriage_returns": False, "separator_line": False, "blanks": "",
            "delimiter": DELIMITERS.get(self.format, ""),
        }  # fmt: skip
        found = {name: getattr(self, name) for name in usual}
        return {name: value for name, value in found.items() if value != usual[name]}


@contextmanager
def opened_text(path: Path, source: Source) -> Iterator[TextReader]:
    """The file's text as UTF-8 with line feeds; raises as :func:`reading_of` and ``opened``."""
    reading = reading_of(path, source)
    with opened(path, reading.compression) as file:
        yield text_of(file, reading, str(path))


def text_of(file: ByteReader, reading: Reading, origin: str) -> TextReader:
    """The unpacked bytes of a file as UTF-8 with line feeds."""
    if reading.encoding == "utf-8" and not reading.carriage_returns:
        return file
    return RecodedReader(file, origin, reading.encoding, carriage_returns=reading.carriage_returns)


def reading_of(path: Path, source: Source) -> Reading:
    """How a file is read; what is guessed and unusual is said once, on standard error.

    A legacy encoding is never guessed.

    Raises:
        UserError: The file cannot be opened, is of no kind that is read, or is not what its name
            says.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    kind = file_kind(path, source.format)
    if not stat.S_ISREG(status.st_mode):  # a folder, or a pipe: what is looked at is gone
        delimiter = source.delimiter or DELIMITERS.get(kind.format, "")
        return Reading(*kind, _named(source.encoding) or "utf-8", delimiter=delimiter)
    given = _Given(source.format, source.encoding, source.delimiter, len(source.columns))
    reading = _guessed(path, (status.st_size, status.st_mtime_ns), kind, given)
    _say(path, ", ".join(_guesses(reading, given)))
    return reading


class _Given(NamedTuple):
    """What the source says."""

    format: Format | None
    encoding: str | None
    delimiter: str | None
    columns: int


@lru_cache(maxsize=4096)
def _guessed(path: Path, version: tuple[int, int], kind: FileKind, given: _Given) -> Reading:
    """The reading of one version (size, time of change) of a file."""
    sample = _sample(path, kind.compression)
    if (reason := known_by_beginning(path, sample, *kind)) is not None:
        raise UserError(f"{path} is {reason}")
    if kind.format in ("parquet", "tmx"):
        return Reading(*kind)
    encoding = _named(given.encoding) or _encoding(path, sample)
    text = _decoded(sample, encoding)
    carriage_returns = "\n" not in text and "\r" in text[:-1]
    reading = Reading(*kind, encoding, carriage_returns)
    if carriage_returns:
        text = text.replace("\r", "\n")
    whole = len(sample) < _SAMPLE_BYTES
    if kind.format in DELIMITERS:
        text = text if whole else text[: text.rfind("\n") + 1]
        if (
            given.delimiter is None
            and (reason := several_characters(text, path, encoding)) is not None
        ):
            raise UserError(f"{path} is {reason}")
        return replace(reading, **_table(text, DELIMITERS[kind.format], given))
    if kind.format == "json" or (kind.format == "jsonl" and given.format is None):
        return replace(reading, layout=json_layout(text, path, kind.format, encoding, whole=whole))
    return reading


def _table(text: str, usual: str, given: _Given) -> dict[str, Any]:
    named = separator_line(text)
    if named is not None:
        text = text.partition("\n")[2]
    delimiter = given.delimiter or named or table_delimiter(text, usual, given.columns)
    return {
        "delimiter": delimiter,
        "separator_line": named is not None,
        "blanks": edge_blanks(text, delimiter, header=not given.columns),
    }


def _sample(path: Path, compression: Compression) -> bytes:
    with opened(path, compression) as file:
        sample = block = file.read(_SAMPLE_BYTES)
        while block and len(sample) < _SAMPLE_BYTES:
            block = file.read(_SAMPLE_BYTES - len(sample))
            sample += block
    return sample


def _named(encoding: str | None) -> str | None:
    """The one name of an encoding; a byte order mark of UTF-8 is passed over in any case."""
    return encoding and codecs.lookup(encoding).name.removesuffix("-sig")


def _encoding(path: Path, sample: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if sample.startswith(mark):
            return encoding
    zeros = [sample[start::2].count(0) for start in (0, 1)]
    if len(sample) > 1 and max(zeros) > len(sample) // 8 and min(zeros) * 8 < max(zeros):
        name = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
        raise UserError(
            f"{path} looks like UTF-16 without a byte order mark: set `encoding: {name}` on the "
            "source, or convert the file to UTF-8"
        )
    return "utf-8"


def _decoded(sample: bytes, encoding: str) -> str:
    """The beginning of the text, for guesses: what is no text is named when the file is read."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample)
    return text.removeprefix("\ufeff")


def _guesses(reading: Reading, given: _Given) -> Iterator[str]:
    """What of a reading is neither said by the source nor usual."""
    if given.encoding is None and reading.encoding != "utf-8":
        yield f"as {reading.encoding.upper()}, by its byte order mark"
    if reading.carriage_returns:
        yield "with carriage returns as line ends"
    if reading.format == "jsonl" and reading.layout == "array":
        yield "as one JSON array"
    if reading.layout == "objects":
        yield "as JSON objects over several lines"
    usual = DELIMITERS.get(reading.format, "")
    if given.delimiter is None and reading.delimiter != usual:
        yield f"with the delimiter {shown(reading.delimiter)}"
    if reading.blanks == "header":
        yield "without the blanks around names of the header"
    if reading.blanks == "cells":
        yield "without the blanks that begin every cell after a delimiter"


def _say(path: Path, guesses: str) -> None:
    """One line for a folder of files alike."""
    if guesses:
        say_once(
            path.parent,
            f"{path}: read {guesses} (guessed; a source's `format`, `delimiter` and `encoding` "
            "say it)",
            about=guesses,
        )
