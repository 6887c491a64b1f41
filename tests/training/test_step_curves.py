"""Learning rate and gradient norm of the steps, in metrics.csv."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from resume_tools import Uninterrupted, copy_needed, run, values, with_callbacks


class Norms(Callback):
    """The norm of all gradients before clipping and after it, in float64, and the rate."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.before.append(norm_of(pl_module))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if len(self.after) < trainer.global_step:
            self.after.append(norm_of(pl_module))


def norm_of(module: torch.nn.Module) -> float:
    squares = [p.grad.double().square().sum() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


@pytest.mark.parametrize("clip", ["0.05", "null"])
def test_rate_and_norm_before_clipping_are_those_of_the_step(
    clip: str, chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    uninterrupted("tokenizer")
    stage, norms = copy_needed(chain, run_dir, "pretrain"), Norms()
    with with_callbacks(norms):
        settings = ("logging.every_n_steps=1", "train.steps=4", f"optim.gradient_clip={clip}")
        assert run(run_dir, *settings, "train.micro_batch_size=8", only="pretrain") == 0
    assert values(stage, "train/gradient_norm") == pytest.approx(norms.before, rel=1e-5)
    assert values(stage, "train/learning_rate") == pytest.approx(norms.rates)
    assert len(set(norms.rates)) > 1 and min(norms.before) > 0.05
    after = norms.before if clip == "null" else [0.05] * len(norms.before)
    assert norms.after == pytest.approx(after, rel=1e-3)
