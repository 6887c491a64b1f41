"""An exponential moving average of the trained weights: validated and exported in their place.

Lightning's own (``EMAWeightAveraging``) keeps its state where some strategies do not save it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

LocalMasters = Callable[[LightningModule], list[Tensor]]


def trained_weights(module: LightningModule) -> list[Tensor]:
    """The float32 weights of this process that the optimizer changes, in the module's order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


class MovingAverage:
    """average = d x average + (1 - d) x weights, with d = min(decay, (1 + n) / (10 + n)) after n
    updates: the first ones forget the start (the warm-up of TensorFlow's
    ``ExponentialMovingAverage``)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors: list[Tensor] = []

    @torch.no_grad()
    def begin(self, weights: list[Tensor]) -> None:
        """Start from the weights as they are, or go on from a state that was read."""
        if not self.tensors:
            self.tensors = [weight.detach().float().clone() for weight in weights]
        pairs = zip(self.tensors, weights, strict=True)
        self.tensors = [tensor.to(weight.device) for tensor, weight in pairs]

    @torch.no_grad()
    def update(self, weights: list[Tensor]) -> None:
        """Take in the weights after one more step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.tensors, weights, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def swap(self, weights: list[Tensor]) -> None:
        """Exchange the average and the weights, bit by bit; twice is nothing."""
        for tensor, weight in zip(self.tensors, weights, strict=True):
            kept = weight.clone()
            weight.copy_(tensor)
            tensor.copy_(kept)


class WeightAverage(Callback):
    """Keeps the average over the steps and through a resume; validation runs on it."""

    def __init__(self, decay: float, local_masters: LocalMasters = trained_weights) -> None:
        """``local_masters``: the float32 weights that this process holds, where a strategy shards
        them."""
        self.average = MovingAverage(decay)
        self.local_masters = local_masters
        self._step = 0
        self._swapped = False

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.average.updates, "tensors": self.average.tensors}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average.updates = state_dict["updates"]
        self.average.tensors = list(state_dict["tensors"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.average.begin(self.local_masters(pl_module))
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._step:  # not after every micro-batch
            self._step = trainer.global_step
            self.average.update(self.local_masters(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module, True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module, False)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._swap(pl_module, False)

    def _swap(self, pl_module: LightningModule, swapped: bool) -> None:
        if self._swapped != swapped:
            self._swapped = swapped
            self.average.swap(self.local_masters(pl_module))


@torch.no_grad()
def put_average(module: LightningModule, callbacks: Mapping[str, Any]) -> None:
    """Give a module that holds a checkpoint's weights their average, if the checkpoint has one."""
    if (state := callbacks.get(WeightAverage.__qualname__)) is not None:
        for weight, tensor in zip(trained_weights(module), state["tensors"], strict=True):
            weight.copy_(tensor)
