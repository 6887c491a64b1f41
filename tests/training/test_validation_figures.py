"""Validation figures are those of the rows: batches and devices change no digit."""

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from dlm.data.batches.batching import BatchRequest, TokenDataset, validation_requests
from dlm.data.rows.encoding import EncodedRows
from dlm.diffusion.noise import ForwardProcess, NoiseKey, Times
from dlm.diffusion.objective import Objective
from dlm.models.backbone import Backbone
from dlm.models.length_predictor import LengthPredictor
from dlm.stages import noise_levels, validation_means
from dlm.stages.autoregressive import AutoregressiveTwin
from dlm.stages.base import VALIDATION_SEED, TrainingStage
from dlm.stages.denoising import DenoisingStage
from dlm.stages.length import LengthPrediction
from dlm.stages.optimizer import OptimizerSettings
from dlm.stages.validation_means import ValidationMeans, ValidationSum, rounded

MASK, VOCAB = 4, 40
OPTIMIZER = OptimizerSettings(lr=1e-3, steps=1)
LAYOUTS = [(1, 1), (7, 1), (64, 1), (400, 1), (1, 2), (16, 2), (400, 2), (3, 5), (400, 5)]
KINDS = ["coupled", "independent", "low_discrepancy", "length", "autoregressive"]
torch.set_num_threads(1)


def some_rows(count: int) -> EncodedRows:
    """Prompts of 3 tokens, responses of 2 to 20 with their end."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(5, 24, count)
    tokens = generator.integers(5, VOCAB, lengths.sum()).astype(np.int32)
    return EncodedRows(
        tokens, np.cumsum([0, *lengths]), np.full(count, 3, dtype=np.int32), [""] * count,
        [""] * count,
    )  # fmt: skip


def stage_of(kind: str) -> TrainingStage:
    config = AutoConfig.for_model(
        "bert", vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = Backbone(AutoModelForMaskedLM.from_config(config))
    options: dict[str, Any] = {"optimizer": OPTIMIZER, "seed": 0}
    if kind == "autoregressive":
        return AutoregressiveTwin(backbone, label_smoothing=0.1, **options).eval()
    if kind == "length":
        predictor = LengthPredictor(16, max_length=30, num_heads=2, dropout=0.0)
        return LengthPrediction(backbone, predictor, label_smoothing=0.1, **options).eval()
    times: Times = kind  # type: ignore[assignment]
    process = ForwardProcess("continuous", times=times)
    objective = Objective("elbo", "tokens", label_smoothing=0.1)
    return DenoisingStage(
        backbone, forward_process=process, objective=objective, mask_token_id=MASK, **options
    ).eval()


@torch.no_grad()
def validated(
    stage: TrainingStage, rows: EncodedRows, batch_size: int, world_size: int
) -> dict[str, float]:
    """The figures of one validation; the ranks' sums are added up as torchmetrics does."""
    logged: dict[str, float] = {}
    stage.log_dict = lambda named, **_: logged.update(  # type: ignore[method-assign]
        {name: float(value) for name, value in named.items()}
    )
    for rank in range(world_size):
        for request in validation_requests(rows, batch_size, rank=rank, world_size=world_size):
            stage.validation_step(TokenDataset(rows, 1).__getitems__(request), 0)
    stage.on_validation_epoch_end()
    return logged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [61, 3])
def test_validation_figures_are_equal_to_the_last_digit(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3 rows most of five devices have none."""
    stage, rows = stage_of(kind), some_rows(count)
    shown = validated(stage, rows, 64, 1)
    assert len(shown) >= 2
    for batch_size, world_size in LAYOUTS:
        got = validated(stage, rows, batch_size, world_size)
        assert got["validation/loss"] == shown["validation/loss"], (batch_size, world_size)
    for module in (validation_means, noise_levels):
        monkeypatch.setattr(module, "rounded", lambda value, *_: torch.tensor(value).double())
    exact = validated(stage, rows, 64, 1)
    for batch_size, world_size in LAYOUTS:
        got = validated(stage, rows, batch_size, world_size)
        assert got == pytest.approx(exact, rel=5e-7), (batch_size, world_size)


def test_a_validation_holds_every_stratum_once_whatever_the_batches() -> None:
    rows = some_rows(21)
    process = ForwardProcess("continuous", times="low_discrepancy")
    seen: list[list[float]] = []
    for batch_size, world_size in LAYOUTS:
        times: dict[int, float] = {}
        for rank in range(world_size):
            for request in validation_requests(rows, batch_size, rank=rank, world_size=world_size):
                key = NoiseKey(
                    VALIDATION_SEED, torch.from_numpy(request.positions),
                    torch.from_numpy(request.strata), request.global_rows,
                )  # fmt: skip
                drawn = process.levels(key).time_B.tolist()
                times |= dict(zip(request.positions.tolist(), drawn, strict=True))
        seen.append([times[row] for row in range(21)])
    assert all(drawn == seen[0] for drawn in seen)
    assert sorted(np.ceil(np.array(seen[0]) * 21).astype(int)) == list(range(1, 22))
    order = np.argsort(rows.lengths, kind="stable")
    assert np.abs(np.corrcoef(np.arange(21), np.array(seen[0])[order])[0, 1]) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_a_filler_adds_nothing(kind: str) -> None:
    stage, rows = stage_of(kind), some_rows(4)
    update = Mock(wraps=stage.validation_means.update)
    stage.validation_means.update = update  # type: ignore[method-assign]
    request = BatchRequest(np.array([0]), np.array([0]), 4, 9, filler=True)
    stage.validation_step(TokenDataset(rows, 1).__getitems__(request), 0)
    update.assert_called_once_with({})
    if isinstance(stage, DenoisingStage):
        assert stage.validation_by_noise_level.compute() == {}


def test_what_nothing_was_predicted_for_has_no_value() -> None:
    """A sum of no terms is no loss of 0, and 0/0 no accuracy."""
    means = ValidationMeans(("loss", "masked_accuracy"))
    means.update({
        "loss": ValidationSum(torch.tensor(0.0), 17, 0),
        "masked_accuracy": ValidationSum(torch.tensor(0.0), 0, 0),
    })  # fmt: skip
    assert means.compute() == {}
    means.update({"loss": ValidationSum(torch.tensor(3.0), 3, 2)})
    assert {name: float(value) for name, value in means.compute().items()} == {"loss": 0.15}


def test_a_figure_has_the_digits_that_float32_gives() -> None:
    assert [float(rounded(value)) for value in (5.8981234567, 1234567.0, 3e-9, 0.0)] == [
        5.8981, 1.2346e6, 3e-9, 0.0,
    ]  # fmt: skip
