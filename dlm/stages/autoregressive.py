"""Stage kind ``autoregressive``: the twin, the same network trained to predict the next token."""

from typing import ClassVar

import torch
from torch import Tensor

from dlm.data.batches.batching import Predicted, TokenBatch
from dlm.diffusion.chunked_loss import TokenLosses
from dlm.models.backbone import Backbone
from dlm.stages.base import TrainingStage
from dlm.stages.optimizer import OptimizerSettings
from dlm.stages.validation_means import ValidationSum


class AutoregressiveTwin(TrainingStage):
    """Prompt positions see the prompt, response positions what came before; the loss is the
    next-token cross-entropy over the response and its end token (method: objectives).

    A text is the response to its begin token: it is learnt from left to right with its end. Of
    blocks the last end token is only where they were cut, and is not learnt.
    """

    validation_names: ClassVar[tuple[str, ...]] = ("loss", "token_accuracy")

    def __init__(
        self,
        backbone: Backbone,
        *,
        label_smoothing: float,
        optimizer: OptimizerSettings,
        seed: int,
    ) -> None:
        super().__init__(backbone, optimizer=optimizer, seed=seed)
        self.label_smoothing = label_smoothing

    def predicted(self, batch: TokenBatch, seed: int) -> Predicted:
        place_M = batch.counted_BL.flatten().nonzero().squeeze(1)
        return Predicted(seed, torch.zeros_like(batch.counted_BL), place_M)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        losses = self.predict(batch)
        eps = self.label_smoothing
        loss_sum = (1 - eps) * losses.cross_entropy_M.sum()
        if eps:
            loss_sum = loss_sum + eps * losses.smoothing_M.sum()
        self.predicted_tokens = len(losses.right_M)
        loss = self.global_mean(loss_sum, batch.global_maskable)
        self.log_training(loss, padding_share=batch.padding_share)
        return loss

    def validation_sums(self, batch: TokenBatch) -> dict[str, ValidationSum]:
        losses = self.predict(batch)
        count = len(losses.right_M)
        return {
            "loss": ValidationSum(losses.cross_entropy_M.double().sum(), count, count),
            "token_accuracy": ValidationSum(losses.right_M.sum(), count, count),
        }

    def predict(self, batch: TokenBatch) -> TokenLosses:
        """The losses of the tokens of every response."""
        predicted = batch.predicted or self.predicted(batch, self.seed)
        place_M = predicted.place_M
        # With the end of a block: in the prompt every position would see it.
        behind_BL = batch.valid_BL & (batch.maskable_BL.cumsum(dim=1) > 0)
        # The state before a token predicts it; a response never starts a row.
        previous_MH = self.backbone.hidden(
            batch.tokens_BL, batch.valid_BL, attention="prefix_causal",
            response_BL=behind_BL, packing=batch.packing, place_M=place_M - 1,
        )  # fmt: skip
        target_M: Tensor = batch.tokens_BL.flatten().index_select(0, place_M)
        return self.backbone.token_losses(previous_MH, target_M)
