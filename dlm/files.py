"""Files that are whole or not there, and the places for them.

One writer: :func:`replacing` gives a file beside the place, which is renamed into it at the end. A
reader, and a kill at any moment, finds the old file or the new one. What a run depends on is
flushed to the disk before its name is there (``durable``, the default): after a power cut the name
stands for the whole file. What can be made again in seconds is not, as a flush may take long on a
shared file system.
"""

import hashlib
import json
import math
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A file to write instead of ``path``, which it becomes when the block ends without an error.

    Args:
        path: The place; its directory has to be there.
        durable: Flush the file before the rename, and the directory after it.
    """
    # Threads and hosts of one run may write it at the same time; process ids repeat over hosts.
    own = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    partial = path.with_name(f".{path.name}.{own}.tmp")
    try:
        yield partial
        if durable:
            _flush(partial)
        partial.replace(make_way(path))
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        _flush(path.parent)


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text in UTF-8; the directory is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write JSON that people may read; see :func:`json_ready`."""
    write_text(path, json.dumps(json_ready(values), indent=2, ensure_ascii=False) + "\n")


def write_side_file(path: Path, values: Any) -> None:
    """Write JSON beside the work, on which nothing depends. Where it cannot be written (a full
    disk, a place that is not ours) nothing happens: what depends on the disk says so."""
    with suppress(OSError), replacing(path, durable=False) as partial:
        partial.write_text(json.dumps(values), encoding="utf-8")


def json_ready(value: Any) -> Any:
    """Anything as strict JSON: a metric of an odd type must not cost a finished stage."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    value = as_python(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def as_python(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own; anything else as it is."""
    scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if scalar else value


def sha256_of(path: Path, *, flush: bool = False) -> str:
    """The hash of a whole file; ``flush``: of what has reached the disk."""
    with path.open("rb") as stream:
        if flush:
            os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_way(path: Path) -> Path:
    """Move a directory aside that lies where a file belongs, and say so; gives ``path`` back."""
    if path.is_dir() and not path.is_symlink():
        print(f"{path} was a directory where a file belongs: it is now {aside(path)}",
              file=sys.stderr)  # fmt: skip
    return path


def aside(path: Path) -> Path:
    """Rename what lies there; gives its new place, beside it."""
    return path.rename(free_name(path))


def free_name(path: Path) -> Path:
    """A name beside it that nothing has: NAME.damaged, NAME.damaged-2 ..."""
    place = path.with_name(f"{path.name}.damaged")
    count = 1
    while place.exists():
        count += 1
        place = path.with_name(f"{path.name}.damaged-{count}")
    return place


def make_folder(folder: Path) -> None:
    """Make a folder of a stage, such as logs/samples. The stage's own directory must be there: it
    is missing when the run was moved away, and is not to be made anew in its old place.

    Raises:
        FileNotFoundError: It is missing.
    """
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
