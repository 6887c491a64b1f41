"""Keeps a process's memory bounded although each batch has another shape."""

import ctypes
import os
from functools import cache
from pathlib import Path

_CACHED_ROUTINES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
_LEEWAY_MIB, _BATCHES_BETWEEN = 256, 32
_STATM = Path("/proc/self/statm")


def keep_few_routines() -> None:
    """Let oneDNN and torch keep 16 compiled products each in place of 1,024: one is made for every
    number of rows met, and each holds memory. Read when torch is loaded, so called before that;
    a value that is set already stays."""
    for name, value in _CACHED_ROUTINES.items():
        os.environ.setdefault(name, value)


class _Freed:
    """Gives back to the system what the C library keeps of freed buffers.

    Buffers of changing sizes leave holes that the next ones do not fit, and the process grows
    though no more is in use. Asking it back costs the time to fetch it again, so it is done when
    the process has grown by a quarter, and by 256 MiB at least, and not in every batch.
    """

    def __init__(self) -> None:
        self._least_mib = float("inf")
        self._batches = 0

    def give_back(self) -> None:
        """Costs microseconds where there is nothing to give back."""
        self._batches += 1
        if (trim := _trim()) is None or self._batches < _BATCHES_BETWEEN:
            return
        held = anonymous_mib()
        if held > self._least_mib + max(_LEEWAY_MIB, self._least_mib / 4):
            trim(0)
            held, self._batches = anonymous_mib(), 0
            self._least_mib = held
        self._least_mib = min(self._least_mib, held)


give_back = _Freed().give_back
"""Called between batches, by training and by all that generates or scores."""


def anonymous_mib() -> float:
    """Resident memory of this process that is of no file, in MiB."""
    _, resident, shared = map(int, _STATM.read_text().split()[:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


@cache
def _trim() -> "ctypes._FuncPointer | None":
    """glibc's; other C libraries have none."""
    if not _STATM.exists():
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
