"""The float32 weights of this process that the optimizer changes, under every strategy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning import LightningModule
from torch import Tensor

from dlm.distributed.saved_tensors import WEIGHT
from dlm.distributed.zero_state import local_ranges, refresh_weights
from dlm.distributed.zero_strategy import ZeroStrategy


@dataclass(frozen=True)
class Masters:
    """Where the optimizer's weights lie."""

    named: dict[str, Tensor]
    """By the parameter's name: the weights themselves, or this rank's flat part of them."""
    refresh: Callable[[], None]
    """Gives the network what was written into them; every rank must call it."""
    cut: bool
    """Whether other ranks hold other parts."""


def masters_of(strategy: Any, module: LightningModule) -> Masters:
    """The masters of a running fit."""
    if isinstance(strategy, ZeroStrategy):
        engine = strategy.deepspeed_engine
        parts = {kept.name: kept.tensors[WEIGHT] for kept in local_ranges(engine)}
        return Masters(parts, lambda: refresh_weights(engine), cut=True)
    trained: dict[str, Tensor] = {
        name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad
    }
    return Masters(trained, lambda: None, cut=False)
