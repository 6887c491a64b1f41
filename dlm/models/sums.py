"""The hashes that travel with an export: written with it, compared wherever it is opened.

``SHA256SUMS`` is what ``sha256sum -c`` reads. Without torch. A file is read whole once: its hash is
remembered beside the export together with what the file system said of it, and counts as long as
that stays the same.
"""

import json
import re
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from dlm.errors import UserError, reason_of
from dlm.files import sha256_of, write_side_file

SUMS = "SHA256SUMS"
_MANIFEST, _EXPORT = "manifest.json", "export"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_COUNT = re.compile(r"# (\d+) files")
_SETTLED_S = 1.0
"""A file that changed so short a time before it was read may change again within the same tick of
the file system's clock: its hash is not remembered."""

FileStatus = tuple[int, int, int]
"""Size, time of change of the contents and of the entry, both in ns."""


def write_sums(directory: Path, sums: Mapping[str, str] | None = None) -> Path:
    """Write the hashes of every file of an export; ``sums``: those that are known, all of them."""
    if sums is None:
        sums = {
            path.relative_to(directory).as_posix(): _hash(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path != directory / SUMS
        }
    lines = [f"# {len(sums)} files", *(f"{digest}  {name}" for name, digest in sums.items())]
    place = directory / SUMS
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def check_sums(directory: Path, *, weights: bool = True) -> None:
    """Compare an export's files with the hashes that were written with it, where there are any.

    Args:
        directory: any model directory.
        weights: the safetensors files too, which may be large.

    Raises:
        UserError: A file is missing or was changed, or the hashes cannot be read; the message says
            what to do.
    """
    directory = directory.resolve()
    expected = recorded_sums(directory)
    if expected is None:
        return
    record = _Record(directory)
    for name, digest in expected.items():
        if not weights and name.endswith(".safetensors"):
            continue
        path = directory / name
        found = record.sum(name) if path.is_file() else None
        if found != digest:
            manifest = _sums_of_manifest(directory)
            if manifest is not None and manifest.get(name) == found:
                path = directory / SUMS  # the file is as it was written, so its list is damaged
            problem = (
                "has other contents than when it was written" if path.is_file() else "is missing"
            )
            raise UserError(f"{path} {problem}. {_remedy(directory)}")
    record.write()


def recorded_sums(directory: Path) -> dict[str, str] | None:
    """Name -> hash of every file of an export: its own list, else that of its stage's manifest;
    None where nothing was written down.

    Raises:
        UserError: The list cannot be read, or is gone.
    """
    manifest = _sums_of_manifest(directory)
    if (directory / SUMS).exists():
        return _read(directory)
    if manifest is not None and SUMS in manifest:
        raise UserError(f"{directory / SUMS} is missing. {_remedy(directory)}")
    return manifest


def file_sum(path: Path) -> str:
    """The hash of a file of a model directory; remembered as :func:`check_sums` does."""
    record = _Record(path.parent.resolve())
    digest = record.sum(path.name)
    record.write()
    return digest


class _Record:
    """The hashes that were found in a directory before, beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = directory.parent / f".{directory.name}.sums.json"
        self.found: dict[str, tuple[FileStatus, str]] = {}
        self.changed = False
        # A record that cannot be read costs a reading of the files, nothing else.
        with suppress(OSError, ValueError, TypeError, AttributeError):
            for name, (status, digest) in json.loads(self.place.read_bytes()).items():
                size, modified, entered = map(int, status)
                self.found[name] = ((size, modified, entered), str(digest))

    def sum(self, name: str) -> str:
        path = self.directory / name
        status = _status(path)
        known = self.found.get(name)
        if known is not None and known[0] == status:
            return known[1]
        digest = _hash_once(path, status)
        if time.time() - max(status[1:]) / 1e9 > _SETTLED_S:
            self.found[name], self.changed = (status, digest), True
        return digest

    def write(self) -> None:
        """Where this may not write, each process reads the files again."""
        # A hidden directory is one that is being written, and will have another name.
        if self.changed and self.directory.name[:1] not in ("", "."):
            write_side_file(self.place, self.found)


def _status(path: Path) -> FileStatus:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=4096)
def _hash_once(path: Path, status: FileStatus) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend its permissions, or take "
                        "it from where it was written") from error  # fmt: skip


def _read(directory: Path) -> dict[str, str]:
    place = directory / SUMS
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{place} cannot be read ({reason_of(error)}). {_remedy(directory)}"
        ) from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        name = Path(found[2]) if found else Path("..")
        if found is None or name.is_absolute() or ".." in name.parts:
            raise UserError(
                f"{place}, line {number} is no hash and name of a file. {_remedy(directory)}"
            )
        # Of a list made anew with sha256sum, its own hash from before there was anything in it.
        if name.as_posix() != SUMS:
            sums[name.as_posix()] = found[1]
    counted = _COUNT.fullmatch(lines[0]) if lines else None
    if not sums or (counted and int(counted[1]) != len(sums)):
        wanted = f" of {counted[1]}" if counted else ""
        raise UserError(f"{place} is damaged: it names {len(sums)}{wanted} files. "
                        f"{_remedy(directory)}")  # fmt: skip
    return sums


def _sums_of_manifest(directory: Path) -> dict[str, str] | None:
    if directory.name != _EXPORT:
        return None
    try:
        values = json.loads((directory.parent / _MANIFEST).read_text(encoding="utf-8"))
        return {
            str(item["path"]).removeprefix(f"{_EXPORT}/"): str(item["sha256"])
            for item in values["exports"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None  # what a manifest must be is the business of those who read it whole


def remedy_in_run(directory: Path) -> str | None:
    """What to do about a damaged file of a finished stage's export; None for another directory."""
    stage = directory.parent
    if directory.name != _EXPORT or not (stage / _MANIFEST).is_file():
        return None
    name = stage.name.partition("_")[2] or stage.name
    return (
        f"Put it back as it was written, or make the stage anew (`dlm run` its recipe with "
        f"--force {name}). To change a model by hand, `dlm export` it and change the copy"
    )


def _remedy(directory: Path) -> str:
    return remedy_in_run(directory) or (
        "Put it back as it was written, or export the model again. If the change was meant, write "
        f"the hashes anew: (cd {shlex.quote(str(directory))} && find . -type f ! -name {SUMS} "
        f"-exec sha256sum {{}} + > {SUMS})"
    )
