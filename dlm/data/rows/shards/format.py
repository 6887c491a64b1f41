"""The files of a prepared data set, and how one knows that they are whole.

A directory holds shards of bounded size. A shard is three arrays: the token ids of its rows one
after the other, where each row begins (and the last one ends), and the prompts' lengths.
``index.json`` is written last, and atomically: without it nothing is read. While a data set is made
``progress.jsonl`` has a line for each finished shard.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlm.data.rows.shards.place import writing
from dlm.data.sources import Place
from dlm.errors import UserError
from dlm.files import replacing, sha256_of, write_text

VERSION = 4
"""Raised whenever the same rows would be written otherwise; it is part of the key."""
SHARD_TOKENS = 16 * 2**20
"""A shard is closed when it has this many tokens: 32 MiB of uint16, 64 MiB of int32."""
INDEX, PROGRESS = "index.json", "progress.jsonl"
TOKENS = "tokens"
ARRAYS = (TOKENS, "offsets", "prompts")


@dataclass(frozen=True)
class FileSum:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One finished shard."""

    rows: int
    tokens: int
    files: dict[str, FileSum]
    """Name of the array -> its file."""


@dataclass(frozen=True)
class Reached:
    """How far the sources are read and what was counted on the way.

    It is kept with every shard, so that a preparation that was killed goes on behind the last one.
    """

    source: int = 0
    """Sources read to their end."""
    examples: int = 0
    """Examples read of the source after them."""
    dropped: int = 0
    """Rows left out because they are too long."""
    unknown_tokens: int = 0
    """Tokens that the tokenizer does not know."""
    source_rows: tuple[int, ...] = ()
    """Rows kept of each source begun."""
    cut_prompts: int = 0
    """Prompts that lost their beginning."""
    carry: tuple[int, ...] = ()
    """Tokens that wait for the rest of their block."""


@dataclass(frozen=True)
class Index:
    """A finished data set."""

    key: str
    shards: tuple[Shard, ...]
    reached: Reached = field(default_factory=Reached)
    counts: dict[str, int] = field(default_factory=dict)
    """What was left out while reading, by reason."""
    version: int = VERSION

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens of all shards."""
        return sum(shard.tokens for shard in self.shards)


class DamagedShards(UserError):
    """A prepared data set is not whole, or of another version."""

    def __init__(self, directory: Path, problem: str) -> None:
        super().__init__(
            f"{directory}: {problem}. Delete this directory; it is made again from the sources"
        )


def file_name(number: int, array: str) -> str:
    """Name of one array of a shard."""
    return f"{number:06d}.{array}.npy"


def write_array(directory: Path, number: int, name: str, array: npt.NDArray[Any]) -> FileSum:
    """Write one array of a shard, on the disk before its name is there."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    content = buffer.getbuffer()
    with replacing(directory / file_name(number, name)) as partial:
        partial.write_bytes(content)
    return FileSum(len(content), hashlib.sha256(content).hexdigest())


def write_index(directory: Path, index: Index) -> None:
    """Declare a data set finished."""
    write_text(directory / INDEX, json.dumps(asdict(index), indent=1))


def read_index(directory: Path) -> Index | None:
    """The index of a finished data set whose files are as written; None if it is not finished.

    Sizes are compared, and the hashes of what is small (where rows begin, prompts' lengths) and of
    every file that was changed after the index, which is written last.

    Raises:
        DamagedShards: A file is missing, cut short or changed, or the format is another version's.
    """
    try:
        text = (directory / INDEX).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedShards(directory, f"{INDEX} cannot be read ({error})") from error
    try:
        values = json.loads(text)
        version = values["version"]
        if version != VERSION:
            raise DamagedShards(
                directory, f"its format is version {version}, and this dlm reads {VERSION}"
            )
        index = Index(
            values["key"], tuple(map(shard_of, values["shards"])),
            reached_of(values["reached"]), values["counts"], version,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedShards(directory, f"{INDEX} cannot be read ({error})") from error
    if index.key != directory.name:
        raise DamagedShards(directory, f"{INDEX} is of another data set, {index.key}")
    written_ns = (directory / INDEX).stat().st_mtime_ns
    for number, shard in enumerate(index.shards):
        if (problem := damage(directory, number, shard, since_ns=written_ns)) is not None:
            raise DamagedShards(directory, problem)
    return index


def verify(directory: Path, index: Index) -> None:
    """Read every shard whole and compare its checksums.

    Raises:
        DamagedShards: A file has changed.
    """
    for number, shard in enumerate(index.shards):
        if (problem := damage(directory, number, shard)) is not None:
            raise DamagedShards(directory, problem)


def damage(directory: Path, number: int, shard: Shard, *, since_ns: int = 0) -> str | None:
    """What is wrong with a shard's files; None if nothing is.

    ``since_ns``: a large file that was last changed before is not read.
    """
    for array, expected in shard.files.items():
        path = directory / file_name(number, array)
        try:
            status = path.stat()
            if status.st_size != expected.size:
                return f"{path.name} has {status.st_size} bytes in place of {expected.size}"
            read = array != TOKENS or status.st_mtime_ns > since_ns
            if read and sha256_of(path) != expected.sha256:
                return f"{path.name} is not what was written (its checksum differs)"
        except OSError as error:
            return f"{path.name} cannot be read ({error.strerror})"
    return None


def shard_of(values: dict[str, Any]) -> Shard:
    """Read back what ``asdict`` made."""
    files = {array: FileSum(**values["files"][array]) for array in ARRAYS}
    return Shard(values["rows"], values["tokens"], files)


def reached_of(values: dict[str, Any]) -> Reached:
    """Read back what ``asdict`` made."""
    lists = {name: tuple(values[name]) for name in ("source_rows", "carry")}
    return Reached(**{**values, **lists})


BAD_ROWS = "bad_rows.jsonl"


def write_bad_rows(directory: Path, rows: Sequence[tuple[Place, str]]) -> None:
    """One JSON list a line: origin, number and unit of the place, and the reason."""
    if rows:
        lines = (json.dumps([*place, reason], ensure_ascii=False) for place, reason in rows)
        with writing(directory):
            write_text(directory / BAD_ROWS, "".join(f"{line}\n" for line in lines))


def read_bad_rows(directory: Path) -> Iterator[tuple[Place, str]]:
    """What :func:`write_bad_rows` wrote; nothing where no row was skipped."""
    path = directory / BAD_ROWS
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            origin, number, unit, reason = json.loads(line)
            yield Place(origin, number, unit), reason
