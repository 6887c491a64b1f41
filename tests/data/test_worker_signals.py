"""Processes that prepare batches outlive the signals that ask a job to stop."""

import os
import signal
from typing import cast

from torch.utils.data import DataLoader, Dataset

from dlm.data.modules import leave_stopping_to_the_trainer


def test_workers_go_on_when_a_cluster_signals_every_process_of_a_job() -> None:
    loader: DataLoader[int] = DataLoader(
        cast("Dataset[int]", list(range(50))),
        num_workers=1,
        worker_init_fn=leave_stopping_to_the_trainer,
    )
    batches = iter(loader)
    seen = [int(next(batches))]
    (worker,) = batches._workers  # type: ignore[attr-defined]
    for sent in (signal.SIGUSR1, signal.SIGTERM):
        os.kill(worker.pid, sent)
    seen += map(int, batches)
    assert seen == list(range(50))
