"""What the adapters of rows share: reading a field as text, or saying why it is none."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dlm.data.sources import BadRow, Place, Row, json_kind, names_of, remedy_of
from dlm.errors import did_you_mean

Fields = dict[str, Any]
"""Field name -> what a template puts in its place."""
Adapter = Callable[[Row, Place], list[Fields]]
"""A row and its place (for messages) -> the fields of each example that it gives."""


def as_it_is(row: Row, place: Place) -> list[Fields]:
    """One example with the row's own fields."""
    return [row]


def first_of(name: str) -> Adapter:
    """An adapter for rows whose field ``name`` may be a list of right answers: the first is taken,
    and all are references of a score."""

    def adapt(row: Row, place: Place) -> list[Fields]:
        value = row.get(name)
        return [
            {**row, **with_others(value, name, place, name)} if isinstance(value, list) else row
        ]

    return adapt


def field_of(row: Row, name: str, place: Place) -> Any:
    """A field that must be there.

    Raises:
        BadRow: It is not; the message names the place and what the row has.
    """
    if name not in row:
        raise BadRow(
            place,
            f"field '{name}' is missing (the row has {names_of(row)}"
            f"{did_you_mean(name, row)}): correct the row, or set `fields` of the source",
        )
    return row[name]


OTHERS = "other answers"
"""Field of an example: what its fields would be with each of the row's further right answers."""


def with_others(value: Any, name: str, place: Place, field: str) -> Fields:
    """``field`` as a text or the first of several, and the further ones that are not blank.

    Raises:
        BadRow: There is none, or one is no text.
    """
    if not (isinstance(value, list) and value):
        return {field: text_of(value, name, place)}
    first, *others = (text_of(item, name, place) for item in value)
    further = [{field: text} for text in others if text.strip()]
    return {field: first, **({OTHERS: further} if further else {})}


def text_of(value: Any, name: str, place: Place) -> str:
    """A text as it is; a number by its shortest writing, a whole one without ".0"; a decimal with
    the digits that its column has.

    Raises:
        BadRow: It is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0:
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    raise BadRow(
        place,
        f"field '{name}' is {json_kind(value)}, where text or a number is needed: "
        f"{remedy_of(value)}correct or remove the row",
    )
