"""An exponential moving average of the trained weights: validated and exported in their place.

Lightning's own (``EMAWeightAveraging``) keeps its state where some strategies do not save it. Under
ZeRO each rank averages the masters that it keeps.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dlm.distributed.masters import Masters, masters_of
from dlm.distributed.saved_tensors import AVERAGE
from dlm.distributed.zero_strategy import ZeroStrategy

NamedTensors = Mapping[str, Tensor]


class MovingAverage:
    """average = d x average + (1 - d) x weights, with d = min(decay, (1 + n) / (10 + n)) after n
    updates: the first ones forget the start (the warm-up of TensorFlow's
    ``ExponentialMovingAverage``)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin(self, weights: NamedTensors) -> None:
        """Start from the weights as they are, or go on from a state that was read."""
        kept = self.tensors or {
            name: weight.detach().float().clone() for name, weight in weights.items()
        }
        self.tensors = {name: kept[name].to(weight.device) for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: NamedTensors) -> None:
        """Take in the weights after one more step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        own, theirs = list(self.tensors.values()), [weights[name] for name in self.tensors]
        torch._foreach_lerp_(own, theirs, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def swap(self, weights: NamedTensors) -> None:
        """Exchange the average and the weights, bit by bit; twice is nothing."""
        for name, tensor in self.tensors.items():
            kept = weights[name].clone()
            weights[name].copy_(tensor)
            tensor.copy_(kept)


class WeightAverage(Callback):
    """Keeps the average over the steps and through a resume; validation runs on it."""

    def __init__(self, decay: float) -> None:
        self.average = MovingAverage(decay)
        self._masters: Masters | None = None
        self._step = 0
        self._swapped = False

    def state_dict(self) -> dict[str, Any]:
        # Under ZeRO the strategy writes each rank's part beside the masters.
        cut = self._masters is not None and self._masters.cut
        return {
            "updates": self.average.updates,
            "tensors": {} if cut else dict(self.average.tensors),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average.updates = state_dict["updates"]
        self.average.tensors = dict(state_dict["tensors"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        strategy = trainer.strategy
        self._masters = masters = masters_of(strategy, pl_module)
        if isinstance(strategy, ZeroStrategy):
            self.average.tensors = {}
            self.average.begin(masters.named)
            strategy.keep_beside(AVERAGE, self.average.tensors)
        else:
            # Not the files that a resume has mapped into memory.
            self.average.tensors = {n: t.clone() for n, t in self.average.tensors.items()}
            self.average.begin(masters.named)
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._step:  # not after every micro-batch
            self._step = trainer.global_step
            assert self._masters is not None
            self.average.update(self._masters.named)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(False)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # Where weights are cut, the other ranks may not be there to put them together.
        if self._masters is not None and not self._masters.cut:
            self._swap(False)

    def _swap(self, swapped: bool) -> None:
        if self._swapped != swapped and self._masters is not None:
            self._swapped = swapped
            self.average.swap(self._masters.named)
            self._masters.refresh()
