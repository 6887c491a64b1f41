"""JSON values, where a key that an object has twice is seen.

Python's reader, as most, keeps the last value of such a key and says nothing.
"""

import json
from typing import Any


class RepeatedKey(Exception):
    """An object has a key twice; the message is the reason with its remedy."""


def line_value(line: str) -> Any:
    """The value that a line is.

    Raises:
        RepeatedKey: An object in it has a key twice.
        ValueError, RecursionError: It is not JSON, or not JSON that can be read.
    """
    try:
        value, end = _UNLIKE.raw_decode(line)
    except json.JSONDecodeError:
        end = -1
    # White space around the value and what is wrong with it cost a second look.
    return value if end == len(line) else _UNLIKE.decode(line)


def value_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins there, or the RepeatedKey that it has, and where it ends.

    Raises:
        ValueError, RecursionError: As :func:`line_value`, or the text ends before it does.
    """
    try:
        return _UNLIKE.raw_decode(text, start)
    except RepeatedKey as error:
        return error, _PLAIN.raw_decode(text, start)[1]


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next(key for key in keys if keys.count(key) > 1)
        raise RepeatedKey(f"the key '{again}' is given twice: keep one of them")
    return found


_UNLIKE = json.JSONDecoder(object_pairs_hook=_unlike)
_PLAIN = json.JSONDecoder()
