"""One live process a stage: the second one gives way with 4; an interrupted one ends with 130."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import Caller, TrainedRun, dlm, environment, files_of

from dlm.callbacks.progress import StageProgress
from dlm.recipe.lock import StageLock, lock_path


def test_a_run_directory_in_use_is_left_alone(call: Caller, begun: TrainedRun) -> None:
    finished = files_of(begun.stage("pretrain"))
    with StageLock(lock_path(begun.directory, "adapt"), print):
        outcome = dlm("run", begun.recipe, "--run-dir", begun.directory, "--to", "adapt")
        status = call("status", begun.directory, "--json")
    assert outcome.code == 4
    assert "stage adapt is in use by process" in outcome.err
    assert "wait until it ends, or stop it there" in outcome.err
    assert outcome.last_line.startswith("continue with: dlm run ")
    assert files_of(begun.stage("pretrain")) == finished
    assert status.code == 2  # nothing was written there yet, not even the recipe
    assert not list(begun.directory.glob("*_adapt"))


def test_an_interrupt_ends_with_130(
    call: Caller, begun: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = files_of(begun.stage("pretrain"))
    with monkeypatch.context() as patched:
        # Where the tests run in the background, SIGINT is ignored: give it its meaning back.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        patched.setattr(StageProgress, "on_train_batch_end", lambda *_: signal.raise_signal(2))
        outcome = call("run", begun.recipe, "--run-dir", begun.directory, "--to", "adapt")
        signal.signal(signal.SIGINT, before)
    assert outcome.code == 130
    assert "error: interrupted: what was saved is kept" in outcome.err
    assert outcome.last_line.startswith("continue with: dlm run ")
    assert files_of(begun.stage("pretrain")) == finished
    assert not (begun.stage("adapt") / "manifest.json").exists()
    status = json.loads(call("status", begun.directory, "--json").out)
    assert [row["state"] for row in status["stages"]][:2] == ["done", "done"]


@pytest.mark.slow
def test_ctrl_c_ends_a_real_process_with_130_and_keeps_what_is_finished(
    begun: TrainedRun, tmp_path: Path
) -> None:
    finished = files_of(begun.stage("pretrain"))
    words = ["run", begun.recipe, "--run-dir", begun.directory, "stages.adapt.train.steps=100000",
             "stages.adapt.logging.every_n_steps=1", "--to", "adapt"]  # fmt: skip
    errors = tmp_path / "err.txt"
    with errors.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "dlm.cli", *map(str, words)], env=environment(),
            stdout=subprocess.DEVNULL, stderr=err,
            # Where the tests run in the background, SIGINT is ignored and would stay so.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    metrics = begun.directory / "03_adapt" / "logs" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(timeout=120) == 130
    finally:
        process.kill()
    lines = errors.read_text().strip().splitlines()
    assert "error: interrupted: what was saved is kept" in lines
    assert lines[-1].startswith("continue with: dlm run ")
    assert files_of(begun.stage("pretrain")) == finished
    assert not (begun.directory / "03_adapt" / "manifest.json").exists()
