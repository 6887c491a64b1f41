"""Freed buffers of ever other sizes go back to the system; few compiled products are kept."""

import subprocess
import sys

import pytest

from dlm.host_memory import keep_few_routines

HOLES = """
import torch
from dlm.callbacks.host_memory import HostMemory
from dlm.distributed.share import ALONE
from dlm.host_memory import anonymous_mib

def held_by_the_library():
    # Of 400 MiB each hundredth buffer is kept: the holes between them stay with the C library.
    buffers = [torch.ones(10_000 + number % 7) for number in range(10_000)]
    return buffers[::100]

def between_batches():
    {calls}

between_batches()
before = anonymous_mib()
kept = held_by_the_library()
grown = anonymous_mib() - before
between_batches()
print(int(grown), int(anonymous_mib() - before))
"""
CALLS = {
    "training": "for _ in range(40): HostMemory().on_train_batch_end(None, None, None, None, 0)",
    "validation": "for _ in range(40): HostMemory().on_validation_batch_end(None, None)",
    "generation": "ALONE.map(lambda item: item, list(range(40)))",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of other C libraries is theirs")
@pytest.mark.parametrize("where", CALLS)
def test_holes_between_buffers_are_given_back(where: str) -> None:
    script = HOLES.format(calls=CALLS[where])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    grown, left = map(int, done.stdout.split())
    assert grown > 300, "nothing to give back: the test shows nothing"
    assert left < 60


def test_few_compiled_products_are_kept_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    keep_few_routines()
    assert os.environ["LRU_CACHE_CAPACITY"] != "" != os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
