"""A row, where it comes from, and the words for what is in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

Row = dict[str, Any]

_JSON_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number",
               str: "text", list: "a list", dict: "an object",
               bytes: "bytes", Decimal: "a number"}  # fmt: skip
_SHOWN_NAMES = 20
NUL_REASON = "it holds a NUL character, which is no text: remove the character, or the row"


class Place(NamedTuple):
    """Where a row comes from, for messages: of a file of lines the line, else the row's number."""

    origin: str
    number: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.origin}, {self.unit} {self.number}"


@dataclass(frozen=True)
class Unreadable:
    """A value that Python cannot hold; it matters where somebody reads it."""

    what: str


def names_of(fields: Iterable[object]) -> str:
    """The names of a row's fields for messages, the first of many."""
    names = list(map(str, fields))
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def json_kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    if isinstance(value, Unreadable):
        return value.what
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinity (or a number too large to be held)"
    return _JSON_KINDS.get(type(value), type(value).__name__)


def remedy_of(value: Any) -> str:
    """How a value that is no text becomes one; empty where that is plain."""
    if not isinstance(value, bytes):
        return ""
    return (
        "write the column as text, `python -c 'import pyarrow as a, pyarrow.parquet as p, sys; t = "
        "p.read_table(sys.argv[1]); s = a.schema([f.with_type(a.string()) if a.types.is_binary("
        "f.type) else f for f in t.schema]); p.write_table(t.cast(s), sys.argv[2])' IN.parquet "
        "OUT.parquet`; or "
    )


def has_nul(value: Any) -> bool:
    """Whether a text anywhere in the value has a NUL character."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(has_nul, value.values()))
    return isinstance(value, list) and any(map(has_nul, value))
