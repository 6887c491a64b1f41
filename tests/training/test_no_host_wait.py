"""No part of a step asks the device for a number or a shape: a GPU's host would wait for it.

The operations that make it wait are looked for on a CPU, on the path that a GPU takes, with a
stand-in for its attention kernel alone.
"""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_packed_steps import OPTIMIZER, batch, bert, denoising
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dlm.diffusion.noise import ForwardProcess
from dlm.diffusion.objective import Objective
from dlm.models import backbone as backbone_module
from dlm.models.attention import documents
from dlm.models.attention import packed as packed_attention
from dlm.models.length_predictor import LengthPredictor
from dlm.stages.autoregressive import AutoregressiveTwin
from dlm.stages.base import TrainingStage
from dlm.stages.length import LengthPrediction

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.bincount,
    aten.repeat_interleave, aten.unique_dim, aten._unique2, aten.equal,
}  # fmt: skip
COPIES = {torch.tensor, torch.as_tensor, torch.from_numpy}


class Watch(TorchDispatchMode):
    """Notes what the device would be asked for, the backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        masks = [i for i in args[1] if i is not None] if func.overloadpacket is aten.index else []
        if func.overloadpacket in WAITS or any(i.dtype == torch.bool for i in masks):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class WatchCopies(TorchFunctionMode):
    """Notes numbers of the host's that would be copied to the device."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in COPIES and not isinstance(args[0], Tensor):
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def waits_of(work: Callable[[], Any]) -> list[str]:
    watch = Watch()
    with watch, WatchCopies(watch.found):
        work()
    return watch.found


def kernel(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return query + key + value


def waits_of_a_step(stage: TrainingStage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(packed_attention, "_varlen", lambda: kernel)
    monkeypatch.setattr(backbone_module, "obstacle", lambda *_: None)
    monkeypatch.setattr(documents, "_grouped", documents._sequences)
    stage._trainer = SimpleNamespace(  # type: ignore[assignment]
        accumulate_grad_batches=1, world_size=1, training=True, global_step=0, max_steps=100,
        log_every_n_steps=50,
    )  # fmt: skip
    made = stage.drawn(batch(True, packed=True))

    def step() -> None:
        loss = stage.training_step(made, 0)
        assert isinstance(loss, Tensor)
        loss.backward()

    return waits_of(step)


@pytest.mark.parametrize("normaliser", ["maskable", "masked", "tokens"])
@pytest.mark.parametrize("times", ["coupled", "independent", "low_discrepancy"])
def test_a_denoising_step_waits_for_nothing(
    normaliser: Any, times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ForwardProcess(num_timesteps=10, times=times)
    objective = Objective("elbo", normaliser, 0.1)
    stage = denoising(bert(), forward_process=process, objective=objective)
    assert waits_of_a_step(stage, monkeypatch) == []


def test_nor_does_one_with_context_weights_and_berts_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"objective": Objective("cart", "masked"), "replaceable_ids": (7, 8, 9)}
    assert waits_of_a_step(denoising(bert(), **changes), monkeypatch) == []


def test_nor_does_the_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = AutoregressiveTwin(bert(), label_smoothing=0.1, optimizer=OPTIMIZER, seed=0)
    assert waits_of_a_step(twin, monkeypatch) == []


def test_a_length_step_waits_where_transformers_looks_for_padding_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = LengthPredictor(hidden_size=16, max_length=20, dropout=0.0)
    stage = LengthPrediction(bert(), predictor, label_smoothing=0.1, optimizer=OPTIMIZER, seed=0)
    assert waits_of_a_step(stage, monkeypatch) == ["aten._local_scalar_dense.default"]


def test_what_would_wait_is_found() -> None:
    numbers = torch.arange(5)
    assert waits_of(lambda: numbers.sum().item()) == ["aten._local_scalar_dense.default"]
    assert waits_of(lambda: numbers[numbers > 2]) == ["aten.index.Tensor"]
    assert waits_of(lambda: (numbers > 2).nonzero()) == ["aten.nonzero.default"]
    assert waits_of(lambda: torch.tensor([1, 2])) == ["tensor"]


def test_noise_drawn_beforehand_is_that_of_the_step() -> None:
    stage = denoising(bert())
    trainer = SimpleNamespace(training=True)
    stage._trainer = trainer  # type: ignore[assignment]
    made = batch(True, packed=False)
    drawn = stage.drawn(made)
    assert made.predicted is None and drawn.predicted is not None
    expected, found = stage.denoising_loss(made, 3), stage.denoising_loss(drawn, 3)
    assert torch.equal(found.cross_entropy_M, expected.cross_entropy_M)
    trainer.training = False
    validation = stage.drawn(made).predicted
    assert validation is not None
    assert not torch.equal(validation.masked_BL, drawn.predicted.masked_BL)
