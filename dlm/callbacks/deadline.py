"""How long an attempt may take, so that it ends by itself before the cluster ends it."""

import time
from dataclasses import dataclass, field

MARGIN_S = 10.0
"""Kept free on top of a save: to leave the loop, close files and hand the allocation back."""


@dataclass
class Deadline:
    """The end of this attempt on the monotonic clock."""

    limit_s: float
    """``hardware.max_time``."""
    started_s: float
    """When the process began."""
    _longest_s: float = field(default=0.0, init=False)
    _boundary_s: float | None = field(default=None, init=False)

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self.started_s + self.limit_s - time.monotonic()

    def is_near(self, save_s: float) -> bool:
        """Asked between two steps: whether another one, and a save after it, may come too late.

        A step counts as the longest one so far, its validation included.
        """
        now = time.monotonic()
        if self._boundary_s is not None:
            self._longest_s = max(self._longest_s, now - self._boundary_s)
        self._boundary_s = now
        return self.left_s < save_s + self._longest_s + MARGIN_S
