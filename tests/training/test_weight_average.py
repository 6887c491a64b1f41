"""`train.ema_decay`: the moving average of the weights."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from family_tools import export_of, run_family, write_family
from lightning import Callback, Trainer
from resume_tools import StopAt, with_callbacks
from safetensors.torch import load_file
from torch import Tensor

from dlm.callbacks.ema import MovingAverage

EMA = ("train.ema_decay=0.5", "validation.every_n_steps=3", "optim.lr=0.01")


def test_the_average_is_that_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 4, generator=generator), torch.randn(2, generator=generator)]
    named = {"matrix": weights[0], "vector": weights[1]}
    average = MovingAverage(0.3)
    average.begin(named)
    expected = [weight.double() for weight in weights]
    for n in range(12):
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator))
        average.update(named)
        decay = min(0.3, (1 + n) / (10 + n))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
    for got, wanted in zip(average.tensors.values(), expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, atol=1e-6, rtol=1e-6)
    # The last updates had the decay itself, the first ones less.
    assert (1 + 11) / (10 + 11) > 0.3 > 1 / 10


def test_swapping_twice_is_nothing() -> None:
    weight = torch.randn(5, generator=torch.Generator().manual_seed(0))
    average = MovingAverage(0.9)
    average.begin({"weight": weight})
    weight.mul_(3)
    raw, mean = weight.clone(), average.tensors["weight"].clone()
    average.swap({"weight": weight})
    assert torch.equal(weight, mean) and torch.equal(average.tensors["weight"], raw)
    average.swap({"weight": weight})
    assert torch.equal(weight, raw) and torch.equal(average.tensors["weight"], mean)


class Record(Callback):
    """The weights before, in and after validation; it stands before the average's callback."""

    def __init__(self) -> None:
        self.before: list[list[Tensor]] = []
        self.within: list[list[Tensor]] = []
        self.after: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step % 3 == 0:
            self.before.append(weights_of(pl_module))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.within.append(weights_of(pl_module))

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step and trainer.global_step % 3 == 0:
            self.after.append(weights_of(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.after.append(weights_of(pl_module))


def weights_of(module: Any) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters() if p.requires_grad]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A run of adapt that nobody disturbed."""
    place, record = tmp_path_factory.mktemp("average"), Record()
    model = write_family(place / "model", "xlm-roberta")
    with with_callbacks(record):
        assert run_family(model, place / "whole", *EMA, stop="adapt") == 0
    return place, record


def saved(run_dir: Path, step: int) -> dict[str, Any]:
    place = run_dir / "01_adapt" / "checkpoints" / f"step={step:08d}" / "state.ckpt"
    state: dict[str, Any] = torch.load(place, weights_only=True)
    return state


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(
    whole: tuple[Path, Record],
) -> None:
    place, record = whole
    assert len(record.before) == len(record.within) == len(record.after) == 2
    for before, within, after in zip(record.before, record.within, record.after, strict=True):
        assert same(before, after) and not same(before, within)
    average = saved(place / "whole", 6)["callbacks"]["WeightAverage"]
    assert average["updates"] == 6 and same(list(average["tensors"].values()), record.within[-1])


def test_the_average_is_exported(whole: tuple[Path, Record]) -> None:
    place, record = whole
    exported = load_file(export_of(place / "whole", "adapt") / "model.safetensors")
    # The best of two validated steps.
    assert any(
        all(any(torch.equal(tensor, other) for other in within) for tensor in exported.values())
        for within in record.within
    )


def test_a_resumed_average_is_that_of_the_uninterrupted_run(whole: tuple[Path, Record]) -> None:
    place, _ = whole
    with with_callbacks(StopAt(5)):
        assert run_family(place / "model", place / "cut", *EMA, stop="adapt") == 3
    assert run_family(place / "model", place / "cut", *EMA, stop="adapt") == 0
    ours, theirs = saved(place / "cut", 6), saved(place / "whole", 6)
    averages = [state["callbacks"]["WeightAverage"] for state in (ours, theirs)]
    assert averages[0]["updates"] == averages[1]["updates"]
    assert same(*(list(average["tensors"].values()) for average in averages))
    exports = [export_of(place / run, "adapt") / "model.safetensors" for run in ("cut", "whole")]
    assert exports[0].read_bytes() == exports[1].read_bytes()
    assert validated(place / "cut") == validated(place / "whole")


def validated(run_dir: Path) -> list[list[str]]:
    with (run_dir / "01_adapt" / "logs" / "metrics.csv").open(newline="") as file:
        return [row[:3] for row in csv.reader(file) if row[1].startswith("validation/")]
