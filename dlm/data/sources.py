"""Rows from local files, the Hugging Face hub or a generator."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlm.errors import UserError

Row = dict[str, Any]


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


def read_rows(source: Source) -> list[Row]:
    """All rows of a source, with its fields renamed and its limit applied.

    Raises:
        UserError: A file is missing, empty or broken (file and line are named), a field is
            missing, or the hub cannot be reached.
    """
    rows: list[Row] = []
    for number, row in _numbered_rows(source):
        rows.append(_rename(row, source, number))
        if source.limit is not None and len(rows) >= source.limit:
            break
    if not rows:
        raise UserError(f"{source.place} has no rows: give a file with at least one")
    return rows


def _numbered_rows(source: Source) -> Iterator[tuple[int, Row]]:
    if source.path is not None:
        yield from _read_file(source.path)
    elif source.hub is not None:
        yield from enumerate(_read_hub(source), start=1)
    else:
        from dlm.data.generated import generate

        assert source.generator is not None
        try:
            rows = generate(
                source.generator, split=source.split, count=source.count, seed=source.seed,
                **source.options,
            )  # type: ignore[arg-type]  # fmt: skip
        except ValueError as error:
            raise UserError(f"{source.place}: {error}") from error
        yield from enumerate(rows, start=1)


def _rename(row: Row, source: Source, number: int) -> Row:
    renamed = dict(row)
    for ours, theirs in source.fields.items():
        value = row.get("translation", row) if theirs not in row else row
        if theirs not in value:
            raise UserError(
                f"{source.place}, row {number}: no field '{theirs}' (the row has "
                f"{', '.join(map(str, row))}): set `fields` of this source to the row's names"
            )
        renamed[ours] = value[theirs]
    return renamed


def _read_file(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Set data.root=DIR to the folder "
                        "of the files, or correct the source's path") from error  # fmt: skip
    parse = _parse_text if path.suffix == ".txt" else _parse_json
    with file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, parse(line, path, number)
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8: {error.reason}. Convert the file") from error


def _parse_text(line: str, path: Path, number: int) -> Row:
    return {"text": line.rstrip("\n")}


def _parse_json(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}). "
            "Every line must be one JSON object: correct or remove this line"
        ) from error
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: a JSON {type(row).__name__}, not an object with fields")
    return row


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

    assert source.generator is not None
    try:
        generated = identity(
            source.generator, split=source.split, count=source.count, seed=source.seed,
            **source.options,
        )  # type: ignore[arg-type]  # fmt: skip
    except ValueError as error:
        raise UserError(f"{source.place}: {error}") from error
    return {"generated": generated, **common}


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, remembered while its size and time stay the same.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        status = path.stat()
        return _hash_file(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Set data.root=DIR to the folder "
                        "of the files, or correct the source's path") from error  # fmt: skip


@lru_cache(maxsize=256)
def _hash_file(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
