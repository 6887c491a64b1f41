"""Validation figures by noise level."""

import csv
from pathlib import Path

import pytest
import torch

from dlm.stages.noise_levels import ByNoiseLevel


def test_losses_and_hits_are_averaged_in_tenths_of_the_mask_rate() -> None:
    metric = ByNoiseLevel()
    rate = torch.tensor([0.05, 0.1, 0.11, 0.3, 1.0, 1.0])
    metric.update(
        rate, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 7.0]), torch.tensor([1.0, 0, 1, 1, 0, 1])
    )
    metric.update(torch.tensor([0.95]), torch.tensor([9.0]), torch.tensor([0.0]))
    got = {name: float(value) for name, value in metric.compute().items()}
    assert got == pytest.approx({
        "loss_0.1": 1.5, "masked_accuracy_0.1": 0.5,
        "loss_0.2": 3.0, "masked_accuracy_0.2": 1.0,
        "loss_0.3": 4.0, "masked_accuracy_0.3": 1.0,
        "loss_1.0": 7.0, "masked_accuracy_1.0": 0.3333,
    })  # fmt: skip


@pytest.mark.parametrize("steps", [10, 50])
def test_rates_on_an_edge_fall_into_the_bucket_below(steps: int) -> None:
    """Also a rate that is what the clean share leaves of 1: float32 has 1 - 0.9 above 0.1."""
    rate = torch.arange(1, steps + 1) / steps
    for same in (rate, 1 - (steps - torch.arange(1, steps + 1)) / steps):
        metric = ByNoiseLevel()
        metric.update(same, torch.zeros(steps), torch.zeros(steps))
        assert metric.count.tolist() == [steps / 10] * 10


def test_a_stage_logs_them_and_says_its_objective(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from dlm.cli import main

    recipe = tmp_path / "noisy.yaml"
    recipe.write_text("""
model: {architecture: bert, hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 16,
        max_positions: 64}
data: {max_length: 64}
train: {steps: 2, global_batch_size: 8}
validation: {every_n_steps: 2, generate_rows: 0, metric: exact_match, export: last}
hardware: {accelerator: cpu}
stages:
  vocabulary:
    kind: tokenizer
    data: {train: [{generator: number_text, count: 200}]}
    tokenizer_training: {algorithm: bpe, vocab_size: 120}
  adapt:
    kind: adapt
    tokenizer: vocabulary
    objective: {weight: cart, times: low_discrepancy, schedule: cosine, time: continuous}
    data:
      train: [{generator: number_pairs, count: 40}]
      validation: [{generator: number_pairs, count: 40}]
""")
    assert main(["run", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    noise = "cosine schedule, continuous time, low-discrepancy times"
    said = f"adapt: cart (p = 0.1) weight / maskable tokens; {noise}"
    assert said in capfd.readouterr().out
    with (tmp_path / "run" / "02_adapt" / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [
        float(row["value"]) for row in rows if row["metric"].startswith("validation_noise/loss_")
    ]
    assert 5 <= len(losses) <= 10 and all(loss > 0 for loss in losses)
