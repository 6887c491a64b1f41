"""Validation after the last step, whatever the interval."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class LastStepValidation(Callback):
    """Asks the trainer to stop when it is about to: it validates before an asked stop."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
