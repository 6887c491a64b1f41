"""A loss or gradient that is not finite stops a stage before it is saved, or is left out."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from resume_tools import (
    RecordBatches,
    Uninterrupted,
    assert_same_result,
    checkpoint_weights,
    copy_needed,
    measured,
    run,
    run_changed,
    saved_steps,
    weights,
    with_callbacks,
)

from dlm.callbacks import nonfinite
from dlm.callbacks.nonfinite import NonFinite, gradient_norm
from dlm.errors import UserError
from dlm.stages.denoising import DenoisingStage

Output = pytest.CaptureFixture[str]
EVERY_STEP = ("checkpoint.every_n_steps=1", "checkpoint.keep=30")


class SpoilLoss:
    """Patches the training step: a loss of NaN at some steps (from 1)."""

    def __init__(self, patch: pytest.MonkeyPatch, steps: range | list[int]) -> None:
        step_of = DenoisingStage.training_step

        def spoilt(stage: DenoisingStage, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = step_of(stage, batch, batch_idx)
            return loss * float("nan") if stage.global_step + 1 in steps else loss

        patch.setattr(DenoisingStage, "training_step", spoilt)


class SpoilGradient(Callback):
    """An infinite gradient behind a finite loss, at one step (from 1)."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step + 1 == self.step:
            next(p for p in pl_module.parameters() if p.grad is not None).grad[0] = torch.inf


@pytest.mark.parametrize("part", ["loss", "gradient norm"])
@pytest.mark.parametrize("looks_every", [1, 20])
def test_the_stage_stops_before_it_saves_and_names_step_part_and_samples(
    part: str, looks_every: int, chain: Path, uninterrupted: Uninterrupted, run_dir: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Output,
) -> None:  # fmt: skip
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    record, often = RecordBatches(), f"logging.every_n_steps={looks_every}"
    with monkeypatch.context() as patch:
        if part == "loss":
            SpoilLoss(patch, [10])
        more = () if part == "loss" else (SpoilGradient(10),)
        with with_callbacks(record, *more):
            assert run(run_dir, often, only="pretrain") == 3
    told = capsys.readouterr().err
    samples = ", ".join(map(str, sorted(record.seen[9][0])))
    both = "loss and gradient norm" if part == "loss" else part
    assert f"step 10 had a {both} that is not finite (loss " in told
    assert f"; samples {samples})" in told and "train.on_nonfinite=skip" in told
    assert "Traceback" not in told and saved_steps(stage) == [4, 8]
    # Seen at the logging interval, or at the latest before the next save.
    # (The step after is begun by then: its batch is recorded, not trained.)
    assert max(record.seen) == (10 if looks_every == 1 else 12)
    failure = json.loads((stage / "failure.json").read_text())
    assert failure["error"] == "StageFailed"

    assert run(run_dir, only="pretrain") == 0
    assert weights(stage) == weights(whole)


def test_a_skipped_step_changes_neither_weights_nor_moments_and_is_counted(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:  # fmt: skip
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    SpoilLoss(monkeypatch, [10, 13])
    assert run(run_dir, *EVERY_STEP, "train.on_nonfinite=skip", only="pretrain") == 0
    told = capsys.readouterr().out
    assert "pretrain: left out, step 10 had a loss and gradient norm that is not finite" in told
    before, after, next_one = (checkpoint_weights(stage, step) for step in (9, 10, 11))
    assert all(before[name].equal(after[name]) for name in before)
    assert any(not before[name].equal(next_one[name]) for name in before)
    states = [
        torch.load(stage / "checkpoints" / f"step={step:08d}" / "state.ckpt", weights_only=True)
        for step in (9, 10)
    ]
    moments = [state["optimizer_states"][0]["state"] for state in states]
    for number, values in moments[0].items():
        assert all(values[name].equal(moments[1][number][name]) for name in values)
    rates = [state["lr_schedulers"][0]["last_epoch"] for state in states]
    assert rates == [9, 10], "the schedule goes on"
    counted = [(step, value) for step, name, value in measured(stage) if "skipped" in name]
    assert counted == [("10", "1.0"), ("13", "2.0")]
    assert json.loads((stage / "manifest.json").read_text())["metrics"]["skipped_steps"] == 2


def test_skip_changes_nothing_where_all_is_finite(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    assert run(run_dir, "train.on_nonfinite=skip", only="pretrain") == 0
    assert_same_result(stage, whole)
    metrics = [json.loads((place / "manifest.json").read_text())["metrics"]
               for place in (stage, whole)]  # fmt: skip
    for figures in metrics:
        figures.pop("throughput")  # time is not repeated
    assert metrics[0] == metrics[1] and "skipped_steps" not in metrics[0]


def test_a_stage_that_stopped_is_continued_with_skip(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    SpoilLoss(monkeypatch, [10])
    assert run(run_dir, only="pretrain") == 3
    assert run(run_dir, "train.on_nonfinite=skip", only="pretrain") == 0
    assert json.loads((stage / "manifest.json").read_text())["metrics"]["skipped_steps"] == 1


def test_a_stage_that_only_skips_stops(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:  # fmt: skip
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    monkeypatch.setattr(nonfinite, "MOST_SKIPPED_IN_A_ROW", 4)
    SpoilLoss(monkeypatch, [2, 3, 4, *range(6, 20)])
    # The count survives a resume from step 8, where it is 3 steps long.
    with monkeypatch.context() as patch:
        patch.setattr(nonfinite, "MOST_SKIPPED_IN_A_ROW", 6)
        assert run(run_dir, "train.on_nonfinite=skip", only="pretrain") == 3
    assert saved_steps(stage)[-1] == 8
    capsys.readouterr()
    assert run(run_dir, "train.on_nonfinite=skip", only="pretrain") == 3
    told = capsys.readouterr().err
    assert "4 steps in a row were left out, the last one: step 9 had a loss" in told


def fake_trainer(**parts: Any) -> Any:
    return SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=parts.get("scaler")),
        strategy=SimpleNamespace(model=parts.get("model")),
        optimizers=[SimpleNamespace(param_groups=[{"params": parts.get("parameters", [])}])],
    )


def test_an_overflow_under_float16_is_left_to_the_scaler() -> None:
    module: Any = torch.nn.Linear(2, 1, bias=False)
    module(torch.ones(1, 2)).sum().backward()
    norm = gradient_norm(fake_trainer(parameters=[*module.parameters()]))
    assert norm is not None and float(norm) == pytest.approx(2**0.5)
    assert gradient_norm(fake_trainer(scaler=object())) is None


def test_under_deepspeed_the_norm_is_the_engines_and_skip_is_refused() -> None:
    engine = SimpleNamespace(get_global_grad_norm=lambda: 2.5)
    trainer, module = fake_trainer(model=engine), Any
    norm = gradient_norm(trainer)
    assert norm is not None and float(norm) == 2.5
    check: Callable[..., None] = NonFinite("adapt", action="skip", every_n_steps=1).on_fit_start
    with pytest.raises(UserError, match=r"on_nonfinite=skip: stage adapt runs under DeepSpeed"):
        check(trainer, module)
    NonFinite("adapt", action="stop", every_n_steps=1).on_fit_start(trainer, module)  # type: ignore[arg-type]


ONE_RANK_IS_SPOILT = """
import sys
from dlm.stages.denoising import DenoisingStage
step_of = DenoisingStage.training_step
def spoilt(stage, batch, batch_idx):
    loss = step_of(stage, batch, batch_idx)
    bad = stage.global_rank == 1 and stage.global_step + 1 == 10
    return loss * float("nan") if bad else loss
DenoisingStage.training_step = spoilt
from dlm.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_stop_together(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, tmp_path: Path
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    words = ("--only", "pretrain", "hardware.devices=2", "hardware.strategy=ddp")
    ended = run_changed(ONE_RANK_IS_SPOILT, tmp_path / "spoilt.py", run_dir, *words)
    assert ended.returncode == 3, ended.stderr
    assert (
        "step 10 had a loss and gradient norm that is not finite on rank 1 (loss nan, "
        in ended.stderr
    )
    assert "continue with:" in ended.stderr
    assert "Traceback" not in ended.stderr and saved_steps(stage)[-1] == 8
