"""Open a file, packed or not, and see that it is whole and stays as it was while it is read."""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from dlm.data.sources.files import Compression, unreadable
from dlm.errors import UserError


class TextReader(Protocol):
    """UTF-8 in parts."""

    def read(self, size: int) -> bytes:
        """Some bytes, about ``size``; empty at the end."""


class ByteReader:
    """The unpacked bytes of a file."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; empty at the end.

        Raises:
            UserError: The file is cut short or damaged.
        """
        try:
            data: bytes = self._file.read(size)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise damaged(self._path, error) from error
        return data


@contextmanager
def opened(path: Path, compression: Compression) -> Iterator[ByteReader]:
    """The file's unpacked bytes.

    Raises:
        UserError: It cannot be opened, is damaged, or is not the same at the end of the block.
    """
    with unchanged(path):
        try:
            file = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        with file:
            yield ByteReader(path, _unpacked(file, compression))


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Compare size and time of change before and after the block, where it is left normally.

    Raises:
        UserError: They differ, or the file is gone.
    """
    before = _status(path)
    yield
    try:
        after = _status(path)
    except UserError as error:
        raise UserError(f"{path} was removed while it was read: {_AGAIN}") from error
    if after != before:
        raise UserError(f"{path} was changed while it was read: {_AGAIN}")


_AGAIN = "run again when nothing writes to it"


def _status(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    # A pipe has neither.
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _unpacked(file: IO[bytes], compression: Compression) -> Any:
    if compression == "gz":
        return gzip.GzipFile(fileobj=file)
    if compression == "bz2":
        return bz2.BZ2File(file)
    if compression == "xz":
        return lzma.LZMAFile(file)
    if compression == "zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    return file


def damaged(path: Path, error: Exception) -> UserError:
    """The error of a file that cannot be read to its end."""
    return UserError(
        f"{path} is cut short or damaged ({error}): copy, download or write the file again"
    )
