"""Training losses: a weighted cross-entropy over the masked tokens, and what it is divided by.

row loss = (1/Z) * sum over masked i of w_i * CE_i   (method: objectives)

Only ``elbo`` without a normaliser is a bound on the likelihood; no other loss is a perplexity.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm.diffusion.noise import NoiseLevel

Weight = Literal["rdm_linear", "elbo", "constant", "cart"]
Normaliser = Literal["maskable", "masked", "tokens", "masked_tokens"]


@dataclass(frozen=True)
class Objective:
    """Weight, normaliser and smoothing of the loss."""

    weight: Weight = "rdm_linear"
    normaliser: Normaliser = "maskable"
    label_smoothing: float = 0.0
    num_timesteps: int = 50
    """T of rdm_linear."""
    cart_p: float = 0.1
    """Decay of cart: the larger, the more only the nearest clean tokens count."""
    zero_masking: bool = False
    """Whether the mask token has probability 0 in the loss, as it has in generation (MDLM, arXiv
    2406.07524, section 3.2.3)."""

    def __str__(self) -> str:
        smoothing = f", label smoothing {self.label_smoothing}" if self.label_smoothing else ""
        decay = f" (p = {self.cart_p:g})" if self.weight == "cart" else ""
        divisor = self.normaliser.removesuffix("_tokens") + " tokens"
        divisor += " of the step" if self.normaliser == "masked_tokens" else ""
        zero = ", mask token of probability 0" if self.zero_masking else ""
        return f"{self.weight}{decay} weight / {divisor}{smoothing}{zero}"

    def weights(self, level: NoiseLevel, clean_BL: Tensor) -> Tensor:
        """Weight of every token's cross-entropy, float32 [B, L]; it counts where noise is.

        rdm_linear: 1 - (t-1)/T (arXiv 2302.05737, eq. 11). elbo: -alpha'/(1-alpha), T/t for the
        linear schedule in discrete time. constant: 1. cart (Dream, arXiv 2508.15487): 1/2 sum over
        clean j of p (1-p)^(|i-j|-1), a token counts more the nearer clean ones are.

        Args:
            level: noise levels of the rows.
            clean_BL: the positions that are not noise, padding left out, bool [B, L].
        """
        if self.weight == "cart":
            return 0.5 * clean_BL.float() @ self._nearness(clean_BL)
        if self.weight == "rdm_linear":
            weight_B = 1.0 - level.time_B + 1.0 / self.num_timesteps
        elif self.weight == "elbo":
            weight_B = level.elbo_weight_B
        else:
            weight_B = torch.ones_like(level.time_B)
        return weight_B[:, None].expand(clean_BL.shape)

    def _nearness(self, clean_BL: Tensor) -> Tensor:
        place_L = torch.arange(clean_BL.shape[1], device=clean_BL.device)
        distance_LL = (place_L[:, None] - place_L).abs()
        near_LL = self.cart_p * (1 - self.cart_p) ** (distance_LL - 1).float()
        return near_LL.masked_fill(distance_LL == 0, 0.0)

    def sum_terms(
        self, cross_entropy_M: Tensor, weight_M: Tensor, row_M: Tensor, maskable_BL: Tensor,
        smoothing_M: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Numerator of the batch loss: to be divided by ``denominator`` over the global batch.

        Args:
            cross_entropy_M: -log p of the clean token at every masked position.
            weight_M: their ``weights``.
            row_M: the row of every masked position.
            maskable_BL: the positions that noise could have hit, those that count.
            smoothing_M: -mean over V of log p at every masked position (label smoothing).
        """
        eps = self.label_smoothing
        term_M = (1 - eps) * weight_M * cross_entropy_M
        if eps and smoothing_M is not None:
            term_M = term_M + eps * smoothing_M
        if self.normaliser in ("tokens", "masked_tokens"):
            return term_M.sum()
        if self.normaliser == "maskable":
            count_B = maskable_BL.sum(dim=1)
        else:
            # Not bincount, which makes a GPU's host wait.
            count_B = torch.zeros_like(maskable_BL[:, 0], dtype=torch.int64)
            count_B = count_B.scatter_add(0, row_M, torch.ones_like(row_M))
        return (term_M / count_B.clamp(min=1)[row_M]).sum()

    def denominator(self, num_rows: int, num_maskable: int, num_masked: int | None = None) -> int:
        """What the numerator is divided by, from counts over the *global* batch, noisy copies of a
        row counted as rows: all its rows, tokens that noise could have hit, tokens that it did."""
        if self.normaliser == "masked_tokens":
            assert num_masked is not None, "nobody counted the masked tokens of the step"
            return max(1, num_masked)
        return num_maskable if self.normaliser == "tokens" else num_rows


def token_losses(
    logits_MV: Tensor, target_M: Tensor, never: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the targets and of the uniform distribution, in float32, [M] each;
    ``never``: a token of probability 0, which the uniform distribution leaves out too."""
    if never is None:
        log_p_MV = F.log_softmax(logits_MV.float(), dim=-1)
        return -log_p_MV.gather(-1, target_M[:, None]).squeeze(-1), -log_p_MV.mean(-1)
    place = torch.tensor([never], device=logits_MV.device)
    log_p_MV = F.log_softmax(logits_MV.float().index_fill(-1, place, -torch.inf), dim=-1)
    cross_entropy_M = -log_p_MV.gather(-1, target_M[:, None]).squeeze(-1)
    others_M = log_p_MV.index_fill(-1, place, 0.0).sum(-1) / (log_p_MV.shape[-1] - 1)
    return cross_entropy_M, -others_M
