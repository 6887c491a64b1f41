"""Learning rate and gradient norm of the steps that are written down, as curves of the stage."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class StepCurves(Callback):
    """Stands behind ``NonFinite``, which measures the norm of every step on the device."""

    def __init__(self) -> None:
        self._rate = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Here, as after the step it is the next one's.
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every == 0 or step == trainer.max_steps:
            pl_module.log("train/learning_rate", self._rate)
            if (norm := pl_module.gradient_norm) is not None:
                pl_module.log("train/gradient_norm", norm)  # type: ignore[arg-type]
