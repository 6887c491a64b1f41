"""The absorbing forward process: which maskable tokens become the mask token, and at what rate.

Discrete time (arXiv 2308.12219, section 3; RDM, arXiv 2302.05737): t uniform in {1..T}, every
maskable token is masked with probability t/T. Continuous time (MDLM, LLaDA): t uniform in
(eps, 1], probability t. Coupled sampling (RDM): two sorted times, nested masks where they differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_bits, counter_uniform

# Independent streams of draws: what a draw is for is one of its counters.
_TIME, _SECOND_TIME, _MASK, _SECOND_MASK, _REPLACE, _REPLACEMENT = range(6)


@dataclass(frozen=True)
class NoiseKey:
    """What the noise of a batch is a function of."""

    seed: int
    """Seed of the stage."""
    sample_B: Tensor
    """Position of each row in the run: epoch x rows of the data set + index, int64 [B]."""


@dataclass(frozen=True)
class Noised:
    """A batch after the forward process; coupled sampling has twice the rows of the clean one."""

    rate_B: Tensor
    """Probability with which the row's maskable tokens were masked, float32 in (0, 1]."""
    masked_BL: Tensor
    """The positions that became noise, bool."""


@dataclass(frozen=True)
class ForwardProcess:
    """How noise levels are drawn."""

    time: Literal["discrete", "continuous"] = "discrete"
    num_timesteps: int = 50
    min_time: float = 1e-3
    coupled: bool = True
    fixed_rate: float | None = None
    """A constant mask rate in place of a drawn one (masked-LM pretraining)."""

    @property
    def copies(self) -> int:
        """Noisy rows made of each clean one: 2 with coupled times, which a fixed rate has not."""
        return 2 if self.coupled and self.fixed_rate is None else 1

    def rate(self, key: NoiseKey, stream: int) -> Tensor:
        """Draw the mask rate of every row, float32 [B]."""
        uniform_B = counter_uniform(key.seed, stream, key.sample_B)
        if self.fixed_rate is not None:
            return torch.full_like(uniform_B, self.fixed_rate)
        if self.time == "discrete":
            return (uniform_B * self.num_timesteps).ceil() / self.num_timesteps
        return self.min_time + (1 - self.min_time) * uniform_B

    def corrupt(self, key: NoiseKey, maskable_BL: Tensor, token_index_BL: Tensor) -> Noised:
        """Choose the positions that become noise.

        ``token_index_BL`` counts a row's own tokens from 0 (padding may hold anything), which
        makes the noise independent of where the row lies in the batch.
        """

        def uniform(stream: int) -> Tensor:
            return counter_uniform(key.seed, stream, key.sample_B[:, None], token_index_BL)

        first_B = self.rate(key, _TIME)
        if self.copies == 1:
            return Noised(first_B, maskable_BL & (uniform(_MASK) <= first_B[:, None]))
        second_B = self.rate(key, _SECOND_TIME)
        high_B, low_B = torch.maximum(first_B, second_B), torch.minimum(first_B, second_B)
        high_BL = maskable_BL & (uniform(_MASK) <= high_B[:, None])
        kept_BL = uniform(_SECOND_MASK) <= (low_B / high_B)[:, None]
        independent_BL = maskable_BL & (uniform(_SECOND_MASK) <= low_B[:, None])
        low_BL = torch.where((high_B == low_B)[:, None], independent_BL, high_BL & kept_BL)
        return Noised(torch.cat([high_B, low_B]), torch.cat([high_BL, low_BL]))


def replace_masked(
    tokens_BL: Tensor,
    masked_BL: Tensor,
    token_index_BL: Tensor,
    *,
    mask_token_id: int,
    key: NoiseKey | None = None,
    replaceable_ids: Sequence[int] = (),
) -> Tensor:
    """Put the mask token on the noise positions.

    With ``key`` and ``replaceable_ids``: BERT's rule, 80 % mask token, 10 % a random token of
    ``replaceable_ids``, 10 % unchanged.
    """
    noisy_BL = torch.where(masked_BL, mask_token_id, tokens_BL)
    if key is None:
        return noisy_BL
    sample_B1 = key.sample_B[:, None]
    choice_BL = counter_uniform(key.seed, _REPLACE, sample_B1, token_index_BL)
    draw_BL = counter_bits(key.seed, _REPLACEMENT, sample_B1, token_index_BL)
    ids_V = torch.tensor(list(replaceable_ids), dtype=tokens_BL.dtype, device=tokens_BL.device)
    random_BL = ids_V[draw_BL % len(replaceable_ids)]
    noisy_BL = torch.where(masked_BL & (choice_BL > 0.8), random_BL, noisy_BL)
    return torch.where(masked_BL & (choice_BL > 0.9), tokens_BL, noisy_BL)
