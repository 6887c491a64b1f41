"""Stage kind ``length``: the length predictor on the frozen backbone (arXiv 2308.12219, 3.2)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm.data.batches.batching import TokenBatch, TokenCounts
from dlm.models.backbone import Backbone
from dlm.models.length_predictor import LengthPredictor, top_lengths
from dlm.stages.base import TrainingStage
from dlm.stages.optimizer import OptimizerSettings
from dlm.stages.validation_means import ValidationSum


class LengthPrediction(TrainingStage):
    """Cross-entropy over response lengths, from features of the prompt alone."""

    validation_names: ClassVar[tuple[str, ...]] = ("loss", "length_accuracy", "length_in_top5")

    def __init__(
        self,
        backbone: Backbone,
        predictor: LengthPredictor,
        *,
        label_smoothing: float,
        optimizer: OptimizerSettings,
        seed: int,
    ) -> None:
        super().__init__(backbone, optimizer=optimizer, seed=seed)
        self.backbone.requires_grad_(False)
        self.predictor = predictor
        self.label_smoothing = label_smoothing

    def read_by_network(self, batch: TokenBatch) -> TokenCounts:
        return batch.prompt_counts

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        logits_BC, length_B = self.predict(batch)
        loss_sum = F.cross_entropy(
            logits_BC.float(), self.nearest_class(length_B), reduction="sum",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        loss = self.global_mean(loss_sum, batch.global_rows)
        self.log_training(loss)
        return loss

    def validation_sums(self, batch: TokenBatch) -> dict[str, ValidationSum]:
        logits_BC, length_B = self.predict(batch)
        rows = len(length_B)
        loss_B = F.cross_entropy(logits_BC.float(), self.nearest_class(length_B), reduction="none")
        # A length without a class is always a miss.
        hit_BK = top_lengths(logits_BC, 5) == length_B[:, None]
        totals = loss_B.double().sum(), hit_BK[:, 0].sum(), hit_BK.any(dim=1).sum()
        return {
            name: ValidationSum(total, rows, rows)
            for name, total in zip(self.validation_names, totals, strict=True)
        }

    def predict(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Logits of the lengths 1..max [B, C] and the right length in tokens, at least 1 [B]; the
        response is cut away."""
        prompt_BL = batch.valid_BL & ~batch.response_BL
        width = batch.prompt_counts.positions // len(prompt_BL)
        tokens_BL, valid_BL = batch.tokens_BL[:, :width], prompt_BL[:, :width]
        self.backbone.eval()
        with torch.no_grad():
            feature_BLH = self.backbone.hidden(
                tokens_BL, valid_BL, response_BL=torch.zeros_like(valid_BL)
            )
        length_B = batch.response_BL.sum(dim=1) - 1  # without the end token
        return self.predictor(feature_BLH, valid_BL), length_B.clamp(min=1)

    def nearest_class(self, length_B: Tensor) -> Tensor:
        """The class of a length, counted from 0; the last one for longer ones."""
        return length_B.clamp(max=self.predictor.max_length) - 1
