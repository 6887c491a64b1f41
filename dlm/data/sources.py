"""Rows from local files, the Hugging Face hub or a generator."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dlm.errors import UserError, did_you_mean

Row = dict[str, Any]

_JSON_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number",
               str: "text", list: "a list", dict: "an object"}  # fmt: skip


class Place(NamedTuple):
    """Where a row comes from, for messages: of a file the line, else the row's number."""

    origin: str
    number: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.origin}, {self.unit} {self.number}"


@dataclass(frozen=True)
class Source:
    """One place that rows come from; exactly one of ``path``, ``hub`` and ``generator``."""

    split: str
    """Split of a hub data set or a generator."""
    path: Path | None = None
    """A .jsonl or .txt file."""
    hub: str | None = None
    hub_config: str | None = None
    hub_files: str | None = None
    revision: str | None = None
    generator: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    """Our field name -> the row's."""
    limit: int | None = None
    seed: int = 0

    @property
    def place(self) -> str:
        """Where the rows come from, for messages."""
        if self.path is not None:
            return str(self.path)
        if self.hub is not None:
            return f"hub data set {self.hub} ({self.split})"
        return f"generator {self.generator} ({self.split})"


def read_rows(source: Source) -> list[Row]:
    """All rows of a source, with its fields renamed and its limit applied.

    Raises:
        UserError: As :func:`stream_rows`.
    """
    return [row for _, row in stream_rows(source)]


def stream_rows(source: Source) -> Iterator[tuple[Place, Row]]:
    """The rows one by one with their places (blank lines of a file are left out).

    Raises:
        UserError: A file is missing, empty or broken (file and line are named), a field is
            missing, or the hub cannot be reached.
    """
    count = 0
    for place, row in islice(_origin(source), source.limit):
        yield place, _rename(row, source, place)
        count += 1
    if not count:
        raise UserError(f"{source.place} has no rows: give a source with at least one")


def _origin(source: Source) -> Iterator[tuple[Place, Row]]:
    if source.path is not None:
        yield from _read_file(source.path)
        return
    if source.hub is not None:
        rows: Iterable[Row] = _read_hub(source)
    else:
        from dlm.data.generated import generate

        rows = _generated(generate, source)
    for number, row in enumerate(rows, start=1):
        yield Place(source.place, number), row


def _rename(row: Row, source: Source, place: Place) -> Row:
    renamed = dict(row)
    for ours, theirs in source.fields.items():
        nested = row.get("translation")
        value = nested if theirs not in row and isinstance(nested, dict) else row
        if theirs not in value:
            raise UserError(
                f"{place}: no field '{theirs}' (the row has "
                f"{', '.join(map(str, value))}{did_you_mean(theirs, value)}): set `fields` of "
                "this source to the row's names"
            )
        renamed[ours] = value[theirs]
    return renamed


def json_kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    return _JSON_KINDS.get(type(value), type(value).__name__)


def _read_file(path: Path) -> Iterator[tuple[Place, Row]]:
    try:
        # Bytes, because a text stream reads ahead: it could not say which line is not UTF-8.
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        for number, raw in enumerate(file, start=1):
            place = Place(str(path), number, "line")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{place}: not UTF-8 (byte {error.start + 1} of the line, "
                    f"{error.reason}): convert the file to UTF-8, or correct the line"
                ) from error
            if line.strip():
                yield place, _parse_line(line, path, place)


def _parse_line(line: str, path: Path, place: Place) -> Row:
    if path.suffix == ".txt":
        return {"text": line.rstrip("\r\n")}
    known = "" if path.suffix == ".jsonl" else " (files are .jsonl or .txt)"
    remedy = f"every line must be one JSON object{known}: correct or remove this line"
    try:
        row = json.loads(line)
        if "\\u" in line:
            # Half of a surrogate pair is JSON, and no text.
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise UserError(f"{place}: not JSON ({problem}); {remedy}") from error
    except (UnicodeEncodeError, RecursionError) as error:
        raise UserError(f"{place}: not JSON that can be read ({error}); {remedy}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: {json_kind(row)}, not an object; {remedy}")
    return row


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot read {path}: {error.strerror}. Correct the path, or set data.root=DIR to the "
        "folder that it is relative to"
    )


def _read_hub(source: Source) -> Iterator[Row]:
    from datasets import load_dataset

    files = {} if source.hub_files is None else {"data_files": source.hub_files}
    try:
        rows = load_dataset(
            source.hub, source.hub_config, split=source.split, revision=source.revision, **files
        )  # fmt: skip
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(
            f"{source.place} cannot be loaded: {error}. Without a network set data.root=DIR to "
            "a folder with local files, or fill the hub's cache on a machine that has one"
        ) from error
    yield from rows


def source_identity(source: Source) -> dict[str, Any]:
    """What decides the rows of a source, without reading more than its bytes.

    Raises:
        UserError: A local file is missing.
    """
    common = {"fields": source.fields, "limit": source.limit}
    if source.path is not None:
        return {"sha256": file_sha256(source.path), **common}
    if source.hub is not None:
        hub = {"hub": source.hub, "config": source.hub_config, "revision": source.revision}
        files = {} if source.hub_files is None else {"files": source.hub_files}
        return {**hub, **files, "split": source.split, **common}
    from dlm.data.generated import identity

    return {"generated": _generated(identity, source), **common}


def _generated(call: Callable[..., Any], source: Source) -> Any:
    if type(source.seed) is not int:
        raise UserError(f"{source.place}: seed must be a whole number, not {source.seed!r}")
    try:
        return call(
            source.generator,
            split=source.split,
            count=source.count,
            seed=source.seed,
            **source.options,
        )
    except ValueError as error:
        raise UserError(f"{source.place}: {error}") from error


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, remembered while its size and time stay the same.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        status = path.stat()
        return _hash_file(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=256)
def _hash_file(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
