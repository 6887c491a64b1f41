"""Stage kind ``autoregressive``: the twin, the same network trained to predict the next token."""

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from dlm.data.batches.batching import TokenBatch
from dlm.models.backbone import Backbone
from dlm.stages.base import TrainingStage
from dlm.stages.optimizer import OptimizerSettings


class AutoregressiveTwin(TrainingStage):
    """Prompt positions see the prompt, response positions what came before; the loss is the
    next-token cross-entropy over the response and its end token (method: objectives)."""

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
        self.validation_accuracy = MeanMetric()

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        logits_MV, target_M = self.predict(batch)
        loss_sum = F.cross_entropy(
            logits_MV.float(), target_M, reduction="sum", label_smoothing=self.label_smoothing
        )
        self.predicted_tokens = len(target_M)
        loss = self.global_mean(loss_sum, batch.global_maskable)
        self.log_training(loss, padding_share=batch.padding_share)
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        logits_MV, target_M = self.predict(batch)
        loss_sum = F.cross_entropy(logits_MV.float(), target_M, reduction="sum")
        self.log_validation_loss(loss_sum, len(target_M))
        right_M = (logits_MV.argmax(-1) == target_M).float()
        self.validation_accuracy.update(right_M.mean(), weight=len(target_M))
        self.log("validation/token_accuracy", self.validation_accuracy)

    def predict(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Logits [M, V] of the tokens of every response and their ids [M]."""
        hidden_BLH = self.backbone.hidden(
            batch.tokens_BL, batch.valid_BL, attention="prefix_causal",
            response_BL=batch.response_BL, packing=batch.packing,
        )  # fmt: skip
        row_M, column_M = batch.response_BL.nonzero(as_tuple=True)
        place_M = row_M * batch.tokens_BL.shape[1] + column_M
        # The state before a token predicts it; a response never starts a row.
        previous_MH = hidden_BLH.flatten(0, 1).index_select(0, place_M - 1)
        target_M: Tensor = batch.tokens_BL.flatten().index_select(0, place_M)
        return self.backbone.logits(previous_MH), target_M
