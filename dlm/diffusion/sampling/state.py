"""What the parts of the reverse process read and write."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import Draws


@dataclass(frozen=True)
class Canvas:
    """The slots that are being generated; everything else of the sequence is fixed context."""

    tokens_BN: Tensor
    """Tokens; the mask token where the slot is noise."""
    noise_BN: Tensor
    """Which slots are noise."""
    slot_BN: Tensor
    """Which slots exist (rows of a batch differ in length); the rest is padding."""
    log_probability_BN: Tensor
    """Log-probability that each token had when it was last set, float32; 0 where noise."""
    score_BN: Tensor
    """Position score that each token had when it was last set, float32; 0 where noise."""

    @classmethod
    def all_noise(cls, slot_BN: Tensor, mask_token_id: int) -> "Canvas":
        """Before the first iteration."""
        tokens_BN = torch.full_like(slot_BN, mask_token_id, dtype=torch.int64)
        zero_BN = torch.zeros(slot_BN.shape, device=slot_BN.device)
        return cls(tokens_BN, slot_BN, slot_BN, zero_BN, zero_BN)

    def within(self, active_BN: Tensor) -> "Canvas":
        """With no slots but these."""
        return replace(self, slot_BN=active_BN, noise_BN=self.noise_BN & active_BN)


@dataclass(frozen=True)
class Prediction:
    """What the network proposes for every slot in one iteration."""

    tokens_BN: Tensor
    """The chosen tokens."""
    log_probability_BN: Tensor
    """Their log-probabilities, float32."""
    score_BN: Tensor
    """The position score: the lower, the sooner the slot is noise again."""
    rank_BN: Tensor
    """What slots are ranked by: the score, with routing noise where the sampler has some."""


@dataclass(frozen=True)
class Step:
    """Where in the reverse process an iteration stands."""

    noise_count_B: Tensor
    """How many slots of each row the schedule leaves as noise, int64."""
    noise_rate: Tensor
    """1 - alpha after it: the share of each row's slots that the schedule leaves as noise, float32
    [B, 1]; 0 in the row's last iteration."""
    set_probability: Tensor
    """Share of each row's noise that becomes clean in this iteration: (alpha_s - alpha_t)/(1 -
    alpha_t), float32 [B, 1]; 1 in the row's last."""
    draws: Draws
    """Random numbers of this iteration."""
    limit: float = math.nan
    """The rule's own number: a probability, or nats (``Rule.limit``)."""


def lowest(score_BN: Tensor, eligible_BN: Tensor, count_B: Tensor) -> Tensor:
    """The ``count_B`` lowest-scored eligible slots of each row, ties by position; bool [B, N].

    A row with fewer eligible slots returns them all.
    """
    ranked_BN = score_BN.masked_fill(~eligible_BN, torch.inf).argsort(dim=1, stable=True)
    rank_BN = torch.empty_like(ranked_BN).scatter_(
        1, ranked_BN, torch.arange(score_BN.shape[1], device=score_BN.device).expand_as(ranked_BN)
    )
    return (rank_BN < count_B[:, None]) & eligible_BN
