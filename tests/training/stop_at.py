"""`dlm`, which at a step is asked to stop as a cluster would, and writes down its samples.

DLM_TEST_STOP_AT is the step (none: to the end), DLM_TEST_SAMPLES a folder.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from dlm.cli import main
from dlm.training import train


class SamplesAndSignal(Callback):
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        rank, step = trainer.global_rank, trainer.global_step
        name = f"{os.getpid()}-{rank}.jsonl"
        with (Path(os.environ["DLM_TEST_SAMPLES"]) / name).open("a") as file:
            file.write(json.dumps([step, batch.sample_B.tolist()]) + "\n")

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == int(os.environ.get("DLM_TEST_STOP_AT", "-1")):
            os.kill(os.getpid(), signal.SIGUSR1)


def with_samples_and_signal() -> None:
    build = train.build_trainer

    def build_with_more(*args: Any, **kwargs: Any) -> Trainer:
        trainer = build(*args, **kwargs)
        # Behind the checkpoint's and the preemption's: a step that was only begun is none.
        trainer.callbacks.append(SamplesAndSignal())  # type: ignore[attr-defined]
        return trainer

    train.build_trainer = build_with_more


if __name__ == "__main__":
    with_samples_and_signal()
    sys.exit(main(sys.argv[1:]))
