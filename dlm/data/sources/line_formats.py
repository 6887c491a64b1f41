"""A row a line: plain text and JSON lines."""

import json
from collections.abc import Iterator
from typing import Any

from dlm.data.sources.bad_rows import BadRow, BadRows
from dlm.data.sources.json_values import RepeatedKey, line_value
from dlm.data.sources.lines import numbered_lines
from dlm.data.sources.opening import TextReader
from dlm.data.sources.places import NUL_REASON, Place, Row, has_nul, json_kind

_REMEDY = "every line must be one JSON object: correct or remove this line"


def text_rows(file: TextReader, origin: str, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Every line as ``{"text": line}``; blank ones are left out."""
    for number, line, problem in numbered_lines(file):
        if problem:
            bad_rows.bad(Place(origin, number, "line"), problem)
        elif line and not line.isspace():
            yield Place(origin, number, "line"), {"text": line.rstrip("\r")}


def json_line_rows(file: TextReader, origin: str, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """The JSON object of every line; blank ones are left out."""
    for number, line, problem in numbered_lines(file):
        if not problem and (not line or line.isspace()):
            continue
        place = Place(origin, number, "line")
        try:
            if problem:
                raise BadRow(place, problem)
            row = _parsed(line, place)
        except BadRow as error:
            bad_rows.bad(place, error.reason)
        else:
            yield place, row


def _parsed(line: str, place: Place) -> Row:
    try:
        value = line_value(line)
    except RepeatedKey as error:
        raise BadRow(place, str(error)) from error
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise BadRow(place, f"not JSON ({problem}); {_REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise BadRow(place, f"not JSON that can be read ({error}); {_REMEDY}") from error
    return checked_object(value, line, place, _REMEDY)


def checked_object(value: Any, written: str, place: Place, remedy: str) -> Row:
    """The value as a row; ``written`` is its JSON.

    Raises:
        BadRow: It is no object, or a text in it is none.
    """
    if isinstance(value, RepeatedKey):
        raise BadRow(place, str(value))
    if not isinstance(value, dict):
        raise BadRow(place, f"{json_kind(value)}, not an object; {remedy}")
    if "\\u" in written:
        try:
            # Half of a surrogate pair is JSON, and no text.
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadRow(place, f"not JSON that can be read ({error}); {remedy}") from error
        if has_nul(value):
            raise BadRow(place, NUL_REASON)
    return value
