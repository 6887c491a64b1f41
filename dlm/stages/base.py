"""What every training stage shares: the optimizer, and dropout that a resume repeats."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from dlm.data.batches.batching import Predicted, TokenBatch, TokenCounts
from dlm.diffusion.counter import counter_seed
from dlm.models.backbone import Backbone
from dlm.stages.optimizer import OptimizerSettings, build_optimizer
from dlm.stages.validation_means import ValidationMeans, ValidationSum

_DROPOUT = 201
VALIDATION_SEED = 1_000_003
"""Validation noise has a key of its own."""


class TrainingStage(LightningModule):
    """A network and its optimizer; a subclass says what a step computes."""

    validation_names: ClassVar[tuple[str, ...]] = ("loss",)
    """What a validation takes the means of."""

    def __init__(self, backbone: Backbone, *, optimizer: OptimizerSettings, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.optimizer_settings = optimizer
        self.seed = seed
        self.validation_means = ValidationMeans(self.validation_names)
        self._micro_batches: list[Tensor] = []
        self.gradient_norm: Tensor | None = None
        """Of the step that is being done, before clipping, on the device; None: not measured."""
        self.predicted_tokens = 0
        """Positions whose logits the last training step computed."""

    @property
    def copies(self) -> int:
        """Rows that the network reads of each of the batch."""
        return 1

    def read_by_network(self, batch: TokenBatch) -> TokenCounts:
        """What the network reads of a batch, of one copy."""
        return batch.counts

    def predicted(self, batch: TokenBatch, seed: int) -> Predicted | None:
        """What a step on a batch predicts; None: nothing whose number has to be known."""
        return None

    @property
    def noise_seed(self) -> int:
        """Of the noise of training, or of validation, which is the same at every one."""
        return self.seed if self.trainer.training else VALIDATION_SEED

    def drawn(self, batch: TokenBatch) -> TokenBatch:
        """A batch with what a step on it predicts, made on the host: how many tokens are masked
        decides the shapes of a step."""
        predicted = self.predicted(batch, self.noise_seed)
        if predicted is not None and self.device.type == "cuda":
            # A copy from other memory would wait for the step before.
            predicted = predicted.map(lambda tensor: tensor.pin_memory())
        return replace(batch, predicted=predicted)

    def on_train_batch_start(self, batch: TokenBatch, batch_idx: int) -> None:
        """Dropout is a function of (seed, micro-batch, rank): the global generator's past, which
        no checkpoint holds, does not matter."""
        accumulate = self.trainer.accumulate_grad_batches
        micro_batch = self.global_step * accumulate + batch_idx % accumulate
        torch.manual_seed(counter_seed(self.seed, _DROPOUT, micro_batch, self.global_rank))
        self.backbone.step = self.global_step

    def frozen(self) -> set[str]:
        """Names of the weights that are not trained; tied ones have several."""
        named = self.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if not parameter.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Frozen weights are where the stage started from, and will be read there again."""
        if (frozen := self.frozen()) and "state_dict" in checkpoint:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if k not in frozen}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch's, but that frozen weights may be missing.

        Raises:
            RuntimeError: Others are, or there are some that the stage has not.
        """
        keys = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = sorted(set(keys.missing_keys) - self.frozen())
        if strict and (missing or keys.unexpected_keys):
            raise RuntimeError(f"weights missing: {missing}, unknown: {keys.unexpected_keys}")
        return keys

    def configure_optimizers(self) -> Any:
        return build_optimizer(self, self.optimizer_settings)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm that was measured; where none was, as Lightning does."""
        if self.gradient_norm is None or gradient_clip_val is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)

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

    def validation_sums(self, batch: TokenBatch) -> dict[str, ValidationSum]:
        """What the rows of a batch add to each of ``validation_names``."""
        raise NotImplementedError

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        sums = self.validation_sums(batch)
        self.validation_means.update({} if batch.filler else sums)

    def on_validation_epoch_end(self) -> None:
        self.log_validation("validation", self.validation_means.compute())
        self.validation_means.reset()

    def log_validation(self, group: str, figures: Mapping[str, Tensor]) -> None:
        """Log figures that are equal on all ranks already."""
        # Lightning warns where nothing is reduced. Of equal numbers the largest is the number
        # itself; their mean would be rounded.
        named = {f"{group}/{name}": value.to(self.device) for name, value in figures.items()}
        self.log_dict(named, reduce_fx="max", sync_dist=True)
