"""The rows of any source one by one: read, normalised, split, renamed, told apart, limited."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from dlm.data.sources.bad_rows import BadRow, BadRows
from dlm.data.sources.even import rows_of_each
from dlm.data.sources.files import source_files
from dlm.data.sources.generator import generated_rows
from dlm.data.sources.hub import hub_rows
from dlm.data.sources.local import local_rows
from dlm.data.sources.parallel import parallel_rows
from dlm.data.sources.places import Place, Row, names_of
from dlm.data.sources.source import Source
from dlm.errors import UserError, did_you_mean

Wanted = Callable[[Place, Row], bool]


def read_rows(source: Source) -> list[Row]:
    """All rows of a source, with its fields renamed and its limit applied.

    Raises:
        UserError: As :func:`stream_rows`.
    """
    return [row for _, row in stream_rows(source)]


def stream_rows(
    source: Source, *, bad_rows: BadRows | None = None, wanted: Wanted | None = None
) -> Iterator[tuple[Place, Row]]:
    """The rows one by one with their places (blank lines of a file are left out).

    A limit takes the first rows; of several files alike from each, in the order of their names.
    Rows that are not ``wanted`` do not count, and may be all. ``bad_rows`` is told of every row
    that cannot be used; without it the first one is refused.
    Its ``finish`` is the caller's to call.

    Raises:
        UserError: A file is missing, empty or damaged, the hub cannot be reached, no row is
            left, or (BadRow) a row is broken or lacks a field.
    """
    bad_rows = bad_rows or BadRows()
    before, count = bad_rows.met, 0
    for found in _limited(source, bad_rows, wanted):
        count += 1
        yield found
    if not count and wanted is None:
        refuse_no_rows(source, bad_rows, before)


def refuse_no_rows(source: Source, bad_rows: BadRows, before: int) -> None:
    """Say why a source has given nothing; ``before``: the bad rows met before it was read.

    Raises:
        UserError: Always, but where ``bad_rows.finish`` will name the rows.
    """
    bad = bad_rows.met - before
    if bad:
        bad_rows.nothing_good_in(source.place)
    if bad and bad_rows.policy == "error":
        return
    if bad:
        raise UserError(f"{source.place} has no row that can be used: {bad_rows.note()}")
    if source.holdout is not None:
        raise UserError(
            f"{source.place} has no rows in its {source.holdout.part} part: change "
            f"holdout.share = {source.holdout.share}, or give more rows"
        )
    raise UserError(f"{source.place} has no rows: give a source with at least one")


def _limited(
    source: Source, bad_rows: BadRows, wanted: Wanted | None
) -> Iterator[tuple[Place, Row]]:
    def rows_of(place: Source, told: BadRows, seen: set[int]) -> Iterator[tuple[Place, Row]]:
        rows = _usable(place, told, seen)
        return rows if wanted is None else (found for found in rows if wanted(*found))

    path, limit = source.path, source.limit
    files = source_files(path, source.format) if path is not None and limit is not None else []
    seen: set[int] = set()
    if limit is None or len(files) < 2:
        yield from islice(rows_of(source, bad_rows, seen), limit)
        return

    def counted(file: Path) -> Iterator[tuple[Place, Row]]:
        # What is bad is told when the rows are read.
        return rows_of(replace(source, path=file), BadRows("skip"), set())

    for file, count in zip(files, rows_of_each(files, limit, counted), strict=True):
        if count:
            yield from islice(rows_of(replace(source, path=file), bad_rows, seen), count)


def _usable(source: Source, bad_rows: BadRows, seen: set[int]) -> Iterator[tuple[Place, Row]]:
    """``seen``: hashes of the ids that rows had so far."""
    rows = _read(source, bad_rows)
    if source.normalise == "nfc":
        rows = ((place, composed(row)) for place, row in rows)
    if source.fields or source.holdout is not None or source.id_field is not None:
        rows = _prepared(rows, source, bad_rows, seen)
    return rows


def _read(source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    if source.parallel:
        return parallel_rows(source, bad_rows)
    if source.path is not None:
        return local_rows(source.path, source, bad_rows)
    if source.stage is not None:
        raise UserError(f"{source.place} are not there yet: run that stage first")
    return hub_rows(source, bad_rows) if source.hub is not None else generated_rows(source)


def composed(value: Any) -> Any:
    """The value with every text in it in Unicode's composed form (NFC)."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [composed(item) for item in value]
    return {k: composed(v) for k, v in value.items()} if isinstance(value, dict) else value


def _prepared(
    rows: Iterator[tuple[Place, Row]], source: Source, bad_rows: BadRows, seen: set[int]
) -> Iterator[tuple[Place, Row]]:
    for place, row in rows:
        try:
            if source.id_field is not None:
                _check_id(row, source.id_field, place, seen)
            if source.holdout is not None and not source.holdout.has(row, place, source.id_field):
                continue
            renamed = _rename(row, source, place) if source.fields else row
        except BadRow as error:
            bad_rows.bad(place, error.reason)
        else:
            yield place, renamed


def _check_id(row: Row, field: str, place: Place, seen: set[int]) -> None:
    identifier = row.get(field)
    if not isinstance(identifier, str | int):
        raise BadRow(place, f"no id in field '{field}': give the row one, or remove `id_field`")
    # The hash, 64 bits, and not the id: of ten million rows two collide with probability 3e-6.
    key = hash(str(identifier))
    if key in seen:
        raise BadRow(
            place, f"an earlier row has the id '{identifier}' too: remove one, or correct it"
        )
    seen.add(key)


def _rename(row: Row, source: Source, place: Place) -> Row:
    renamed = dict(row)
    for ours, theirs in source.fields.items():
        value, name = _holder(row, theirs)
        if name not in value:
            raise BadRow(
                place,
                f"no field '{theirs}' (the row has "
                f"{names_of(_names(value))}{did_you_mean(theirs, _names(value))}): set `fields` "
                "of this source to the row's names",
            )
        renamed[ours] = value[name]
    return renamed


def _holder(row: Row, name: str) -> tuple[Row, str]:
    """The object that holds a field, and what the field is called there: the row, the object in
    its ``translation``, or the object that the parts of ``a.b`` before the last lead to."""
    nested = row.get("translation")
    if name not in row and isinstance(nested, dict) and name in nested:
        return nested, name
    if name in row:
        return row, name
    *path, last = name.split(".")
    inner: Any = row
    for part in path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    return (inner, last) if path and isinstance(inner, dict) else (row, name)


def _names(row: Row) -> list[str]:
    """The names of fields, those of objects within with their own (``translation.de``)."""
    return [
        f"{name}.{inner}" if inner else str(name)
        for name, value in row.items()
        for inner in (value if isinstance(value, dict) and value else ("",))
    ]
