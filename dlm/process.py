"""This process: when it began, which of a job's it is, and how a cluster asks it to stop.

Imported before anything that takes long to import.
"""

import os
import signal
import time

STARTED_S = time.monotonic()
"""Seconds of the monotonic clock: setting the machine's clock does not move it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Slurm's ``--signal`` sends the second one by custom."""

_RANKS = ("SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


def process_rank() -> int:
    """Rank in a distributed job; 0 outside of one. Only whether it is 0 is relied on."""
    names = ("RANK",) if "RANK" in os.environ else _RANKS
    return max(int(os.environ.get(name) or 0) for name in names)
