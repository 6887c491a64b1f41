"""The rows of a stage that generates, on their way to the disk: a kill loses none that are whole.

``checkpoints/rows.jsonl`` grows by one chunk at a time; ``checkpoints/progress.json`` says, after
each, how far it is whole. ``checkpoints/batches.jsonl`` holds what is done of the chunk in work.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dlm.files import make_folder, write_json
from dlm.recipe.manifest import EXPORT
from dlm.recipe.state import CHECKPOINTS, PROGRESS
from dlm.training.sources import ROWS_FILE

BATCHES = "batches.jsonl"


@dataclass(frozen=True)
class Written:
    """How far the file is whole, and what was counted up to there."""

    prompts: int = 0
    """Prompts whose answers are in it, or were left out."""
    bytes: int = 0
    seconds: float = 0.0
    """What all attempts spent on them."""
    counts: dict[str, float] = field(default_factory=dict)


class RowsOnDisk:
    """One stage's rows; only rank 0 has one that is used."""

    def __init__(self, directory: Path, total: int) -> None:
        """``total``: how many prompts there are."""
        self._folder, self._export = directory / CHECKPOINTS, directory / EXPORT
        self.total = total

    @property
    def batches(self) -> Path:
        """Where the results of the chunk in work are kept."""
        return self._folder / BATCHES

    @property
    def _growing(self) -> Path:
        return self._folder / ROWS_FILE

    @property
    def finished(self) -> Path:
        """The file that is handed on."""
        return self._export / ROWS_FILE

    def resumed(self) -> Written:
        """What an earlier attempt has left, cut back to whole chunks; nothing of it where the file
        is shorter than was said."""
        written = self._said()
        whole = written.prompts == self.total and not self._growing.exists()
        place = self.finished if whole else self._growing
        if written.prompts and place.is_file() and place.stat().st_size >= written.bytes:
            os.truncate(place, written.bytes)
        else:
            written = Written()
            make_folder(self._folder)
            self._growing.write_bytes(b"")
        self.note(written, written.prompts)
        return written

    def add(self, written: Written, lines: Sequence[str], after: Written) -> Written:
        """Append a chunk; ``after`` is what is written then, but for its bytes and counts."""
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._growing.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        counts = Counter(written.counts)
        counts.update(after.counts)
        whole = replace(after, bytes=written.bytes + len(data), counts=dict(counts))
        self.note(whole, whole.prompts)
        self.batches.unlink(missing_ok=True)
        return whole

    def note(self, written: Written, shown: int) -> None:
        """Say how far it is; ``shown`` counts what is done of the chunk in work too."""
        progress = {"step": shown, "steps": self.total, "written": asdict(written)}
        write_json(self._folder / PROGRESS, progress)

    def finish(self) -> Path:
        """Move the whole file to the export."""
        if self._growing.exists():
            shutil.rmtree(self._export, ignore_errors=True)
            self._export.mkdir()
            self._growing.rename(self.finished)
        return self.finished

    def _said(self) -> Written:
        try:
            values: Any = json.loads((self._folder / PROGRESS).read_text(encoding="utf-8"))
            return Written(**values["written"])
        except (OSError, ValueError, KeyError, TypeError):
            return Written()
