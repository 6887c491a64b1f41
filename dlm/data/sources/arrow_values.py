"""Values of Arrow columns in Python: numbers as their column writes them, no name twice."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dlm.data.sources.places import Row, Unreadable
from dlm.errors import UserError

Mend = Callable[[Any], Any]


def batch_rows(batch: Any) -> Iterator[Row | UnicodeDecodeError]:
    """The rows of a record batch; for one with bytes that are no text the error.

    Any other value that Python cannot hold is an :class:`Unreadable` in its place.
    """
    names = batch.schema.names
    columns = [_column(column) for column in batch.columns]
    for cells in zip(*columns, strict=True):
        broken = next((cell for cell in cells if isinstance(cell, UnicodeDecodeError)), None)
        yield broken or dict(zip(names, cells, strict=True))


def library_rows(data: Iterable[Row]) -> Iterator[Row]:
    """The rows of a data set of the ``datasets`` library, numbers as their columns write them."""
    import pyarrow

    features = getattr(data, "features", None)  # of some sets that are streamed they are unknown
    mend = _mend(pyarrow.struct(list(features.arrow_schema))) if features else None
    return map(mend, data) if mend else iter(data)


def refuse_repeated(fields: Iterable[Any], place: str) -> None:
    """Refuse columns, or fields within one, of which only the last of a name would be read.

    Raises:
        UserError: A name is there twice.
    """
    names = set()
    for field in fields:
        if field.name in names:
            raise UserError(
                f"{place}: two columns are named '{field.name}': rename or remove one of them"
            )
        names.add(field.name)
        for kind in _kinds_within(field.type):
            refuse_repeated(kind, f"{place}, column '{field.name}'")


def _kinds_within(kind: Any) -> Iterator[Any]:
    """The structs of a type, at any depth of lists."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        yield kind
    elif pyarrow.types.is_nested(kind):
        for index in range(kind.num_fields):
            yield from _kinds_within(kind.field(index).type)


def _column(column: Any) -> list[Any]:
    try:
        values = column.to_pylist()
    except Exception:  # which value it is, must be tried
        values = [_cell(scalar) for scalar in column]
    mend = _mend(column.type)
    return [mend(value) for value in values] if mend else values


def _cell(scalar: Any) -> Any:
    try:
        return _value(scalar)
    except UnicodeDecodeError as error:
        return error


def _value(scalar: Any) -> Any:
    import pyarrow

    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raise
    except Exception as error:  # pyarrow, pandas and pytz raise many kinds
        if isinstance(scalar, pyarrow.StructScalar):
            return {name: _value(inner) for name, inner in scalar.items()}
        if isinstance(scalar, pyarrow.ListScalar):
            return [_value(inner) for inner in scalar.values]
        stored = getattr(scalar, "value", None)
        stored = f" {stored}" if isinstance(stored, int) else ""
        return Unreadable(f"{scalar.type}{stored}, which Python cannot hold ({error})")


def _mend(kind: Any) -> Mend | None:
    """What gives values of a type the precision of their column; None: they are as they are.

    A number of 16 or 32 bits becomes the one of 64 that has the same shortest writing: 2.3 and not
    2.299999952316284, as which Arrow gives it.
    """
    import numpy
    import pyarrow

    if pyarrow.types.is_floating(kind):
        narrow = {16: numpy.float16, 32: numpy.float32}.get(kind.bit_width)
        return narrow and _unless_none(lambda value: float(str(narrow(value))))
    if pyarrow.types.is_struct(kind):
        inner = {field.name: mend for field in kind if (mend := _mend(field.type))}
        return _unless_none(
            lambda row: {n: inner[n](v) if n in inner else v for n, v in row.items()}
        ) if inner else None  # fmt: skip
    if pyarrow.types.is_map(kind):
        key, item = (_mend(part) or _as_it_is for part in (kind.key_type, kind.item_type))
        alike = key is item is _as_it_is
        return None if alike else _unless_none(lambda pairs: [(key(k), item(v)) for k, v in pairs])
    if isinstance(kind, pyarrow.BaseExtensionType):
        return _mend(kind.storage_type)
    value = _mend(kind.value_type) if hasattr(kind, "value_type") else None
    if value is None or pyarrow.types.is_dictionary(kind):
        return value
    return _unless_none(lambda items: [value(item) for item in items])


def _unless_none(mend: Mend) -> Mend:
    def mended(value: Any) -> Any:
        return value if value is None or isinstance(value, Unreadable) else mend(value)

    return mended


def _as_it_is(value: Any) -> Any:
    return value
