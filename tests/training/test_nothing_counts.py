"""A step or a validation of which nothing counts stops a stage with the reason."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlm.callbacks.counted import SomethingCounts
from dlm.cli import main
from dlm.errors import StageFailed, UserError

TEXTS = [f"{who} {does} {what}" for who in ("a dog", "the fish", "that bird")
         for does in ("sees", "hears", "likes") for what in ("a horse", "the cow")]  # fmt: skip
RECIPE = """
model: {architecture: bert, hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 16,
        max_positions: 32, dropout: 0.0}
data: {root: ., max_length: 30, task: text}
train: {steps: 40, global_batch_size: 18}
optim: {lr: 2.0e-2, warmup_steps: 1}
validation: {every_n_steps: 20}
hardware: {accelerator: cpu}
stages:
  vocabulary:
    kind: tokenizer
    data: {train: [{path: texts.txt}]}
    tokenizer_training: {algorithm: bpe, vocab_size: 80}
  twin:
    kind: autoregressive
    tokenizer: vocabulary
    data: {train: [{path: texts.txt}], validation: [{path: texts.txt}]}
"""


def figures(run: Path, metric: str) -> list[float]:
    with next(run.glob("*_twin")).joinpath("logs", "metrics.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == metric]


def test_a_twin_learns_texts_from_left_to_right_and_draws_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run = tmp_path / "run"
    root = f"data.root={tmp_path}"
    assert main(["run", str(tmp_path / "recipe.yaml"), root, "--run-dir", str(run)]) == 0
    first, last = figures(run, "validation/loss")
    assert 0 < last < 0.8 * first
    assert figures(run, "validation/token_accuracy")[-1] > 0.4
    identity = json.loads((next(run.glob("*_twin")) / "manifest.json").read_text())
    assert identity["metrics"]["validation_loss"] == pytest.approx(last)
    capsys.readouterr()
    drawn = ["generate", str(run), *(4 * ["--prompt", ""]), "--prompt", "a dog"]
    assert main([*drawn, "--temperature", "1", "--seed", "5"]) == 0
    texts = capsys.readouterr().out.splitlines()
    assert len(texts) == 5 and len(set(texts[:4])) > 1


def trainer(**figures: float) -> Any:
    named = {f"validation/{name}": value for name, value in figures.items()}
    return SimpleNamespace(callback_metrics=named, global_step=7)


def watch(monitor: str | None = None) -> SomethingCounts:
    return SomethingCounts("adapt", monitor=monitor and f"validation/{monitor}")


def test_a_step_without_a_token_that_counts_stops() -> None:
    batch = SimpleNamespace(global_maskable=0, global_rows=16)
    with pytest.raises(UserError, match="no token counts in the loss of step 8: the texts or resp"):
        watch().on_train_batch_start(trainer(), None, batch, 0)  # type: ignore[arg-type]
    batch.global_maskable = 1
    watch().on_train_batch_start(trainer(), None, batch, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "given"),
    [("loss", {}), ("loss", {"exact_match": 0.0}), (None, {}), ("chrf", {"loss": 1.0})],
)
def test_a_validation_that_gives_nothing_to_choose_by_stops(
    monitor: str | None, given: dict[str, float]
) -> None:
    with pytest.raises(UserError, match=f"after step 7 gave no {monitor or 'loss'}: of its rows"):
        watch(monitor).on_validation_end(trainer(**given), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("monitor", ["loss", "chrf", None])
def test_a_validation_loss_that_is_no_number_stops(monitor: str | None, value: float) -> None:
    with pytest.raises(StageFailed, match=f"gave loss {value}, which says nothing"):
        watch(monitor).on_validation_end(trainer(loss=value, chrf=1.0), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "given"),
    [("loss", {"loss": 2.0}), (None, {"loss": 2.0}), ("chrf", {"chrf": 0.0}),
     (None, {"chrf": 0.0})],
)  # fmt: skip
def test_a_number_to_choose_by_is_enough(monitor: str | None, given: dict[str, float]) -> None:
    watch(monitor).on_validation_end(trainer(**given), None)  # type: ignore[arg-type]
