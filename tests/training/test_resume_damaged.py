"""Checkpoints that were damaged: the one before is used, or the remedy is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning import LightningModule, Trainer
from resume_tools import (
    Uninterrupted,
    assert_same_result,
    copy_needed,
    run,
    run_interrupted,
    saved_steps,
    weights,
)

from dlm.callbacks.generated_score import GeneratedScore

Output = pytest.CaptureFixture[str]
Damage = Callable[[Path], None]


@pytest.fixture
def stage(stopped_at_18: Path, run_dir: Path) -> Path:
    """Stage pretrain, cut off at step 18, with checkpoints of steps 12 and 16."""
    shutil.copytree(stopped_at_18, run_dir)
    return run_dir / "02_pretrain"


def state_of(stage: Path, step: int) -> Path:
    return stage / "checkpoints" / f"step={step:08d}" / "state.ckpt"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def lose_the_mark(path: Path) -> None:
    path.with_name("complete.json").write_text("")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        pytest.param(truncate, "bytes, not", id="truncated"),
        pytest.param(flip_a_bit, "state.ckpt does not match its checksum", id="bit flip"),
        pytest.param(remove, "No such file", id="file lost", marks=pytest.mark.slow),
        pytest.param(lose_the_mark, "unreadable", id="mark lost", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_over_in_one_line(
    damage: Damage, told: str, stage: Path, uninterrupted: Uninterrupted, capsys: Output
) -> None:
    damage(state_of(stage, 16))
    assert run(stage.parent, only="pretrain") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "step=00000016" in line]
    assert len(lines) == 1 and told in lines[0] and lines[0].endswith("; using the one before")
    assert_same_result(stage, uninterrupted("pretrain"))
    assert saved_steps(stage) == [20, 24]


def test_without_a_whole_checkpoint_the_run_ends_with_3_and_a_remedy_that_works(
    stage: Path, uninterrupted: Uninterrupted, capsys: Output
) -> None:
    truncate(state_of(stage, 12))
    flip_a_bit(state_of(stage, 16))
    finished = stage.parent / "01_tokenizer" / "manifest.json"
    before = finished.read_bytes()
    assert run(stage.parent, only="pretrain") == 3
    told = capsys.readouterr().err
    assert "step=00000016 is damaged" in told and "step=00000012 is damaged" in told
    assert f"move {stage / 'checkpoints'} away and run the same command again" in told
    assert "Traceback" not in told and "using the one before" not in told
    assert finished.read_bytes() == before

    (stage / "checkpoints").rename(stage.parent / "away")
    assert run(stage.parent, only="pretrain") == 0
    assert finished.read_bytes() == before
    assert_same_result(stage, uninterrupted("pretrain"))


@pytest.mark.slow
def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(stage: Path) -> None:
    flip_a_bit(state_of(stage, 16))
    once = ("checkpoint.every_n_steps=7", "checkpoint.keep=1")
    run_interrupted(stage.parent, "pretrain", 15, *once)
    assert saved_steps(stage) == [14]
    assert run(stage.parent, *once, only="pretrain") == 0


@pytest.mark.slow
def test_damaged_weights_are_not_exported(
    chain: Path,
    uninterrupted: Uninterrupted,
    run_dir: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def score(self: GeneratedScore, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("validation/chrf", 0.9 if trainer.global_step == 8 else 0.1)

    monkeypatch.setattr(GeneratedScore, "on_validation_epoch_end", score)
    uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "adapt")
    assert run(run_dir, only="adapt") == 0
    whole = weights(stage)
    (stage / "manifest.json").unlink()
    best = saved_steps(stage)[0]
    assert best == 8
    flip_a_bit(state_of(stage, best))
    assert run(run_dir, only="adapt") == 3
    told = capsys.readouterr().err
    assert f"the checkpoint of step {best}, which is to be exported, is damaged" in told
    (stage / "checkpoints").rename(run_dir / "away")
    assert run(run_dir, only="adapt") == 0
    assert weights(stage) == whole
