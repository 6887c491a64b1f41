"""Rows from JSON that is no row a line: one array, or objects one after the other."""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from dlm.data.sources.bad_rows import BadRow, BadRows
from dlm.data.sources.json_values import value_at
from dlm.data.sources.line_formats import checked_object
from dlm.data.sources.lines import MAX_LINE_BYTES, OTHER_ENCODING
from dlm.data.sources.opening import TextReader
from dlm.data.sources.places import Place, Row
from dlm.errors import UserError

_BLOCK_BYTES = 1 << 18
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")
_REMEDY = "every row must be one JSON object: correct or remove this one"


def json_array_rows(
    file: TextReader, origin: str, bad_rows: BadRows
) -> Iterator[tuple[Place, Row]]:
    """The objects of an array; a row's number is its element's, from 1.

    Raises:
        UserError: The array is not JSON: where the next element begins is not known then.
    """
    text = _JsonText(file, origin)
    text.expect("[")
    if text.next_character() == "]":
        text.expect("]")
    else:
        more = True
        while more:
            yield from _next_row(text, origin, bad_rows)
            more = text.expect(",]") == ","
    if text.next_character():
        raise text.error("there is more after the array")


def json_object_rows(
    file: TextReader, origin: str, bad_rows: BadRows
) -> Iterator[tuple[Place, Row]]:
    """Objects one after the other, each over as many lines as it has; numbered from 1.

    Raises:
        UserError: One is not JSON: where the next begins is not known then.
    """
    text = _JsonText(file, origin)
    while text.next_character():
        yield from _next_row(text, origin, bad_rows)


def _next_row(text: "_JsonText", origin: str, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The next value, where it is a row."""
    value, written = text.value()
    place = Place(origin, text.number)
    text.number += 1
    try:
        row = checked_object(value, written, place, _REMEDY)
    except BadRow as error:
        bad_rows.bad(place, error.reason)
    else:
        yield place, row


class _JsonText:
    """The text of the file from the current position on, as much of it as is needed."""

    def __init__(self, file: TextReader, origin: str) -> None:
        self.number = 1
        """Of the element that is read next."""
        self._file, self._origin = file, origin
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
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
                value, end = value_at(self._text, start)
            except (ValueError, RecursionError) as error:
                # An element that goes on in the next block looks just like a broken one.
                if len(self._text) - start > MAX_LINE_BYTES or not self._fill():
                    raise self.error(getattr(error, "msg", str(error))) from error
                continue
            self._position = end
            return value, self._text[start:end]

    def error(self, problem: str) -> UserError:
        return UserError(
            f"{self._origin}, row {self.number}: not JSON ({problem}): a JSON file is one array "
            "of objects, or one object after the other; correct it"
        )

    def _fill(self) -> bool:
        block = self._file.read(_BLOCK_BYTES)
        try:
            more = self._utf8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._origin}, row {self.number} or later: not UTF-8 ({error.reason}): "
                f"{OTHER_ENCODING}"
            ) from error
        self._text, self._position = self._text[self._position :] + more, 0
        return bool(block)
