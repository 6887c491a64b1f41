"""Rows from local files, the Hugging Face hub or a generator."""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlm.errors import UserError

Row = dict[str, Any]

_JSON_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number",
               str: "text", list: "a list", dict: "an object"}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One place that rows come from; exactly one of ``path``, ``hub`` and ``generator``."""

    split: str
    """Split of a hub data set or a generator."""
    path: Path | None = None
    """A .jsonl or .txt file."""
    hub: str | None = None
    hub_config: str | None = None
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

    def where(self, number: int) -> str:
        """One row for messages: the line of a file, else the row's number."""
        return f"{self.place}, {'row' if self.path is None else 'line'} {number}"


def read_rows(source: Source) -> list[Row]:
    """All rows of a source, with its fields renamed and its limit applied.

    Raises:
        UserError: As :func:`numbered_rows`.
    """
    return [row for _, row in numbered_rows(source)]


def numbered_rows(source: Source) -> list[tuple[int, Row]]:
    """The rows with their numbers, which in a file are the lines (blank ones are left out).

    Raises:
        UserError: A file is missing, empty or broken (file and line are named), a field is
            missing, or the hub cannot be reached.
    """
    rows: list[tuple[int, Row]] = []
    for number, row in _origin(source):
        rows.append((number, _rename(row, source, number)))
        if source.limit is not None and len(rows) >= source.limit:
            break
    if not rows:
        raise UserError(f"{source.place} has no rows: give a source with at least one")
    return rows


def _origin(source: Source) -> Iterator[tuple[int, Row]]:
    if source.path is not None:
        yield from _read_file(source.path)
    elif source.hub is not None:
        yield from enumerate(_read_hub(source), start=1)
    else:
        from dlm.data.generated import generate

        yield from enumerate(_generated(generate, source), start=1)


def _rename(row: Row, source: Source, number: int) -> Row:
    renamed = dict(row)
    for ours, theirs in source.fields.items():
        nested = row.get("translation")
        value = nested if theirs not in row and isinstance(nested, dict) else row
        if theirs not in value:
            raise UserError(
                f"{source.where(number)}: no field '{theirs}' (the row has "
                f"{', '.join(map(str, value))}{did_you_mean(theirs, value)}): set `fields` of "
                "this source to the row's names"
            )
        renamed[ours] = value[theirs]
    return renamed


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def json_kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    return _JSON_KINDS.get(type(value), type(value).__name__)


def _read_file(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        # Bytes, because a text stream reads ahead: it could not say which line is not UTF-8.
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: not UTF-8 (byte {error.start + 1} of the line, "
                    f"{error.reason}): convert the file to UTF-8, or correct the line"
                ) from error
            if line.strip():
                yield number, _parse_line(line, path, number)


def _parse_line(line: str, path: Path, number: int) -> Row:
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
        raise UserError(f"{path}, line {number}: not JSON ({problem}); {remedy}") from error
    except (UnicodeEncodeError, RecursionError) as error:
        raise UserError(
            f"{path}, line {number}: not JSON that can be read ({error}); {remedy}"
        ) from error
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: {json_kind(row)}, not an object; {remedy}")
    return row


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot read {path}: {error.strerror}. Correct the path, or set data.root=DIR to the "
        "folder that it is relative to"
    )


def _read_hub(source: Source) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        rows = load_dataset(
            source.hub, source.hub_config, split=source.split, revision=source.revision
        )
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
        return {**hub, "split": source.split, **common}
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
