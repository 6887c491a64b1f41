"""Progress of a stage: a bar on a terminal, one line per interval in a log."""

import json
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dlm.callbacks import EMPTY_ANSWERS, LENGTH_RATIO
from dlm.callbacks.throughput import Throughput, rate_text
from dlm.files import make_folder, make_way


class StageProgress(Callback):
    """Shows step, loss, steps and tokens per second and time left; keeps progress.json for
    ``dlm status``."""

    def __init__(
        self, name: str, *, steps: int, every_n_steps: int, file: Path, meter: Throughput
    ) -> None:
        self.name = name
        self.steps = steps
        self.every_n_steps = every_n_steps
        self.file = file
        self.meter = meter
        self.console = Console(stderr=True, soft_wrap=True)
        self._bar: Progress | None = None
        self._started = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = (trainer.global_step, time.monotonic())
        if trainer.is_global_zero and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                console=self.console, transient=True,
            )  # fmt: skip
            self._bar.add_task(self.name, total=self.steps, completed=trainer.global_step, note="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or (step % self.every_n_steps and step != self.steps):
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        note = self._note(trainer)
        make_folder(self.file.parent)
        make_way(self.file).write_text(json.dumps({"step": step, "steps": self.steps}))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, note=note)
        else:
            self.console.print(f"{self.name} {step}/{self.steps} · {note}", highlight=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        shown = {
            _own(name): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        if not shown.get(_own(EMPTY_ANSWERS)):
            for name in (EMPTY_ANSWERS, LENGTH_RATIO):
                shown.pop(_own(name), None)
        text = " · ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self.console.print(
            f"{self.name} {trainer.global_step}/{self.steps} · validation: {text}", highlight=False
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _note(self, trainer: Trainer) -> str:
        first, started = self._started
        done = trainer.global_step - first
        rate = done / max(1e-9, time.monotonic() - started)
        left = (self.steps - trainer.global_step) / max(1e-9, rate)
        loss = float(trainer.callback_metrics.get("train/loss", float("nan")))
        figures = self.meter.latest
        tokens = f" · {rate_text(figures.tokens_per_s)}" if figures else ""
        return f"loss {loss:.4f} · {rate:.1f} steps/s{tokens} · {_clock(left)} left"


def _own(name: str) -> str:
    return name.removeprefix("validation/")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{rest:02d}s"
