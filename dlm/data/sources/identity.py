"""What decides the rows of a source: hashes of files, settings of the others."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlm.data.sources.files import is_saved, source_files, unreadable
from dlm.data.sources.generator import generated_identity
from dlm.data.sources.reading import reading_of
from dlm.data.sources.saved import saved_files
from dlm.data.sources.source import Source
from dlm.files import sha256_of


def source_identity(source: Source) -> dict[str, Any]:
    """What decides the rows of a source, without reading more than its bytes.

    Of files the contents in the order of their names: moving them changes nothing. Of a stage that
    has yet to write its rows nothing: the fingerprint of the stage that reads them has its.

    Raises:
        UserError: A local file is missing, or of no kind that is read.
    """
    decided = {**_origin(source), "fields": source.fields, "limit": source.limit}
    if source.limit is not None and isinstance(decided.get("files"), list):
        decided["limit"] = {"rows": source.limit, "of": "every file alike"}
    options = {
        "columns": list(source.columns),
        "unquoted": source.unquoted,
        "id_field": source.id_field,
        "holdout": source.holdout and [
            source.holdout.part, source.holdout.share, list(source.holdout.by)
        ],
        "normalise": source.normalise if source.normalise != "none" else None,
    }  # fmt: skip
    return decided | {name: value for name, value in options.items() if value}


def _origin(source: Source) -> dict[str, Any]:
    if source.path is not None:
        files = [_file(file, source) for file in source_files(source.path, source.format)]
        return files[0] if len(files) == 1 else {"files": files}
    if source.parallel:
        texts = replace(source, format="txt")
        return {"parallel": {name: _file(path, texts) for name, path in source.parallel.items()}}
    if source.stage is not None:
        return {"written by": "an earlier stage"}
    if source.hub is not None:
        hub = {"hub": source.hub, "config": source.hub_config, "revision": source.revision}
        chosen = {"files": source.hub_files} if source.hub_files is not None else {}
        return {**hub, **chosen, "split": source.split}
    return {"generated": generated_identity(source)}


def _file(path: Path, source: Source) -> dict[str, Any]:
    """The bytes of a file and how they are read, where that is not as files of its format are."""
    if is_saved(path):
        return {"sha256": [file_sha256(file) for file in saved_files(path)], "format": "saved"}
    reading = reading_of(path, source)
    return {"sha256": file_sha256(path), "format": reading.format, **reading.unusual()}


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, remembered while its size and time stay the same.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        status = path.stat()
        return _hash_file(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise unreadable(path, error) from error


@lru_cache(maxsize=4096)
def _hash_file(path: str, size: int, modified_ns: int) -> str:
    return sha256_of(Path(path))
