"""Two processes on one machine train what one would, and leave one record of it."""

import signal
from pathlib import Path

import pytest
from resume_tools import (
    Uninterrupted,
    assert_same_values,
    copy_needed,
    directory,
    measured,
    run,
    run_process,
    saved_steps,
    signal_in_mid_epoch,
)

pytestmark = pytest.mark.slow
# Dropout is drawn for each process, so it is off where one is compared with two.
NO_DROPOUT = "model.dropout=0"
TWO = ("hardware.devices=2", "hardware.strategy=ddp")
LOSSES = ("train/loss", "validation/loss")


@pytest.fixture(scope="module")
def alone(
    chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """tokenizer, pretrain and adapt in one process, without dropout."""
    uninterrupted("tokenizer")
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    copy_needed(chain, run_dir, "pretrain")
    assert run(run_dir, NO_DROPOUT, stop="adapt") == 0
    return run_dir


def assert_same_losses(run_dir: Path, alone: Path, stage: str) -> None:
    assert_same_values(directory(run_dir, stage), directory(alone, stage), LOSSES)


def test_two_processes_follow_the_losses_of_one_through_a_chain(alone: Path, run_dir: Path) -> None:
    ended = run_process(run_dir, NO_DROPOUT, *TWO, "--from", "tokenizer")
    assert ended.returncode == 0, ended.stderr
    for stage in ("pretrain", "adapt"):
        assert_same_losses(run_dir, alone, stage)
    assert len(list(run_dir.rglob("manifest.json"))) == 7
    assert not list(run_dir.rglob("failure*")) and not list(run_dir.rglob(".partial-*"))
    assert ended.stdout.count("[3/7] adapt: run in") == 1
    assert ended.stdout.count("[7/7] evaluate: done in") == 1
    assert ended.stdout.count("plan: resume_chain") == 1
    told = ended.stdout + ended.stderr
    for noise in ("Warning", "WARNING", "warn(", "site-packages", "sync_dist", "Gloo"):
        assert noise not in told, told


@pytest.mark.parametrize("devices_after", [1, 2])
def test_two_killed_processes_are_continued_by_one_or_two(
    devices_after: int, chain: Path, alone: Path, run_dir: Path
) -> None:
    stage = copy_needed(chain, run_dir, "pretrain")
    code, _, step = signal_in_mid_epoch(run_dir, "pretrain", signal.SIGKILL, NO_DROPOUT, *TWO)
    assert code == -signal.SIGKILL and saved_steps(stage)[-1] == step // 4 * 4
    arguments = (NO_DROPOUT, *(TWO if devices_after == 2 else ()), "--only", "pretrain")
    ended = run_process(run_dir, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("pretrain: resuming from step") == 1
    assert_same_losses(run_dir, alone, "pretrain")
    assert len(list(run_dir.rglob("manifest.json"))) == 2


def test_one_validation_row_is_validated_as_on_one_device(alone: Path, run_dir: Path) -> None:
    """The other device reads it without weight; score, loss and exported step are the same."""
    changed = (NO_DROPOUT, "stages.adapt.validation.max_rows=1")
    results = []
    for place, words in ((run_dir, ()), (run_dir.with_name("two"), TWO)):
        stage = copy_needed(alone, place, "adapt")
        ended = run_process(place, *changed, *words, "--only", "adapt")
        assert ended.returncode == 0, ended.stderr
        results.append([row for row in measured(stage) if row[1].startswith("validation")])
    assert results[0] and results[0] == results[1]
