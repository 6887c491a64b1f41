"""A loss or gradient that is not finite: the stage stops before such a state is saved, or leaves
the step out.

Every step leaves two numbers on the device, its loss and its gradient norm. ``stop`` looks at them
at the logging interval, before a validation and before a save: no step waits for the device.
``skip`` has to know before the optimizer's step, and so waits at every step.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed import all_gather_object

from dlm.errors import StageFailed, UserError

OnNonFinite = Literal["stop", "skip"]
MOST_SKIPPED_IN_A_ROW = 10
_SHOWN_SAMPLES = 64


@dataclass
class _Step:
    """What one step leaves on this rank."""

    number: int
    """From 1: the number of steps done with it, as in metrics.csv."""
    samples: list[Tensor] = field(default_factory=list)
    """sample_B of each micro-batch."""
    losses: list[Tensor] = field(default_factory=list)
    norm: Tensor | None = None

    def values(self) -> Tensor:
        """(loss, gradient norm); a norm that cannot be had counts as 0."""
        loss = torch.stack(self.losses).float().sum()
        norm = torch.zeros_like(loss) if self.norm is None else self.norm.float().to(loss.device)
        return torch.stack([loss, norm])


class NonFinite(Callback):
    """Stands before the checkpoint callback: what it refuses is never saved."""

    def __init__(self, name: str, *, action: OnNonFinite, every_n_steps: int) -> None:
        self.name = name
        self.action = action
        self.every_n_steps = every_n_steps
        self.skipped = 0
        self._in_a_row = 0
        self._steps: list[_Step] = []

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.action == "skip" and _owns_gradients(trainer):
            raise UserError(
                f"train.on_nonfinite=skip: stage {self.name} runs under DeepSpeed, which steps "
                "before anybody can look; use stop, or hardware.strategy=ddp"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        _keep_norm(pl_module, None)
        step = trainer.global_step
        if batch_idx % trainer.accumulate_grad_batches == 0:
            if step % self.every_n_steps == 0:
                self._look(trainer)
            self._steps.append(_Step(step + 1))
        self._steps[-1].samples.append(batch.sample_B)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self._steps[-1].losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        if _owns_gradients(trainer):
            return
        step = self._steps[-1]
        step.norm = _keep_norm(pl_module, gradient_norm(trainer))
        if self.action == "skip":
            self._skip_if_bad(trainer, pl_module, step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if _owns_gradients(trainer) and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._steps[-1].norm = _keep_norm(pl_module, gradient_norm(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look(trainer)

    def figures(self) -> dict[str, int]:
        """For the manifest: how many steps were left out, if any."""
        return {"skipped_steps": self.skipped} if self.skipped else {}

    def _look(self, trainer: Trainer) -> None:
        """Raise on all ranks if a step since the last look was not finite on any.

        Raises:
            StageFailed: One was.
        """
        steps = [step for step in self._steps if step.losses]
        self._steps = [step for step in self._steps if not step.losses]  # the one just begun
        if not steps or self.action == "skip":
            return
        values_S2 = torch.stack([step.values() for step in steps])
        bad_S = _bad_on_any_rank(trainer, values_S2).tolist()
        if True in bad_S:
            step = steps[bad_S.index(True)]
            raise StageFailed(
                f"stage {self.name}: {_of_all_ranks(trainer, step)}. Nothing of it was saved: the "
                "newest checkpoint is from before. Running the same command again meets the same "
                "step; look at these samples, lower optim.lr or optim.gradient_clip, raise "
                "train.precision, or leave such steps out with train.on_nonfinite=skip"
            )

    def _skip_if_bad(self, trainer: Trainer, pl_module: LightningModule, step: _Step) -> None:
        """Without gradients the optimizer changes neither weights nor moments; the step counts for
        the schedule, the data and ``train.steps`` all the same."""
        if not _bad_on_any_rank(trainer, step.values()[None]).item():
            self._in_a_row = 0
            return
        for parameter in pl_module.parameters():
            parameter.grad = None
        self.skipped += 1
        self._in_a_row += 1
        told = _of_all_ranks(trainer, step)
        if trainer.is_global_zero:
            print(f"{self.name}: left out, {told}", flush=True)
        if trainer.logger is not None:
            figures = {"train/skipped_steps": float(self.skipped)}
            trainer.logger.log_metrics(figures, step=trainer.global_step)
        if self._in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise StageFailed(
                f"stage {self.name}: {self._in_a_row} steps in a row were left out, the last one: "
                f"{told}. It does not recover by itself: go back with a lower optim.lr or another "
                "train.precision; the newest checkpoint is kept"
            )


def gradient_norm(trainer: Trainer) -> Tensor | None:
    """The gradient's norm, on the device, unscaled and before clipping; None where there is none.

    Under float16 an overflow is the scaler's business, which lowers its scale and leaves the step
    out; DeepSpeed knows the norm of the step that it has just done.
    """
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return None
    if _owns_gradients(trainer):
        norm = trainer.strategy.model.get_global_grad_norm()  # type: ignore[union-attr,operator]
        return None if norm is None else torch.as_tensor(norm)
    groups = trainer.optimizers[0].param_groups
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else None


def _keep_norm(stage: Any, norm: Tensor | None) -> Tensor | None:
    """Where clipping and the log find it, which need the same number."""
    stage.gradient_norm = norm
    return norm


def _owns_gradients(trainer: Trainer) -> bool:
    """Whether the strategy's engine keeps gradients to itself, as DeepSpeed's does."""
    return hasattr(trainer.strategy.model, "get_global_grad_norm")


def _bad_on_any_rank(trainer: Trainer, values_S2: Tensor) -> Tensor:
    """Per step, bool: whether loss or norm is not finite on one rank at least. Waits for the
    device."""
    bad_S = (~values_S2.isfinite()).any(dim=1).float()
    if trainer.world_size > 1:
        bad_S = trainer.strategy.reduce(bad_S, reduce_op="sum")
    return bad_S.cpu() > 0


def _of_all_ranks(trainer: Trainer, step: _Step) -> str:
    """Which step, what was not finite, and with which samples; the same text on every rank."""
    loss, norm = step.values().tolist()
    samples = torch.cat(step.samples).tolist()
    ranks: list[Any] = [(loss, norm, samples)]
    if trainer.world_size > 1:
        ranks = [None] * trainer.world_size
        all_gather_object(ranks, (loss, norm, samples))
    # The gradient is the mean over the ranks: where a loss is bad, its rank is the one to look at.
    bad = [number for number, rank in enumerate(ranks) if not math.isfinite(rank[0])]
    loss = sum(rank[0] for rank in ranks) / len(ranks)
    parts = {"loss": loss} | ({} if step.norm is None else {"gradient norm": norm})
    which = " and ".join(name for name, value in parts.items() if not math.isfinite(value))
    shown = ", ".join(f"{name} {value:.6g}" for name, value in parts.items())
    where = f" on rank {', '.join(map(str, bad))}" if bad and len(ranks) > 1 else ""
    ids = sorted({i for number, rank in enumerate(ranks) if not bad or number in bad
                  for i in rank[2]})  # fmt: skip
    more = f" and {len(ids) - _SHOWN_SAMPLES} more" if len(ids) > _SHOWN_SAMPLES else ""
    listed = ", ".join(map(str, ids[:_SHOWN_SAMPLES])) + more
    return f"step {step.number} had a {which} that is not finite{where} ({shown}; samples {listed})"
