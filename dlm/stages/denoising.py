"""One training step of a masked diffusion model: corrupt, predict, weigh.

Pretraining, adaptation and instruction tuning are this step with other rows and other noise.
"""

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from dlm.data.batching import TokenBatch
from dlm.diffusion.noise import ForwardProcess, NoiseKey, replace_masked
from dlm.diffusion.objective import Objective, token_losses
from dlm.models.backbone import Backbone
from dlm.stages.base import TrainingStage
from dlm.stages.optimizer import OptimizerSettings

# Validation noise has a key of its own, the same at every validation.
_VALIDATION_SEED = 1_000_003


class DenoisingStage(TrainingStage):
    """Learn to predict masked tokens from the rest of the row."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        forward_process: ForwardProcess,
        objective: Objective,
        mask_token_id: int,
        optimizer: OptimizerSettings,
        seed: int,
        replaceable_ids: tuple[int, ...] = (),
    ) -> None:
        """``replaceable_ids``: not empty asks for BERT's 80/10/10 rule with these tokens."""
        super().__init__(backbone, optimizer=optimizer, seed=seed)
        self.forward_process = forward_process
        self.objective = objective
        self.mask_token_id = mask_token_id
        self.replaceable_ids = replaceable_ids
        self.validation_accuracy = MeanMetric()

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss_sum, accuracy, _ = self.denoising_loss(batch, self.seed)
        copies = self.forward_process.copies
        denominator = copies * self.objective.denominator(batch.global_rows, batch.global_maskable)
        loss = self.global_mean(loss_sum, denominator)
        self.log_training(loss, masked_accuracy=accuracy)
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        loss_sum, accuracy, masked = self.denoising_loss(batch, _VALIDATION_SEED)
        copies = self.forward_process.copies
        rows, maskable = len(batch.sample_B), int(batch.maskable_BL.sum())
        self.log_validation_loss(loss_sum, copies * self.objective.denominator(rows, maskable))
        self.validation_accuracy.update(accuracy.detach(), weight=masked)
        self.log("validation/masked_accuracy", self.validation_accuracy)

    def denoising_loss(self, batch: TokenBatch, seed: int) -> tuple[Tensor, Tensor, int]:
        """Sum of the weighted loss terms, share of masked tokens predicted right, their number."""
        copies = self.forward_process.copies
        tokens_BL, valid_BL, maskable_BL = (
            tensor.repeat(copies, 1)
            for tensor in (batch.tokens_BL, batch.valid_BL, batch.maskable_BL)
        )
        noised = self.forward_process.corrupt(
            NoiseKey(seed, batch.sample_B), batch.maskable_BL, batch.token_index_BL
        )
        copied_key = NoiseKey(seed, batch.sample_B.repeat(copies))
        noisy_BL = replace_masked(
            tokens_BL, noised.masked_BL, batch.token_index_BL.repeat(copies, 1),
            mask_token_id=self.mask_token_id,
            key=copied_key if self.replaceable_ids else None,
            replaceable_ids=self.replaceable_ids,
        )  # fmt: skip
        hidden_BLH = self.backbone.hidden(noisy_BL, valid_BL)
        row_M, column_M = noised.masked_BL.nonzero(as_tuple=True)
        place_M = row_M * tokens_BL.shape[1] + column_M
        # index_select rather than a boolean mask: its backward is deterministic on CPU.
        logits_MV = self.backbone.logits(hidden_BLH.flatten(0, 1).index_select(0, place_M))
        target_M = tokens_BL.flatten().index_select(0, place_M)
        cross_entropy_M, smoothing_M = token_losses(logits_MV, target_M)
        loss_sum = self.objective.sum_terms(
            cross_entropy_M, self.objective.weights(noised.rate_B), row_M, maskable_BL, smoothing_M
        )
        with torch.no_grad():
            right_M = (logits_MV.argmax(-1) == target_M).float()
            accuracy = right_M.sum() / max(1, len(right_M))
        return loss_sum, accuracy, len(right_M)
