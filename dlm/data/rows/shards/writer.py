"""Writing shards one after the other, each with the place in the sources that it reaches."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlm.data.rows.shards.format import (
    ARRAYS,
    INDEX,
    PROGRESS,
    SHARD_TOKENS,
    Index,
    Reached,
    Shard,
    damage,
    file_name,
    reached_of,
    shard_of,
    write_array,
    write_index,
)
from dlm.data.rows.shards.place import writing


class ShardWriter:
    """Collects rows and writes a shard whenever there are enough.

    It goes on behind the whole shards that an earlier process left, and removes the rest.
    """

    def __init__(self, directory: Path, *, shard_tokens: int = SHARD_TOKENS) -> None:
        self.directory = directory
        self.shard_tokens = shard_tokens
        self.shards: list[Shard] = []
        self.reached = Reached()
        self._clear()
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._find_finished()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(shard.rows for shard in self.shards) + sum(map(len, self._lengths))

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return sum(shard.tokens for shard in self.shards) + self._pending

    def add(
        self,
        tokens: npt.NDArray[Any],
        lengths: npt.NDArray[np.int64],
        prompts: npt.NDArray[np.int32],
        reached: Reached,
    ) -> None:
        """Rows one after the other, their lengths and their prompts' lengths."""
        self._tokens.append(tokens)
        self._lengths.append(lengths)
        self._prompts.append(prompts)
        self._pending += len(tokens)
        self.reached = reached
        if self._pending >= self.shard_tokens:
            self._close()

    def finish(self, key: str, counts: dict[str, int]) -> Index:
        """Write what is left, and the index with what was left out while reading."""
        if self._pending:
            self._close()
        index = Index(key, tuple(self.shards), self.reached, counts)
        with writing(self.directory):
            write_index(self.directory, index)
            (self.directory / PROGRESS).unlink(missing_ok=True)
        return index

    def _close(self) -> None:
        lengths = np.concatenate(self._lengths)
        arrays = {
            "tokens": np.concatenate(self._tokens),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "prompts": np.concatenate(self._prompts),
        }
        number = len(self.shards)
        with writing(self.directory):
            files = {a: write_array(self.directory, number, a, arrays[a]) for a in ARRAYS}
            shard = Shard(len(lengths), len(arrays["tokens"]), files)
            self._record(number, shard)
        self.shards.append(shard)
        self._clear()

    def _clear(self) -> None:
        self._tokens: list[npt.NDArray[Any]] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._prompts: list[npt.NDArray[np.int32]] = []
        self._pending = 0

    def _record(self, number: int, shard: Shard) -> None:
        line = {"number": number, "shard": asdict(shard), "reached": asdict(self.reached)}
        with (self.directory / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _find_finished(self) -> None:
        progress = self.directory / PROGRESS
        lines = progress.read_bytes().splitlines() if progress.exists() else []
        kept: list[bytes] = []
        with suppress(ValueError, TypeError, KeyError):  # the last line may be cut short
            for number, line in enumerate(lines):
                values = json.loads(line)
                shard, reached = shard_of(values["shard"]), reached_of(values["reached"])
                if values["number"] != number or damage(self.directory, number, shard):
                    break
                self.shards.append(shard)
                self.reached = reached
                kept.append(line + b"\n")
        names = {file_name(n, array) for n in range(len(kept)) for array in ARRAYS} | {PROGRESS}
        with writing(self.directory):
            for path in self.directory.iterdir():
                if path.name not in names or path.name == INDEX:
                    path.unlink()
            progress.write_bytes(b"".join(kept))
