"""One training step of a masked diffusion model: corrupt, predict, weigh.

Pretraining, adaptation and instruction tuning are this step with other rows and other noise.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dlm.data.batches.batching import Predicted, StepRows, TokenBatch
from dlm.data.shuffle import Positions
from dlm.diffusion.noise import ForwardProcess, NoiseKey, dropped_prompts, replace_masked
from dlm.diffusion.objective import Objective
from dlm.models.backbone import Backbone
from dlm.stages.base import VALIDATION_SEED, TrainingStage
from dlm.stages.noise_levels import ByNoiseLevel
from dlm.stages.optimizer import OptimizerSettings
from dlm.stages.validation_means import ValidationSum


@dataclass(frozen=True)
class DenoisingLoss:
    """What a step computes of its masked tokens, those that count."""

    total: Tensor
    """Sum of the weighted loss terms: the numerator of the batch loss."""
    cross_entropy_M: Tensor
    """-log p of the clean token."""
    right_M: Tensor
    """1 where it is the likeliest one, float."""
    rate_M: Tensor
    """Mask rate of the row."""

    @property
    def accuracy(self) -> Tensor:
        """Share of the masked tokens that are predicted right."""
        return self.right_M.sum() / max(1, len(self.right_M))


class DenoisingStage(TrainingStage):
    """Learn to predict masked tokens from the rest of the row."""

    validation_names: ClassVar[tuple[str, ...]] = ("loss", "masked_accuracy")

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
        canvas: str = "",
        prompt_dropout: float = 0.0,
    ) -> None:
        """``replaceable_ids``: not empty asks for BERT's 80/10/10 rule with these tokens.
        ``canvas``: in words, the canvas that responses are padded to and what of it counts; the
        batches say so themselves. ``prompt_dropout``: share of the rows of training whose prompt is
        masked as a whole, begin and end too.
        """
        super().__init__(backbone, optimizer=optimizer, seed=seed)
        self.forward_process = forward_process
        self.objective = objective
        self.mask_token_id = mask_token_id
        # A buffer, so that it lies where the network does.
        ids = torch.tensor(replaceable_ids, dtype=torch.int64) if replaceable_ids else None
        self.register_buffer("replaceable_ids_V", ids, persistent=False)
        self.replaceable_ids_V: Tensor | None
        self.canvas = canvas
        self.prompt_dropout = prompt_dropout
        self._step_masked: tuple[Positions | None, int] = (None, 0)
        self.validation_by_noise_level = ByNoiseLevel()

    @property
    def description(self) -> str:
        """The objective in words: weight, normaliser, how noise is drawn, and the canvas."""
        dropped = f"{self.prompt_dropout:.3g} of the prompts masked" * bool(self.prompt_dropout)
        parts = [str(self.objective), str(self.forward_process), self.canvas, dropped]
        return "; ".join(part for part in parts if part)

    @property
    def copies(self) -> int:
        return self.forward_process.copies

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss = self.denoising_loss(batch, self.seed)
        self.predicted_tokens = len(loss.right_M)
        denominator = self._denominator(
            batch.global_rows, batch.global_maskable, self._masked_in_step(batch)
        )
        mean = self.global_mean(loss.total, denominator)
        self.log_training(mean, masked_accuracy=loss.accuracy, padding_share=batch.padding_share)
        return mean

    def validation_sums(self, batch: TokenBatch) -> dict[str, ValidationSum]:
        loss = self.denoising_loss(batch, VALIDATION_SEED)
        own = slice(0 if batch.filler else None)
        self.validation_by_noise_level.update(
            loss.rate_M[own], loss.cross_entropy_M[own], loss.right_M[own]
        )
        rows, counted = len(batch.sample_B), int(batch.counted_BL.sum())
        masked = len(loss.right_M)
        weight = self._denominator(rows, counted, masked)
        return {
            "loss": ValidationSum(loss.total, weight, masked),
            "masked_accuracy": ValidationSum(loss.right_M.sum(), masked, masked),
        }

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log_validation("validation_noise", self.validation_by_noise_level.compute())
        self.validation_by_noise_level.reset()

    def predicted(self, batch: TokenBatch, seed: int) -> Predicted:
        key = NoiseKey(seed, batch.sample_B, batch.stratum_B, batch.global_rows)
        noised = self.forward_process.corrupt(key, batch.maskable_BL, batch.token_index_BL)
        counted_BL = batch.counted_BL.repeat(self.copies, 1)
        place_M = (noised.masked_BL & counted_BL).flatten().nonzero().squeeze(1)
        return Predicted(seed, noised.masked_BL, place_M, self._masked_in_step(batch))

    def _dropped(self, batch: TokenBatch, key: NoiseKey) -> Tensor:
        """Tokens of the prompts that this step masks as a whole, bool [B, L]; texts have none."""
        pair_B1 = batch.response_BL.any(dim=1, keepdim=True)
        prompt_BL = batch.valid_BL & ~batch.response_BL & pair_B1
        return prompt_BL & dropped_prompts(key, self.prompt_dropout)[:, None]

    def _denominator(self, rows: int, maskable: int, masked: int | None) -> int:
        """Of a step's, or a validation batch's, clean rows and their tokens, and of the masked
        tokens of all copies."""
        return self.objective.denominator(self.copies * rows, self.copies * maskable, masked)

    def _masked_in_step(self, batch: TokenBatch) -> int | None:
        """Tokens that are masked and count in the whole step; None: the loss is not divided by
        them. Noise is a function of a row's place in the run, so every device draws that of all
        rows: no device has to be asked, and no micro-batch waits for the last one."""
        step = batch.step
        if self.objective.normaliser != "masked_tokens" or step is None:
            return None
        if batch.predicted is not None:
            return batch.predicted.masked_in_step
        known, masked = self._step_masked
        if known is None or not np.array_equal(known, step.positions):
            masked = sum(
                int((self._noised(step, *part) & part[2].repeat(self.copies, 1)).sum())
                for part in step.parts()
            )
            self._step_masked = step.positions, masked
        return masked

    def _noised(
        self, step: StepRows, part: Positions, maskable_BL: Tensor, counted_BL: Tensor
    ) -> Tensor:
        """The masks of some rows of a step, of all copies, bool."""
        sample_B, stratum_B = (torch.from_numpy(x[part]) for x in (step.positions, step.strata))
        key = NoiseKey(self.seed, sample_B, stratum_B, len(step.positions))
        index_BL = torch.arange(maskable_BL.shape[1]).expand(maskable_BL.shape)
        return self.forward_process.corrupt(key, maskable_BL, index_BL).masked_BL

    def denoising_loss(self, batch: TokenBatch, seed: int) -> DenoisingLoss:
        """Corrupt the batch, predict what is masked and counts, weigh; in float64 where nothing is
        trained, so that the order of the terms does not matter."""
        copies = self.forward_process.copies
        predicted = batch.predicted or self.predicted(batch, seed)
        assert predicted.seed == seed, "noise of another key"
        masked_BL, place_M = predicted.masked_BL, predicted.place_M
        tokens_BL, valid_BL, counted_BL = (
            tensor.repeat(copies, 1)
            for tensor in (batch.tokens_BL, batch.valid_BL, batch.counted_BL)
        )
        key = NoiseKey(seed, batch.sample_B, batch.stratum_B, batch.global_rows)
        level = self.forward_process.levels(key)
        noisy_BL = replace_masked(
            tokens_BL, masked_BL, batch.token_index_BL.repeat(copies, 1),
            mask_token_id=self.mask_token_id, key=NoiseKey(seed, batch.sample_B.repeat(copies)),
            replaceable_ids_V=self.replaceable_ids_V,
        )  # fmt: skip
        clean_BL = valid_BL & ~masked_BL
        if self.training and self.prompt_dropout:
            dropped_BL = self._dropped(batch, key).repeat(copies, 1)
            noisy_BL = noisy_BL.masked_fill(dropped_BL, self.mask_token_id)
            clean_BL &= ~dropped_BL
        hidden_MH = self.backbone.hidden(
            noisy_BL, valid_BL, response_BL=batch.response_BL.repeat(copies, 1),
            packing=batch.packing and batch.packing.repeat(copies), place_M=place_M,
        )  # fmt: skip
        target_M = tokens_BL.flatten().index_select(0, place_M)
        never = self.mask_token_id if self.objective.zero_masking else None
        losses = self.backbone.token_losses(hidden_MH, target_M, never)
        cross_entropy_M = losses.cross_entropy_M
        if not self.training:
            cross_entropy_M = cross_entropy_M.double()
        row_M = place_M.div(tokens_BL.shape[1], rounding_mode="floor")
        weight_BL = self.objective.weights(level, clean_BL)
        weight_M = weight_BL.flatten().index_select(0, place_M)
        total = self.objective.sum_terms(
            cross_entropy_M, weight_M, row_M, counted_BL, losses.smoothing_M
        )
        return DenoisingLoss(total, cross_entropy_M.detach(), losses.right_M, level.rate_B[row_M])


class MaskedLanguageModeling(DenoisingStage):
    """Stage kind ``pretrain``: every token of a text, or of both sides of a pair, may be masked, at
    a rate fixed or drawn."""


class DiffusiveAdaptation(DenoisingStage):
    """Stage kind ``adapt`` (arXiv 2308.12219, 3.1): the response is noised and predicted; the
    prompt stays clean in the same sequence."""


class InstructionTuning(DiffusiveAdaptation):
    """Stage kind ``instruct`` (2308.12219, 3.3): adaptation on a mixture of instructions, where the
    prompt says which task is meant."""
