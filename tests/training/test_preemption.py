"""A stage that is asked to stop saves its state, ends with 75, and goes on as if nothing were."""

import re
import signal
from pathlib import Path

import pytest
from resume_tools import (
    Uninterrupted,
    assert_same_result,
    copy_needed,
    run_process,
    saved_steps,
    signal_in_mid_epoch,
)

from dlm.distributed.joining import slurm_environment

TWO = ("hardware.devices=2", "hardware.strategy=ddp")
ASKED = re.compile(
    r"preempted: stage \w+ was asked to stop at step (\d+) and has saved its state: "
    r"run the same command again"
)


def stopped_at(errors: str) -> int:
    found = ASKED.search(errors)
    assert found is not None and "Traceback" not in errors, errors
    return int(found[1])


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("adapt", signal.SIGTERM),
        pytest.param("pretrain", signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("length", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("autoregressive", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stage_that_is_asked_to_stop_ends_with_the_weights_of_an_uninterrupted_one(
    kind: str, sent: signal.Signals, chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted(kind)
    stage = copy_needed(chain, run_dir, kind)
    code, errors, logged = signal_in_mid_epoch(run_dir, kind, sent)
    assert code == 75, errors
    step = stopped_at(errors)
    assert step in (logged, logged + 1) and saved_steps(stage)[-1] == step
    last = errors.splitlines()[-1]
    assert last.startswith("continue with: dlm run ") and last.endswith(f"--only {kind}")
    assert not (stage / "failure.json").exists() and not (stage / "manifest.json").exists()
    assert not list((run_dir / ".locks").glob("*.json"))

    again = run_process(run_dir, "--only", kind)
    assert again.returncode == 0, again.stderr
    assert f"{kind}: resuming from step {step}\n" in again.stdout
    assert_same_result(stage, whole)


@pytest.mark.slow
def test_two_processes_agree_when_one_of_them_is_asked_to_stop(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    code, errors, _ = signal_in_mid_epoch(run_dir, "pretrain", signal.SIGTERM, *TWO)
    assert code == 75, errors
    step = stopped_at(errors)
    assert saved_steps(stage)[-1] == step and not list(stage.rglob("failure*"))
    again = run_process(run_dir, "--only", "pretrain", *TWO)
    assert again.returncode == 0, again.stderr
    assert f"pretrain: resuming from step {step}\n" in again.stdout


def test_slurm_is_taken_without_lightnings_requeueing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert slurm_environment() == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm_environment() == []
    monkeypatch.setenv("SLURM_NTASKS", "1")
    (environment,) = slurm_environment()
    assert environment.auto_requeue is False
