"""The strategy of a run by its name."""

from datetime import timedelta
from typing import Literal

from lightning.pytorch.strategies import DDPStrategy, Strategy

from dlm.distributed.zero_strategy import Offload, ZeroStrategy

StrategyName = Literal["auto", "ddp", "zero1", "zero2", "zero3"]
DEFAULT_TIMEOUT_S = 1800.0
ZERO_STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def build_strategy(
    name: StrategyName, *, cpu: bool, offload: Offload = "none", timeout: timedelta
) -> Strategy | str:
    """A Lightning strategy, or its name where Lightning is to choose.

    Args:
        name: ``auto``: one device, or DDP on several. ``zero1`` cuts the optimizer's state over
            the ranks, ``zero2`` the gradients too, ``zero3`` the weights too (arXiv 1910.02054).
        cpu: whether the ranks compute on the CPU.
        offload: what ZeRO keeps in the host's memory.
        timeout: how long a rank waits for the others.
    """
    if name in ZERO_STAGES:
        return ZeroStrategy(ZERO_STAGES[name], cpu=cpu, offload=offload, timeout=timeout)
    return DDPStrategy(timeout=timeout) if name == "ddp" else name


def run_shape(strategy: Strategy) -> str:
    """Strategy and number of processes in words."""
    if isinstance(strategy, ZeroStrategy):
        return strategy.description
    world = getattr(strategy, "world_size", 1)
    return f"DDP on {world} processes" if world > 1 else "one process"


def is_cut(strategy: Strategy) -> bool:
    """Whether no rank holds all weights: every rank must then compute the same calls."""
    return isinstance(strategy, ZeroStrategy) and strategy.stage == 3
