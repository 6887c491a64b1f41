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

    named: Callable[[], dict[str, Tensor]]
    """By the parameter's name: the weights themselves, or this rank's flat part of them."""
    refresh: Callable[[], None]
    """Gives the network what was written into them; every rank must call it."""
    cut: bool
    """Whether other ranks hold other parts."""


def masters_of(strategy: Any, module: LightningModule) -> Masters:
    """The masters of a running fit."""
    if isinstance(strategy, ZeroStrategy):
        engine = strategy.deepspeed_engine

        def parts() -> dict[str, Tensor]:
            return {kept.name: kept.tensors[WEIGHT] for kept in local_ranges(engine)}

        return Masters(parts, lambda: refresh_weights(engine), cut=True)

    def trained() -> dict[str, Tensor]:
        return {name: p for name, p in module.named_parameters() if p.requires_grad}

    return Masters(trained, lambda: None, cut=False)
