"""The choice of the best step survives a resume."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from resume_tools import (
    Uninterrupted,
    checkpoint_weights,
    copy_needed,
    run,
    run_interrupted,
    saved_steps,
    values,
    weights,
)
from safetensors.torch import load

from dlm.callbacks.checkpoint import TrainingCheckpoint
from dlm.callbacks.generated_score import GeneratedScore
from dlm.distributed.checkpoint_io import CheckpointFiles
from dlm.recipe.manifest import read_manifest
from dlm.training.exported_step import fitting_metric

Script = Callable[[dict[int, float]], None]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Scripts the generated score of every validated step."""

    def script(by_step: dict[int, float]) -> None:
        def log(self: Any, trainer: Any, pl_module: Any) -> None:
            pl_module.log("validation/chrf", by_step[trainer.global_step])

        monkeypatch.setattr(GeneratedScore, "on_validation_epoch_end", log)

    return script


@pytest.fixture
def stage(chain: Path, uninterrupted: Uninterrupted, run_dir: Path) -> Path:
    uninterrupted("pretrain")
    return copy_needed(chain, run_dir, "adapt")


def exported_step(stage: Path) -> int:
    manifest = read_manifest(stage)
    assert manifest is not None
    step: int = manifest.metrics["exported_step"]
    assert step in saved_steps(stage)
    ours, saved = load(weights(stage)["model.safetensors"]), checkpoint_weights(stage, step)
    assert all(torch.equal(saved[f"backbone.network.{name}"], ours[name]) for name in ours)
    return step


@pytest.mark.parametrize(
    ("by_step", "cut", "best"),
    [
        pytest.param({8: 0.9, 16: 0.1, 24: 0.2}, 22, 8, id="best before the cut",
                     marks=pytest.mark.slow),
        pytest.param({8: 0.1, 16: 0.9, 24: 0.2}, 16, 16, id="cut before it was saved"),
    ],
)  # fmt: skip
def test_the_best_step_is_exported_after_a_resume(
    by_step: dict[int, float], cut: int, best: int, scores: Script, stage: Path
) -> None:
    scores(by_step)
    run_interrupted(stage.parent, "adapt", cut)
    assert run(stage.parent, only="adapt") == 0
    assert exported_step(stage) == best
    assert len(values(stage, "validation/chrf")) == 3


def test_of_equal_scores_the_lower_loss_decides_and_the_manifest_says_so(
    scores: Script, stage: Path
) -> None:
    scores({8: 0.0, 16: 0.0, 24: 0.0})
    run_interrupted(stage.parent, "adapt", 18)
    assert run(stage.parent, only="adapt") == 0
    losses = values(stage, "validation/loss")
    assert losses[0] > min(losses)
    assert exported_step(stage) == 8 * (1 + losses.index(min(losses)))
    manifest = read_manifest(stage)
    assert manifest is not None and manifest.metrics["exported_by"] == "loss (chrf stayed 0)"


@pytest.mark.parametrize(
    ("scores_and_losses", "best"),
    [
        pytest.param([(5.0, 1.0), (5.0, 0.5), (5.0, 0.7)], 2, id="of equal scores the lower loss"),
        pytest.param([(5.0, 0.5), (5.0, 0.5), (4.0, 0.1)], 2, id="of all equal the later step"),
        pytest.param([(5.0, 0.5), (6.0, 0.9), (5.9, 0.1)], 2, id="the score first"),
        pytest.param([(0.0, 0.5), (0.0, 0.4), (0.1, 0.9)], 3, id="a score that leaves its floor"),
    ],
)  # fmt: skip
def test_score_then_loss_then_the_later_step(
    scores_and_losses: list[tuple[float, float]], best: int, tmp_path: Path
) -> None:
    checkpoint = TrainingCheckpoint(
        tmp_path, files=CheckpointFiles(), every_n_steps=1, keep=1,
        monitor="validation/bleu", mode="max",
    )  # fmt: skip
    for step, (score, loss) in enumerate(scores_and_losses, start=1):
        figures = {"validation/bleu": torch.tensor(score), "validation/loss": torch.tensor(loss)}
        trainer: Any = SimpleNamespace(
            callback_metrics=figures, global_step=step, sanity_checking=False
        )
        checkpoint.on_validation_end(trainer, cast(Any, None))
    assert checkpoint.best_step == best


@pytest.mark.parametrize(
    ("references", "metric"),
    [
        (["two dogs run fast", "a man sits on a bench", "hello"], "bleu"),
        (["yes", "no", "a man sits on a bench"], "chrf"),
        (["yes", "two dogs run fast"], "chrf"),
        (["两只狗在草地上奔跑", "一个男人坐在长凳上"], "chrf"),
    ],
)
def test_the_default_metric_can_tell_answers_apart(references: list[str], metric: str) -> None:
    assert fitting_metric(references) == metric


def test_a_score_that_is_no_number_stops_the_stage(
    scores: Script, stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores({8: float("nan")})
    assert run(stage.parent, only="adapt") == 3
    told = capsys.readouterr().err
    assert "stage adapt: the validation after step 8 gave chrf nan, which says nothing" in told
    assert "Traceback" not in told and not (stage / "manifest.json").exists()


@pytest.mark.slow
def test_the_last_step_is_exported_where_that_is_asked_for(scores: Script, stage: Path) -> None:
    scores({8: 0.9, 16: 0.1, 24: 0.2})
    last = "stages.adapt.validation.export=last"
    run_interrupted(stage.parent, "adapt", 22, last)
    assert run(stage.parent, last, only="adapt") == 0
    assert exported_step(stage) == 24 and saved_steps(stage) == [20, 24]
    manifest = read_manifest(stage)
    assert manifest is not None and "validation_chrf" not in manifest.metrics


def test_the_last_step_is_validated_too(scores: Script, stage: Path) -> None:
    scores({8: 0.1, 10: 0.9})
    shorter = "stages.adapt.train.steps=10"
    run_interrupted(stage.parent, "adapt", 9, shorter)
    assert run(stage.parent, shorter, only="adapt") == 0
    assert exported_step(stage) == 10 and len(values(stage, "validation/loss")) == 2


@pytest.mark.slow
def test_a_stage_shorter_than_the_interval_is_validated_once(scores: Script, stage: Path) -> None:
    scores({6: 0.3})
    assert run(stage.parent, "stages.adapt.train.steps=6", only="adapt") == 0
    assert exported_step(stage) == 6 and values(stage, "validation/chrf") == [pytest.approx(0.3)]
