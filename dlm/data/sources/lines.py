"""Lines of UTF-8 text with their numbers, in blocks: fast, and never a whole file in memory."""

from codecs import BOM_UTF8
from collections.abc import Iterator

from dlm.data.sources.opening import TextReader
from dlm.data.sources.places import NUL_REASON

MAX_LINE_BYTES = 10_000_000
"""A longer line is no row: it is a file without line ends, or damaged."""
_BLOCK_BYTES = 1 << 18
OTHER_ENCODING = (
    "say the file's encoding on the source (such as `encoding: cp1252`, western Europe's on "
    "Windows), or convert the file to UTF-8"
)
_TOO_LONG = (
    f"longer than {MAX_LINE_BYTES:,} bytes, which is no row: break it up, or remove the line"
)


def numbered_lines(file: TextReader) -> Iterator[tuple[int, str, str]]:
    """Each line's number (from 1), its text without the line feed, and what is wrong with it.

    Nothing is wrong with most: the third is empty then. A byte order mark is no part of the text.
    """
    number = 1
    for block, first_too_long in _blocks(file):
        if number == 1:
            block = block.removeprefix(BOM_UTF8)
        try:
            text = block.decode()
        except UnicodeDecodeError:
            text = "\0"
        if first_too_long or "\0" in text:
            checked = [_checked(line) for line in block.split(b"\n")]
            if first_too_long:
                checked[0] = ("", _TOO_LONG)
        else:
            checked = [(line, "") for line in text.split("\n")]
        if block.endswith(b"\n"):
            checked.pop()
        for line, problem in checked:
            yield number, line, problem
            number += 1


def _checked(line: bytes) -> tuple[str, str]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        reason = (
            f"not UTF-8 (byte {error.start + 1} of the line, {error.reason}): correct the line, or "
            f"{OTHER_ENCODING}"
        )
        return line.decode(errors="replace"), reason
    return text, NUL_REASON if "\0" in text else ""


def _blocks(file: TextReader) -> Iterator[tuple[bytes, bool]]:
    """Runs of whole lines; whether the first line is too long (all but its end is left out)."""
    pending, too_long = b"", False
    while chunk := file.read(_BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if not end:
            pending = b"" if too_long else pending + chunk
            too_long = too_long or len(pending) > MAX_LINE_BYTES
            continue
        block = chunk[:end] if too_long else pending + chunk[:end]
        too_long = too_long or block.find(b"\n") > MAX_LINE_BYTES
        yield block, too_long
        pending, too_long = chunk[end:], False
    if pending or too_long:
        yield pending, too_long
