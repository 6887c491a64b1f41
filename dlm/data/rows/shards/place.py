"""Where prepared data lies, who makes it, and what is said when it cannot be written."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlm.errors import StageFailed, UserError

VARIABLE = "DLM_CACHE"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDY = f"set data.cache=DIR or the variable {VARIABLE}"


def shard_directory(cache: Path | None, key: str) -> Path:
    """The directory of a data set, below ``cache``, $DLM_CACHE or ~/.cache/dlm."""
    given = cache or os.environ.get(VARIABLE)
    return (Path(given) if given else Path.home() / ".cache" / "dlm") / "shards" / key


@contextmanager
def only_one(directory: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time prepare a data set; the others wait, and say so.

    Raises:
        UserError: The file system knows no locks.
    """
    with _opened(directory.with_name(f"{directory.name}.lock")) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares the same data in {directory}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{directory}: no file can be locked there ({error.strerror}), and two processes "
                f"that prepare the same data would get into each other's way: {_REMEDY} to a "
                "directory on another file system"
            ) from error
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Explain what the system refuses while prepared data is written.

    Raises:
        StageFailed: The disk or the quota is full.
        UserError: The place cannot be written at all.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StageFailed(
                f"prepared data cannot be written to {directory}: the disk, the quota or the "
                f"largest file size is full ({error.strerror}). Free space there, or {_REMEDY} "
                "to another disk; finished shards are kept"
            ) from error
        raise UserError(
            f"prepared data cannot be written to {directory} ({error.strerror}): {_REMEDY} to a "
            "directory that can be written"
        ) from error
