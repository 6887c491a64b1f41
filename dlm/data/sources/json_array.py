"""Rows from one JSON array, element by element."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from dlm.data.sources.bad_rows import BadRow, BadRows
from dlm.data.sources.line_formats import checked_object
from dlm.data.sources.lines import MAX_LINE_BYTES
from dlm.data.sources.opening import ByteReader
from dlm.data.sources.places import Place, Row
from dlm.errors import UserError

_BLOCK_BYTES = 1 << 18
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")
_REMEDY = "every element must be one JSON object: correct or remove this one"


def begins_an_array(file: ByteReader) -> bool:
    """Whether the text begins with ``[`` (else a .json file is read as JSON lines)."""
    return file.read(_BLOCK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def json_array_rows(
    file: ByteReader, origin: str, bad_rows: BadRows
) -> Iterator[tuple[Place, Row]]:
    """The objects of an array; a row's number is its element's, from 1.

    Raises:
        UserError: The array is not JSON: where the next element begins is not known then.
    """
    text = _ArrayText(file, origin)
    text.expect("[")
    if text.next_character() == "]":
        text.expect("]")
    else:
        more = True
        while more:
            value, written = text.value()
            place = Place(origin, text.number)
            text.number += 1
            try:
                row = checked_object(value, written, place, _REMEDY)
            except BadRow as error:
                bad_rows.bad(place, error.reason)
            else:
                yield place, row
            more = text.expect(",]") == ","
    if text.next_character():
        raise text.error("there is more after the array")


class _ArrayText:
    """The text of the file from the current position on, as much of it as is needed."""

    def __init__(self, file: ByteReader, origin: str) -> None:
        self.number = 1
        """Of the element that is read next."""
        self._file, self._origin = file, origin
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._position = "", 0

    def next_character(self) -> str:
        """The first character that is no white space; empty at the end."""
        while True:
            if space := _WHITE_SPACE.match(self._text, self._position):
                self._position = space.end()
            found = self._text[self._position : self._position + 1]
            if found or not self._fill():
                return found

    def expect(self, characters: str) -> str:
        """Pass over the next character, which must be one of these."""
        found = self.next_character()
        if not found or found not in characters:
            raise self.error(f"{' or '.join(characters)} expected, not {found or 'the end'}")
        self._position += 1
        return found

    def value(self) -> tuple[Any, str]:
        """The next element, and how it is written."""
        self.next_character()
        while True:
            start = self._position
            try:
                value, end = self._json.raw_decode(self._text, start)
            except (ValueError, RecursionError) as error:
                # An element that goes on in the next block looks just like a broken one.
                if len(self._text) - start > MAX_LINE_BYTES or not self._fill():
                    raise self.error(getattr(error, "msg", str(error))) from error
                continue
            self._position = end
            return value, self._text[start:end]

    def error(self, problem: str) -> UserError:
        return UserError(
            f"{self._origin}, row {self.number}: not JSON ({problem}): a .json file is one array "
            "of objects, or one object a line; correct it"
        )

    def _fill(self) -> bool:
        block = self._file.read(_BLOCK_BYTES)
        try:
            more = self._utf8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._origin}, row {self.number} or later: not UTF-8 ({error.reason}): convert "
                "the file to UTF-8"
            ) from error
        self._text, self._position = self._text[self._position :] + more, 0
        return bool(block)
