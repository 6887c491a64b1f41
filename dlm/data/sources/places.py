"""A row, where it comes from, and the words for what is in it."""

from typing import Any, NamedTuple

Row = dict[str, Any]

_JSON_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number",
               str: "text", list: "a list", dict: "an object"}  # fmt: skip
NUL_REASON = "it holds a NUL character, which is no text: remove the character, or the row"


class Place(NamedTuple):
    """Where a row comes from, for messages: of a file of lines the line, else the row's number."""

    origin: str
    number: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.origin}, {self.unit} {self.number}"


def json_kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    return _JSON_KINDS.get(type(value), type(value).__name__)


def has_nul(value: Any) -> bool:
    """Whether a text anywhere in the value has a NUL character."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(has_nul, value.values()))
    return isinstance(value, list) and any(map(has_nul, value))
