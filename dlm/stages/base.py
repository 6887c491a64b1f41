"""What every training stage shares: the optimizer, and dropout that a resume repeats."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from dlm.data.batches.batching import TokenBatch
from dlm.diffusion.counter import counter_seed
from dlm.models.backbone import Backbone
from dlm.stages.optimizer import OptimizerSettings, build_optimizer

_DROPOUT = 201


class TrainingStage(LightningModule):
    """A network and its optimizer; a subclass says what a step computes."""

    def __init__(self, backbone: Backbone, *, optimizer: OptimizerSettings, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.optimizer_settings = optimizer
        self.seed = seed
        self.validation_loss = MeanMetric()
        self._micro_batches: list[Tensor] = []

    def on_train_batch_start(self, batch: TokenBatch, batch_idx: int) -> None:
        """Dropout is a function of (seed, micro-batch, rank): the global generator's past, which
        no checkpoint holds, does not matter."""
        accumulate = self.trainer.accumulate_grad_batches
        micro_batch = self.global_step * accumulate + batch_idx % accumulate
        torch.manual_seed(counter_seed(self.seed, _DROPOUT, micro_batch, self.global_rank))
        self.backbone.step = self.global_step

    def configure_optimizers(self) -> Any:
        return build_optimizer(self, self.optimizer_settings)

    def global_mean(self, numerator: Tensor, denominator: int) -> Tensor:
        """This micro-batch's part of a mean over the global batch.

        Lightning averages gradients over accumulated micro-batches and ranks; scaled by their
        number, the parts add up to exactly numerator / denominator of the whole step.
        """
        parts = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return numerator * (parts / denominator)

    def log_training(self, loss: Tensor, **values: Tensor) -> None:
        """Log loss and other scalars under ``train/``: means over the whole step, that is over its
        micro-batches and devices, at the steps that are written down."""
        named = {"loss": loss, **values}
        self._micro_batches.append(torch.stack([value.detach() for value in named.values()]))
        trainer = self.trainer
        if len(self._micro_batches) < trainer.accumulate_grad_batches:
            return
        mean = torch.stack(self._micro_batches).mean(dim=0)
        self._micro_batches.clear()
        step = self.global_step + 1
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every == 0 or step == trainer.max_steps:
            over_devices = trainer.strategy.reduce(mean, reduce_op="mean").unbind()
            self.log_dict({f"train/{name}": v for name, v in zip(named, over_devices, strict=True)})

    def log_validation_loss(self, total: Tensor, count: int) -> None:
        """Accumulate a loss over the validation rows and ranks."""
        self.validation_loss.update(total.detach() / count, weight=count)
        self.log("validation/loss", self.validation_loss, prog_bar=True)
