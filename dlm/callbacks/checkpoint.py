"""Checkpoints that a kill cannot damage, and the choice of the best one.

A checkpoint is a directory step=NNNNNNNN/ that appears by one rename, after its content and a
completeness mark with sizes and hashes were written and flushed. It is written while training goes
on; the tensors alone are copied first.
"""

import errno
import json
import math
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from dlm.callbacks import VALIDATION_LOSS
from dlm.distributed.checkpoint_io import SUM_SUFFIX, CheckpointFiles, Writing, sum_of
from dlm.distributed.portable import SHAPE
from dlm.distributed.saved_tensors import STATE_FILE
from dlm.distributed.strategies import run_shape
from dlm.errors import StageFailed
from dlm.files import make_folder, sha256_of

MARK_FILE = "complete.json"
_POLL_S = 0.02
_NOTICED_S = 0.1


@dataclass(frozen=True)
class SavedStep:
    """A complete checkpoint."""

    step: int
    directory: Path

    @property
    def state(self) -> Path:
        """The file that the trainer reads."""
        return self.directory / STATE_FILE


class TrainingCheckpoint(Callback):
    """Save the whole training state; remember which validated step was the best.

    Of steps with equal scores the one of the lower loss is the better, then the later one: where
    a score is 0 throughout, as BLEU early in training, the loss decides.
    """

    def __init__(
        self,
        directory: Path,
        *,
        files: CheckpointFiles,
        every_n_steps: int,
        keep: int,
        monitor: str | None,
        mode: Literal["min", "max"],
    ) -> None:
        """``files``: the trainer's plugin that writes; ``monitor`` None: the last step is the one
        to export."""
        self.directory = directory
        self.files = files
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.best_score: float | None = None
        self.best_loss = math.inf
        self.best_step: int | None = None
        self.last_save_s = 0.0
        """How long the last save took until it was on disk."""
        self.stalls_s: list[float] = []
        """How long training waited at each save in its midst."""
        self._stalled_s: float | None = None
        self._saved_at = -1
        self._writing: Writing | None = None
        self._partial = directory

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        self.best_loss = state_dict.get("best_loss", math.inf)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the trainer stand exactly behind the saved step.

        It was saved when the next micro-batch had been counted but not trained, and perhaps with
        another number of micro-batches a step.
        """
        trained = checkpoint["global_step"] * trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["current"], progress["total"]):
            counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), trained))
        written_by, ours = checkpoint.get(SHAPE), run_shape(trainer.strategy)
        if written_by not in (None, ours) and trainer.is_global_zero:
            print(f"the checkpoint was written by {written_by}; continuing as {ours}", flush=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep who wrote it."""
        checkpoint[SHAPE] = run_shape(trainer.strategy)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor is None or trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.monitor])
        loss = float(trainer.callback_metrics.get(VALIDATION_LOSS, math.inf))
        if self.best_score is None or self._rank(score, loss) >= self._rank(
            self.best_score, self.best_loss
        ):
            self.best_score, self.best_loss = score, loss
            self.best_step = trainer.global_step
            self._saved_at = -1  # the state on disk does not know of it yet

    def _rank(self, score: float, loss: float) -> tuple[float, float]:
        """What decides between two steps, greater is better: the score, then the loss."""
        return (score if self.mode == "max" else -score), -loss

    def chosen_by(self) -> str:
        """What decided on the best step."""
        name = (self.monitor or "").removeprefix("validation/")
        return f"loss ({name} stayed 0)" if self.mode == "max" and self.best_score == 0 else name

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # The validation of a step runs after its batch has ended; saved when the next one begins,
        # the state holds its outcome.
        step = trainer.global_step
        # A resume may count the resumed step twice; logging goes by this number.
        trainer.fit_loop.epoch_loop._batches_that_stepped = step
        if step == 0 or batch_idx % trainer.accumulate_grad_batches:
            return
        if self._writing is not None and self._writing.error is not None:
            self._finish()
        if step % self.every_n_steps == 0 or step == self.best_step:
            started = time.monotonic()
            if self._begin(trainer):
                self._stalled_s = time.monotonic() - started

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """The optimizer must not change what is being copied."""
        if self._stalled_s is None or self._writing is None:
            return
        started = time.monotonic()
        self._writing.wait_until_copied()
        self._note_stall(trainer, self._stalled_s + time.monotonic() - started)
        self._stalled_s = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            for left_by_a_kill in self.directory.glob(".partial-*"):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:
            self.save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # What is being written is worth waiting for, unless another rank will never add its part.
        if self._writing is not None and trainer.world_size == 1:
            with suppress(Exception):
                self._writing.wait()

    def save(self, trainer: Trainer) -> None:
        """Write the state of this step, unless it is on disk already, and wait until it is."""
        self._begin(trainer)
        self._finish()
        trainer.strategy.barrier("checkpoint")

    def _begin(self, trainer: Trainer) -> bool:
        """Copy the state and have it written; False if this step is saved already."""
        step = trainer.global_step
        if self._saved_at == step:
            return False
        self._finish()
        target = self.directory / f"step={step:08d}"
        # One rank decides: another may look before the first has renamed what it wrote.
        present = trainer.is_global_zero and target.exists() and not damage(target)
        if trainer.strategy.broadcast(present):
            self._saved_at = step
            return False
        begin = time.monotonic()
        self._partial = partial = self.directory / f".partial-step={step:08d}"
        kept = {self.best_step, step}
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
        trainer.strategy.barrier("checkpoint")
        try:
            trainer.save_checkpoint(partial / STATE_FILE)
        except (OSError, RuntimeError) as error:
            raise _cannot_save(error, partial, self.directory) from error
        names = getattr(trainer.strategy, "checkpoint_files", (STATE_FILE,))

        def complete() -> None:
            if trainer.is_global_zero:
                mark_complete(partial, step, names)
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
                self._prune(step, kept)
            self.last_save_s = time.monotonic() - begin

        self._writing = self.files.write(complete)
        self._saved_at = step
        return True

    def _note_stall(self, trainer: Trainer, seconds: float) -> None:
        """Keep how long training waited for a save, and say it where one would notice."""
        self.stalls_s.append(seconds)
        if seconds >= _NOTICED_S and trainer.is_global_zero:
            print(f"saving step {trainer.global_step}: training waited {seconds:.2f} s", flush=True)

    def _finish(self) -> None:
        """Wait for the save that is under way."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.wait()
        except (OSError, RuntimeError) as error:
            raise _cannot_save(error, self._partial, self.directory) from error

    def _prune(self, step: int, kept: set[int | None]) -> None:
        saved_steps = sorted(step_directories(self.directory), key=lambda saved: saved.step)
        # What is newer than the step just saved was passed over at the resume: it is damaged.
        whole = [saved for saved in saved_steps if saved.step <= step]
        kept = {*kept, *(saved.step for saved in whole[-self.keep :])}
        for saved in saved_steps:
            if saved.step not in kept:
                shutil.rmtree(saved.directory)


def _cannot_save(error: Exception, partial: Path, directory: Path) -> StageFailed:
    causes = {getattr(cause, "errno", None) for cause in _causes(error)}
    full = bool(causes & {errno.ENOSPC, errno.EDQUOT}) or _is_full(directory)
    shutil.rmtree(partial, ignore_errors=True)
    saved = [s.step for s in step_directories(directory)]
    last = f"the last complete one is of step {max(saved)}" if saved else "there is none yet"
    reason = "the disk or your quota is full" if full else f"{error}".partition("\n")[0]
    return StageFailed(
        f"the checkpoint in {directory} could not be written: {reason}; {last}. "
        f"{'Free some space' if full else 'Correct this'} and run the same command again"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(directory: Path) -> bool:
    free: int = shutil.disk_usage(directory).free
    return free < 64 * 1024


def mark_complete(directory: Path, step: int, names: Sequence[str] = (STATE_FILE,)) -> None:
    """Write the completeness mark when all the files, other ranks' too, are on disk."""
    files = {}
    for name in names:
        while (written := sum_of(directory / name)) is None:
            time.sleep(_POLL_S)
        files[name] = written
    for name in names:
        (directory / (name + SUM_SUFFIX)).unlink()
    with (directory / MARK_FILE).open("w") as mark:
        json.dump({"step": step, "files": files}, mark, indent=1)
        mark.flush()
        os.fsync(mark.fileno())


def step_directories(directory: Path) -> list[SavedStep]:
    """All checkpoints that were renamed into place, whole or damaged since."""
    if not directory.is_dir():
        return []
    found = ((path.name.removeprefix("step="), path) for path in directory.glob("step=*"))
    return [SavedStep(int(step), path) for step, path in found if step.isdecimal()]


def damage(directory: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        mark = json.loads((directory / MARK_FILE).read_text())
        for name, expected in mark["files"].items():
            path = directory / name
            if path.stat().st_size != expected["size"]:
                return f"{name} has {path.stat().st_size} bytes, not {expected['size']}"
            if sha256_of(path) != expected["sha256"]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unreadable: {error}"
    return None


@contextmanager
def no_code_from(directory: Path) -> Iterator[None]:
    """While checkpoints are read, as tensors and plain values alone (weights_only).

    Raises:
        StageFailed: One holds anything else: none of ours does, and nothing of it was run.
    """
    try:
        yield
    except pickle.UnpicklingError as error:
        raise StageFailed(
            f"a checkpoint in {directory} holds more than tensors and plain values. It may carry "
            "code, was not written by dlm, and was not loaded. Find out who changed it; to train "
            f"the stage anew move {directory} away and run the same command again "
            f"({str(error).partition('. ')[0]})"
        ) from error


def newest_checkpoint(directory: Path) -> tuple[SavedStep | None, list[str]]:
    """The newest whole checkpoint, and a line for each newer one that is damaged.

    Raises:
        StageFailed: There are checkpoints, but none is whole.
    """
    problems: list[str] = []
    saved_steps = sorted(step_directories(directory), key=lambda saved: -saved.step)
    for saved in saved_steps:
        problem = damage(saved.directory)
        if problem is None:
            return saved, [f"{found}; using the one before" for found in problems]
        problems.append(f"checkpoint {saved.directory.name} is damaged ({problem})")
    if saved_steps:
        raise StageFailed(
            f"no checkpoint in {directory} is whole ({'; '.join(problems)}). To train the stage "
            f"anew move {directory} away and run the same command again; nothing else is lost"
        )
    return None, []
