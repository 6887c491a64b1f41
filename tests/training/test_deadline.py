"""A stage that saves and ends by itself before hardware.max_time is over."""

import time
from pathlib import Path

import pytest
from resume_tools import (
    Uninterrupted,
    assert_same_result,
    copy_needed,
    run,
    run_changed,
    run_process,
    saved_steps,
)

from dlm.callbacks.preemption import MARGIN_S, Deadline, Preemption

Output = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
LIMIT = "hardware.max_time=1h"


def near_at(patch: Patch, boundary: int) -> None:
    """Deadlines come near when a stage stands between two steps for the n-th time."""
    asked = 0

    def is_near(self: Deadline, save_s: float) -> bool:
        nonlocal asked
        asked += 1
        return asked > boundary

    patch.setattr(Deadline, "is_near", is_near)


def test_a_deadline_is_near_when_a_step_and_a_save_may_not_fit(monkeypatch: Patch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline(limit_s=600.0, started_s=900.0)
    assert deadline.left_s == 500.0 and not deadline.is_near(20.0)
    now = 1100.0  # a step of 100 s, perhaps with its validation
    assert not deadline.is_near(20.0)
    now = 1110.0
    assert not deadline.is_near(20.0)
    now = 1500.0 - 20.0 - 370.0 - MARGIN_S  # this one took 360 s
    assert not deadline.is_near(0.0)
    now = 1500.0 - 20.0 - MARGIN_S + 1.0
    assert deadline.is_near(20.0)


def test_a_stage_saves_and_ends_with_75_and_goes_on_to_the_same_weights(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch, capsys: Output
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    with monkeypatch.context() as patch:
        near_at(patch, 10)
        assert run(run_dir, LIMIT, only="pretrain") == 75
    told = capsys.readouterr().err
    assert "has used up hardware.max_time (3600 s) and stops at step 10 and has saved" in told
    assert saved_steps(stage)[-1] == 10 and not (stage / "failure.json").exists()
    assert run(run_dir, only="pretrain") == 0
    assert_same_result(stage, whole)


def test_a_limit_without_room_for_one_step_is_an_error_not_an_endless_loop(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch, capsys: Output
) -> None:
    uninterrupted("tokenizer")
    copy_needed(chain, run_dir, "pretrain")
    monkeypatch.setattr(Preemption, "any_step_done", False)
    assert run(run_dir, "hardware.max_time=1s", only="pretrain") == 3
    told = capsys.readouterr().err
    assert "could not do a step within hardware.max_time (1 s): raise it" in told
    # Where an earlier stage has trained, another attempt gets on.
    monkeypatch.setattr(Preemption, "any_step_done", True)
    assert run(run_dir, "hardware.max_time=1s", only="pretrain") == 75
    assert "before its first step: run the same command again" in capsys.readouterr().err


ONE_RANK_IS_LATE = """
import os, sys
from dlm.callbacks.preemption import Deadline
asked = 0
def is_near(self, save_s):
    global asked
    asked += 1
    return os.environ.get("LOCAL_RANK") == "1" and asked > 10
Deadline.is_near = is_near
from dlm.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_stop_at_one_step_when_the_clock_of_one_says_so(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, tmp_path: Path
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    arguments = ("--only", "pretrain", "hardware.devices=2", "hardware.strategy=ddp")
    ended = run_changed(ONE_RANK_IS_LATE, tmp_path / "late.py", run_dir, *arguments, LIMIT)
    assert ended.returncode == 75, ended.stderr
    assert "hardware.max_time (3600 s) and stops at step 10" in ended.stderr
    assert saved_steps(stage)[-1] == 10
    assert run_process(run_dir, *arguments).returncode == 0
