"""How long a stage has taken in all its attempts: kept while it runs, for a kill to lose little."""

import json
import threading
import time
from pathlib import Path
from types import TracebackType

from dlm.files import write_side_file
from dlm.recipe.lock import HEARTBEAT_S

TIME = "time.json"


def seconds_so_far(directory: Path) -> float | None:
    """Seconds of all attempts at a stage, as last kept; None: none was."""
    try:
        return float(json.loads((directory / TIME).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class StageTime:
    """Counts an attempt on top of the earlier ones, by a clock that nobody sets back."""

    def __init__(self, directory: Path, *, attempt: int, every_s: float = HEARTBEAT_S) -> None:
        """
        Args:
            directory: The stage's.
            attempt: 1 for the first, before which nothing counts.
            every_s: Seconds between two records: what a kill loses at most.
        """
        self._file = directory / TIME
        self._before = 0.0 if attempt == 1 else seconds_so_far(directory) or 0.0
        self._every_s = every_s
        self._ended = threading.Event()
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of all attempts up to now."""
        return self._before + time.monotonic() - self._begin

    def __enter__(self) -> "StageTime":
        self._keep()
        threading.Thread(target=self._beat, name="stage-time", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._keep()

    def _beat(self) -> None:
        while not self._ended.wait(self._every_s):
            self._keep()

    def _keep(self) -> None:
        write_side_file(self._file, {"seconds": round(self.seconds, 3)})
