"""Run the tiny chain, break it in the middle, and compare what comes out."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from dlm.callbacks.checkpoint import step_directories
from dlm.config.loading import load_recipe
from dlm.recipe.runner import run_recipe
from dlm.training import train

ROOT = Path(__file__).parents[2]
RECIPE = Path(__file__).parent / "resume_chain.yaml"
STAGES = ("tokenizer", "pretrain", "adapt", "length", "instruct", "autoregressive", "evaluate")
STEPS, SAVED_EVERY = 24, 4
NEEDS = {
    "pretrain": ("tokenizer",),
    "adapt": ("tokenizer", "pretrain"),
    "length": ("tokenizer", "pretrain", "adapt"),
    "instruct": ("tokenizer", "pretrain"),
    "autoregressive": ("tokenizer",),
    "evaluate": STAGES[:-1],
}
Records = dict[int, list[list[int]]]
Uninterrupted = Callable[[str], Path]


class PowerCut(BaseException):
    """Ends a run as a kill would: nothing of ours catches it or cleans up after it."""


def run(run_dir: Path, *overrides: str, **options: Any) -> int:
    """``dlm run`` in this process; gives the exit code."""
    return run_recipe(load_recipe(str(RECIPE), list(overrides)), run_dir, command="dlm", **options)


def directory(run_dir: Path, stage: str) -> Path:
    return run_dir / f"{STAGES.index(stage) + 1:02d}_{stage}"


def copy_needed(chain: Path, run_dir: Path, stage: str, *, checkpoints: bool = False) -> Path:
    """A run directory in which everything that ``stage`` starts from is done."""
    ignored = shutil.ignore_patterns() if checkpoints else shutil.ignore_patterns("checkpoints")
    for needed in NEEDS[stage]:
        shutil.copytree(directory(chain, needed), directory(run_dir, needed), ignore=ignored)
    return directory(run_dir, stage)


def weights(stage: Path) -> dict[str, bytes]:
    """The exported weights, byte by byte."""
    files = {p.name: p.read_bytes() for p in (stage / "export").glob("*.safetensors")}
    assert files
    return files


def measured(stage: Path) -> list[tuple[str, str, str]]:
    """(step, metric, value) of metrics.csv, as written; the time of writing is left out."""
    with (stage / "logs" / "metrics.csv").open(newline="") as file:
        rows = [tuple(row[:3]) for row in csv.reader(file)]
    assert rows[0] == ("step", "metric", "value")
    return rows[1:]  # type: ignore[return-value]


def values(stage: Path, metric: str) -> list[float]:
    return [float(value) for _, name, value in measured(stage) if name == metric]


def saved_steps(stage: Path) -> list[int]:
    return sorted(saved.step for saved in step_directories(stage / "checkpoints"))


def assert_same_result(stage: Path, uninterrupted: Path) -> None:
    """Weights bit by bit, every measurement, and the exported step."""
    assert measured(stage) == measured(uninterrupted)
    assert weights(stage) == weights(uninterrupted)


# --- in this process -----------------------------------------------------------------------------


@contextmanager
def with_callbacks(*callbacks: Callback) -> Iterator[None]:
    """Runs inside train with further callbacks, before the platform's own."""
    build = train.build_trainer

    def build_with_more(*args: Any, **kwargs: Any) -> Trainer:
        trainer = build(*args, **kwargs)
        trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_trainer", build_with_more)
        yield


class StopAt(Callback):
    """Raises at a step, in a hook of one's choice."""

    def __init__(
        self, step: int, error: BaseException | None = None, *, after_validation: bool = False
    ) -> None:
        self.step = step
        self.error = error or PowerCut(f"at step {step}")
        self.after_validation = after_validation

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.after_validation:
            raise self.error

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and self.after_validation:
            raise self.error


class RecordBatches(Callback):
    """Positions of the samples of every step, micro-batch by micro-batch."""

    def __init__(self) -> None:
        self.seen: Records = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.setdefault(trainer.global_step, []).append(batch.sample_B.tolist())


def run_interrupted(
    run_dir: Path, stage: str, step: int, *overrides: str, callbacks: tuple[Callback, ...] = ()
) -> None:
    """Begin a stage and cut it off when ``step`` is trained."""
    with with_callbacks(*callbacks, StopAt(step)):
        assert run(run_dir, *overrides, only=stage) == 3


def checkpoint_weights(stage: Path, step: int) -> dict[str, torch.Tensor]:
    path = stage / "checkpoints" / f"step={step:08d}" / "state.ckpt"
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


# --- as a process of its own ---------------------------------------------------------------------


def command(run_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "dlm.cli", "run", str(RECIPE), "--run-dir", str(run_dir),
            *arguments]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def run_changed(
    script: str, place: Path, run_dir: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """``dlm run`` by a program that changes dlm first: a file, which further ranks are started
    from too."""
    place.write_text(script)
    return subprocess.run(
        [sys.executable, str(place), *command(run_dir, *arguments)[3:]], env=environment(),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def assert_same_values(
    ours: Path, theirs: Path, metrics: tuple[str, ...], tolerance: float = 1e-5
) -> None:
    """The measurements of two stages at all their steps."""
    for metric in metrics:
        expected = pytest.approx(values(theirs, metric), abs=tolerance)
        assert values(ours, metric) == expected, (ours.name, metric)


def run_process(run_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``dlm run`` to its end."""
    return subprocess.run(
        command(run_dir, *arguments), env=environment(), capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def signal_in_mid_epoch(
    run_dir: Path, stage: str, sent: signal.Signals, *arguments: str, after: int = 9
) -> tuple[int, str, int]:
    """Send a signal between two checkpoints; gives exit code, stderr and the last step logged.

    The process is stopped while one looks where it stands, so that no luck is needed.
    """
    place = directory(run_dir, stage)
    process = subprocess.Popen(
        command(run_dir, "--only", stage, *arguments), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Where the tests run in the background, SIGINT is ignored and would stay so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    step = 0
    while process.poll() is None:
        if last_step(place) >= after:
            process.send_signal(signal.SIGSTOP)
            step = last_step(place)
            if step % SAVED_EVERY and step < STEPS and not list(place.rglob(".partial-*")):
                process.send_signal(sent)
                process.send_signal(signal.SIGCONT)
                break
            process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    _, errors = process.communicate(timeout=120)
    assert step, f"the stage was never between two checkpoints:\n{errors}"
    return process.returncode, errors, step


def last_step(stage: Path) -> int:
    try:
        rows = (stage / "logs" / "metrics.csv").read_text().splitlines()
    except OSError:
        return 0
    complete = [row for row in rows[1:] if re.fullmatch(r"\d+,[^,]+,[^,]+,[\d.]+", row)]
    return int(complete[-1].partition(",")[0]) if complete else 0


def undisturbed_pretraining(chain: Path, run_dir: Path, *changes: str) -> tuple[Path, Records]:
    """Pretraining with these changes that nobody disturbed: its run directory and its batches."""
    copy_needed(chain, run_dir, "pretrain")
    record = RecordBatches()
    with with_callbacks(record):
        assert run(run_dir, *changes, only="pretrain") == 0
    assert sorted(record.seen) == list(range(STEPS))
    return run_dir, record.seen


def flat(records: Records) -> dict[int, list[int]]:
    """Samples of each step, whatever micro-batch they were in."""
    return {
        step: sorted(sample for part in parts for sample in part) for step, parts in records.items()
    }
