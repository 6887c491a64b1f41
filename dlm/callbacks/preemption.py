"""A stage that is asked to stop saves its state at the next step boundary and ends."""

import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer

from dlm.callbacks.checkpoint import TrainingCheckpoint
from dlm.errors import Preempted, StageFailed
from dlm.process import STOP_SIGNALS

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


class Preemption(Callback):
    """The signal handler only sets a flag; all ranks agree on it between two steps. A deadline
    that is near asks too.

    It stands after the checkpoint callback, whose hooks make the state of a step complete.
    """

    any_step_done: ClassVar[bool] = False
    """Whether this process trained at all: an attempt that cannot must not be asked for again."""

    def __init__(
        self, name: str, checkpoint: TrainingCheckpoint, deadline: Deadline | None = None
    ) -> None:
        self.name = name
        self.checkpoint = checkpoint
        self.deadline = deadline
        self._asked = False
        self._out_of_time = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            # In place of Lightning's, which ends a run with exit code 0 and without saving.
            self._previous = {sent: signal.signal(sent, self._ask) for sent in STOP_SIGNALS}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if self.deadline is not None:
            self._out_of_time = self.deadline.is_near(self.checkpoint.last_save_s)
        if self._agreed(trainer):
            self._stop(trainer)

    def on_train_batch_end(self, *args: Any) -> None:
        Preemption.any_step_done = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._out_of_time = False  # all steps are done: what is left is to export them
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
        """Whether any rank was asked: a signal may reach one of them alone, or one step later, and
        their clocks differ."""
        asked = self._asked or self._out_of_time
        if trainer.world_size == 1:
            return asked
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def _stop(self, trainer: Trainer) -> None:
        step = trainer.global_step
        why = "was asked to stop"
        if self.deadline is not None and not trainer.strategy.reduce_boolean_decision(
            self._asked, all=False
        ):
            why = f"has used up hardware.max_time ({self.deadline.limit_s:g} s) and stops"
            if not self.any_step_done:
                raise StageFailed(
                    f"stage {self.name} could not do a step within hardware.max_time "
                    f"({self.deadline.limit_s:g} s): raise it; another attempt would end here too"
                )
        if step == 0:
            raise Preempted(
                f"stage {self.name} {why} before its first step: run the same command again"
            )
        self.checkpoint.save(trainer)
        raise Preempted(
            f"stage {self.name} {why} at step {step} and has saved its state: run the same command "
            "again"
        )

    def _restore(self) -> None:
        for sent, handler in self._previous.items():
            signal.signal(sent, handler)
        self._previous = {}
