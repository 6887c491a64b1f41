"""A stage that is asked to stop saves its state at the next step boundary and ends."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from dlm.callbacks.checkpoint import TrainingCheckpoint
from dlm.errors import Preempted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""How a cluster asks a job to stop; Slurm's ``--signal`` sends the second one by custom."""


class Preemption(Callback):
    """The signal handler only sets a flag; all ranks agree on it between two steps.

    It stands after the checkpoint callback, whose hooks make the state of a step complete.
    """

    def __init__(self, name: str, checkpoint: TrainingCheckpoint) -> None:
        self.name = name
        self.checkpoint = checkpoint
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            # In place of Lightning's, which ends a run with exit code 0 and without saving.
            self._previous = {sent: signal.signal(sent, self._ask) for sent in STOP_SIGNALS}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0 and self._agreed(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        agreed = self._agreed(trainer)
        self._restore()
        if agreed:
            self._stop(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._asked = True

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was asked: a signal may reach one of them alone, or one step later."""
        if trainer.world_size == 1:
            return self._asked
        return trainer.strategy.reduce_boolean_decision(self._asked, all=False)

    def _stop(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == 0:
            raise Preempted(
                f"stage {self.name} was asked to stop before its first step: run the same command "
                "again"
            )
        self.checkpoint.save(trainer)
        raise Preempted(
            f"stage {self.name} was asked to stop at step {step} and has saved its state: run the "
            "same command again"
        )

    def _restore(self) -> None:
        for sent, handler in self._previous.items():
            signal.signal(sent, handler)
        self._previous = {}
