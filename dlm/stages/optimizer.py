"""AdamW and its schedules."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Schedule = Literal["inverse_sqrt", "linear", "cosine", "constant"]


@dataclass(frozen=True)
class OptimizerSettings:
    """Flat settings of the optimizer and the learning-rate schedule."""

    lr: float
    steps: int
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    schedule: Schedule = "inverse_sqrt"
    warmup_steps: int = 0
    final_lr_ratio: float = 0.0


def lr_factor(settings: OptimizerSettings) -> Callable[[int], float]:
    """Step -> share of the peak learning rate.

    Linear warm-up, then: inverse_sqrt sqrt(warmup/step), linear and cosine down to
    ``final_lr_ratio``, or constant.
    """
    warmup, last = settings.warmup_steps, settings.steps
    floor = settings.final_lr_ratio

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, last - warmup)
        if settings.schedule == "linear":
            return floor + (1 - floor) * max(0.0, 1 - progress)
        if settings.schedule == "cosine":
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        if settings.schedule == "inverse_sqrt":
            return math.sqrt(max(1, warmup) / max(1, warmup, step))
        return 1.0

    return factor


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> dict[str, Any]:
    """Optimizer and scheduler in Lightning's shape; biases, norms and the like are not decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True,
    )  # fmt: skip
    # Lightning clips gradients that the scaler of 16-mixed has unscaled, and refuses an optimizer
    # that says it would do so itself, as the fused one does.
    optimizer._step_supports_amp_scaling = False
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor(settings))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }
