"""Training losses: a weighted cross-entropy over the masked tokens, and what it is divided by.

row loss = (1/Z) * sum over masked i of w * CE_i   (method: objectives)

Only ``elbo`` without a normaliser is a bound on the likelihood; no other loss is a perplexity.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Weight = Literal["rdm_linear", "elbo", "constant"]
Normaliser = Literal["maskable", "masked", "tokens"]


@dataclass(frozen=True)
class Objective:
    """Weight, normaliser and smoothing of the loss."""

    weight: Weight = "rdm_linear"
    normaliser: Normaliser = "maskable"
    label_smoothing: float = 0.0
    num_timesteps: int = 50

    def __str__(self) -> str:
        smoothing = f", label smoothing {self.label_smoothing}" if self.label_smoothing else ""
        return f"{self.weight} weight / {self.normaliser} tokens{smoothing}"

    def weights(self, rate_B: Tensor) -> Tensor:
        """Weight of a masked token's cross-entropy in rows of mask rate t/T, float32 [B].

        rdm_linear: 1 - (t-1)/T (arXiv 2302.05737, eq. 11); elbo: -alpha'/(1-alpha) = T/t for the
        linear schedule; constant: 1.
        """
        if self.weight == "rdm_linear":
            return 1.0 - rate_B + 1.0 / self.num_timesteps
        if self.weight == "elbo":
            return 1.0 / rate_B
        return torch.ones_like(rate_B)

    def sum_terms(
        self, cross_entropy_M: Tensor, weight_B: Tensor, row_M: Tensor, maskable_BL: Tensor,
        smoothing_M: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Numerator of the batch loss: to be divided by ``denominator`` over the global batch.

        Args:
            cross_entropy_M: -log p of the clean token at every masked position.
            weight_B: ``weights`` of the rows.
            row_M: the row of every masked position.
            maskable_BL: the positions that noise could have hit.
            smoothing_M: -mean over V of log p at every masked position (label smoothing).
        """
        eps = self.label_smoothing
        term_M = (1 - eps) * weight_B[row_M] * cross_entropy_M
        if eps and smoothing_M is not None:
            term_M = term_M + eps * smoothing_M
        if self.normaliser == "tokens":
            return term_M.sum()
        if self.normaliser == "maskable":
            count_B = maskable_BL.sum(dim=1)
        else:
            count_B = torch.zeros_like(weight_B).index_add_(0, row_M, torch.ones_like(term_M))
        return (term_M / count_B.clamp(min=1)[row_M]).sum()

    def denominator(self, num_rows: int, num_maskable: int) -> int:
        """What the numerator is divided by, from counts over the *global* batch."""
        return num_maskable if self.normaliser == "tokens" else num_rows


def token_losses(logits_MV: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the targets and of the uniform distribution, in float32, [M] each."""
    log_p_MV = F.log_softmax(logits_MV.float(), dim=-1)
    return -log_p_MV.gather(-1, target_M[:, None]).squeeze(-1), -log_p_MV.mean(-1)
