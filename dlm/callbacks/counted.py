"""A step or a validation of which nothing counts: the stage stops and says why."""

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from dlm.callbacks import VALIDATION_LOSS
from dlm.errors import StageFailed, UserError


class SomethingCounts(Callback):
    """Stands before the checkpoint callback, which reads what a validation gave."""

    def __init__(self, name: str, *, monitor: str | None) -> None:
        """``monitor``: the validation figure that chooses the exported step; None: the last one is
        exported."""
        self.name = name
        self.monitor = monitor

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """
        Raises:
            UserError: No token of the step's rows, on any device, counts in the loss.
        """
        if batch.global_maskable == 0:
            raise UserError(
                f"stage {self.name}: no token counts in the loss of step {trainer.global_step + 1}:"
                f" the texts or responses of its {batch.global_rows} rows have no token, so it "
                "would train on nothing. Leave rows without text out of data.train, or raise "
                "train.global_batch_size"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """
        Raises:
            UserError: No validation row has a token to predict.
            StageFailed: A figure that matters is not a number.
        """
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        where = f"stage {self.name}: the validation after step {trainer.global_step}"
        needed = [name for name in (VALIDATION_LOSS, self.monitor) if name in figures]
        if bad := [name for name in needed if not math.isfinite(figures[name])]:
            raise StageFailed(
                f"{where} gave {bad[0].removeprefix('validation/')} {figures[bad[0]]}, which says "
                "nothing and chooses no step. Weights that are no longer finite, or float16, are "
                "the usual reasons: lower optim.lr, or raise train.precision"
            )
        if self.monitor not in figures if self.monitor else not figures:
            missing = self.monitor or VALIDATION_LOSS
            raise UserError(
                f"{where} gave no {missing.removeprefix('validation/')}: of its rows no token is "
                "predicted, because they have none, or because under the noise of validation, "
                "which is the same at every one, none of so few is masked. Give data.validation "
                "more rows or longer ones (validation.max_rows takes some of them), or none at "
                "all with validation.export=last"
            )
