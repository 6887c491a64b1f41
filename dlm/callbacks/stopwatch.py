"""Seconds of the parts of a step, by the names of Lightning's own actions."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from lightning.pytorch.profilers import Profiler

WAIT: dict[str, str] = {"train_dataloader_next": "wait"}
"""A training run's: how long the trainer waits for the next batch."""


def clock() -> float:
    """Seconds, from anywhere."""
    return time.perf_counter()


class Stopwatch(Profiler):
    """Adds up the seconds of some actions; where one lies in another, the inner one's count there
    alone."""

    def __init__(
        self, parts: Mapping[str, str], synchronise: Callable[[], None] | None = None
    ) -> None:
        """
        Args:
            parts: Name of an action, without what stands before its last dot, to the name of the
                part that it counts for; other actions are not timed.
            synchronise: Called before each look at the clock: waits for the device.
        """
        super().__init__()
        self.parts = dict(parts)
        self.synchronise = synchronise
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def start(self, action_name: str) -> None:
        if (part := self._part(action_name)) is not None:
            now = self._now()
            if self._open:
                self._seconds[self._open[-1][0]] += now - self._open[-1][1]
            self._open.append((part, now))

    def stop(self, action_name: str) -> None:
        if self._part(action_name) is not None and self._open:
            now = self._now()
            part, since = self._open.pop()
            self._seconds[part] += now - since
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    def take(self) -> dict[str, float]:
        """Seconds of each part since the last call."""
        seconds = dict.fromkeys(self.parts.values(), 0.0) | self._seconds
        self._seconds.clear()
        return seconds

    def _part(self, action: str) -> str | None:
        return self.parts.get(action) or self.parts.get(action.rpartition(".")[2])

    def _now(self) -> float:
        if self.synchronise is not None:
            self.synchronise()
        return clock()
