"""The absorbing forward process: which maskable tokens become the mask token, and at what rate.

Discrete time (arXiv 2308.12219, section 3; RDM, arXiv 2302.05737): t uniform in {1..T}/T.
Continuous time (MDLM, LLaDA): t uniform in (eps, 1]. A schedule says at what rate tokens are masked
at t. Coupled times (RDM): two sorted ones, nested masks where they differ. Low-discrepancy times
(VDM, MDLM): one in each of B equal parts of (0, 1], for the B rows of the whole step.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_bits, counter_uniform

# Independent streams of draws: what a draw is for is one of its counters.
_TIME, _SECOND_TIME, _MASK, _SECOND_MASK, _REPLACE, _REPLACEMENT, _PROMPT = range(7)

Schedule = Literal["linear", "cosine", "log_linear", "mdlm_cosine"]
Times = Literal["coupled", "independent", "low_discrepancy"]
_EPS = 1e-3
"""What is left clean at t = 1 in the schedules of MDLM's code."""


@dataclass(frozen=True)
class NoiseKey:
    """What the noise of a batch is a function of."""

    seed: int
    """Seed of the stage."""
    sample_B: Tensor
    """Position of each row in the run: epoch x rows of the data set + index, int64 [B]."""
    stratum_B: Tensor | None = None
    """Low-discrepancy times only: which of ``strata`` equal parts each row's time lies in, int64;
    the rows of one step, over all devices, hold every part once."""
    strata: int = 1
    """Rows of the whole step."""


@dataclass(frozen=True)
class NoiseLevel:
    """How noisy the rows of a batch are; float32 [B] each."""

    time_B: Tensor
    """t in (0, 1]; t/T of the discrete process."""
    rate_B: Tensor
    """1 - alpha(t): probability with which the row's maskable tokens were masked, in (0, 1]."""
    elbo_weight_B: Tensor
    """What makes the loss a bound on the likelihood: -alpha'(t)/(1 - alpha(t)), or in discrete time
    T (alpha(s) - alpha(t))/(1 - alpha(t)) with s = t - 1/T."""


@dataclass(frozen=True)
class Noised:
    """A batch after the forward process; coupled times have twice the rows of the clean one."""

    level: NoiseLevel
    masked_BL: Tensor
    """The positions that became noise, bool."""


def mask_rate(schedule: Schedule, time_B: Tensor) -> Tensor:
    """1 - alpha(t), float32.

    linear: t (the paper; LLaDA). cosine: cos(pi/2 (1 - t)), which is steepest at t = 0 (MaskGIT,
    arXiv 2202.04200, with the share of time that is left as 1 - t). Of MDLM's code, with eps =
    1e-3, so that never everything is masked: log_linear (1 - eps) t; mdlm_cosine
    (1 - eps) (1 - cos(pi t / 2)), which is flat at t = 0 (its class CosineNoise).
    """
    if schedule == "linear":
        return time_B
    if schedule == "log_linear":
        return (1 - _EPS) * time_B
    if schedule == "mdlm_cosine":
        # 1 - cos x = 2 sin^2(x/2), without the loss of digits near 0.
        return (1 - _EPS) * 2 * torch.sin(math.pi / 4 * time_B).square()
    return torch.cos(math.pi / 2 * (1 - time_B))


def time_of_rate(schedule: Schedule, rate: float) -> float:
    """The time at which tokens are masked at a rate; at most 1."""
    if schedule == "linear":
        return rate
    if schedule == "log_linear":
        return min(1.0, rate / (1 - _EPS))
    if schedule == "mdlm_cosine":
        return 2 / math.pi * math.acos(1 - min(1.0, rate / (1 - _EPS)))
    return 1 - 2 / math.pi * math.acos(rate)


@dataclass(frozen=True)
class ForwardProcess:
    """How noise levels are drawn."""

    time: Literal["discrete", "continuous"] = "discrete"
    schedule: Schedule = "linear"
    times: Times = "coupled"
    num_timesteps: int = 50
    min_time: float = 1e-3
    rate_range: tuple[float, float] = (0.0, 1.0)
    """Only noise levels whose mask rate lies between (clipped schedules of BD3-LM)."""
    fixed_rate: float | None = None
    """A constant mask rate in place of a drawn one (masked-LM pretraining)."""

    @property
    def copies(self) -> int:
        """Noisy rows made of each clean one: 2 with coupled times, which a fixed rate has not."""
        return 2 if self.times == "coupled" and self.fixed_rate is None else 1

    def __str__(self) -> str:
        if self.fixed_rate is not None:
            return f"mask rate {self.fixed_rate:g}"
        steps = f"T = {self.num_timesteps}" if self.time == "discrete" else "continuous time"
        low, high = self.rate_range
        clipped = f", mask rates {low:g} to {high:g}" if (low, high) != (0.0, 1.0) else ""
        return f"{self.schedule} schedule, {steps}, {self.times.replace('_', '-')} times{clipped}"

    def time_of(self, key: NoiseKey, stream: int) -> Tensor:
        """Draw the time of every row, float32 [B] in (0, 1]."""
        uniform_B = counter_uniform(key.seed, stream, key.sample_B)
        if self.times == "low_discrepancy":
            if key.stratum_B is None:
                raise ValueError("low-discrepancy times need to know each row's place in the step")
            # float64: in a large batch the parts are narrow.
            uniform_B = ((key.stratum_B + uniform_B.double()) / key.strata).float()
        low, high = (time_of_rate(self.schedule, rate) for rate in self.rate_range)
        if self.time == "continuous":
            low = max(low, self.min_time)
            return low + (high - low) * uniform_B
        # A hair of room: the time of a rate that is t/T must not round to the other side.
        first = max(1, math.ceil(low * self.num_timesteps - 1e-6))
        last = math.floor(high * self.num_timesteps + 1e-6)
        return (first - 1 + (uniform_B * (last - first + 1)).ceil()) / self.num_timesteps

    def level(self, time_B: Tensor) -> NoiseLevel:
        """Mask rate and ELBO weight at the times."""
        rate_B = mask_rate(self.schedule, time_B)
        if self.schedule in ("linear", "log_linear"):
            weight_B = 1 / time_B  # the same in discrete and continuous time
        elif self.time == "continuous":
            # tan x = sin x / cos x, and sin x / (1 - cos x) = 1 / tan(x/2).
            weight_B = (
                math.pi
                / 2
                * (
                    torch.tan(math.pi / 2 * (1 - time_B))
                    if self.schedule == "cosine"
                    else 1 / torch.tan(math.pi / 4 * time_B)
                )
            )
        else:
            before_B = (time_B * self.num_timesteps - 1).round() / self.num_timesteps
            rise_B = rate_B - mask_rate(self.schedule, before_B)
            weight_B = self.num_timesteps * rise_B / rate_B
        return NoiseLevel(time_B, rate_B, weight_B)

    def draw(self, key: NoiseKey, stream: int) -> NoiseLevel:
        """Draw the noise level of every row."""
        if self.fixed_rate is not None:
            rate_B = torch.full_like(key.sample_B, self.fixed_rate, dtype=torch.float32)
            return NoiseLevel(rate_B, rate_B, 1 / rate_B)
        return self.level(self.time_of(key, stream))

    def levels(self, key: NoiseKey) -> NoiseLevel:
        """The noise levels of every row; of coupled times all higher ones, then all lower ones."""
        first = self.draw(key, _TIME)
        if self.copies == 1:
            return first
        times = first.time_B, self.time_of(key, _SECOND_TIME)
        high, low = self.level(torch.maximum(*times)), self.level(torch.minimum(*times))
        return NoiseLevel(
            *(torch.cat([getattr(high, f.name), getattr(low, f.name)]) for f in fields(NoiseLevel))
        )

    def corrupt(self, key: NoiseKey, maskable_BL: Tensor, token_index_BL: Tensor) -> Noised:
        """Choose the positions that become noise.

        ``token_index_BL`` counts a row's own tokens from 0 (padding may hold anything), which
        makes the noise independent of where the row lies in the batch.
        """

        def uniform(stream: int) -> Tensor:
            return counter_uniform(key.seed, stream, key.sample_B[:, None], token_index_BL)

        level = self.levels(key)
        if self.copies == 1:
            return Noised(level, maskable_BL & (uniform(_MASK) <= level.rate_B[:, None]))
        high_B, low_B = level.rate_B.chunk(2)
        high_BL = maskable_BL & (uniform(_MASK) <= high_B[:, None])
        second_BL = uniform(_SECOND_MASK)
        kept_BL = second_BL <= (low_B / high_B)[:, None]
        independent_BL = maskable_BL & (second_BL <= low_B[:, None])
        low_BL = torch.where((high_B == low_B)[:, None], independent_BL, high_BL & kept_BL)
        return Noised(level, torch.cat([high_BL, low_BL]))


def dropped_prompts(key: NoiseKey, probability: float) -> Tensor:
    """Rows whose prompt is masked as a whole, bool [B], each with this probability: training for
    classifier-free guidance (arXiv 2207.12598, section 3.2)."""
    return counter_uniform(key.seed, _PROMPT, key.sample_B) <= probability


def replace_masked(
    tokens_BL: Tensor,
    masked_BL: Tensor,
    token_index_BL: Tensor,
    *,
    mask_token_id: int,
    key: NoiseKey | None = None,
    replaceable_ids_V: Tensor | None = None,
) -> Tensor:
    """Put the mask token on the noise positions.

    With ``key`` and ``replaceable_ids_V``: BERT's rule, 80 % mask token, 10 % a random token of
    those, 10 % unchanged.
    """
    noisy_BL = torch.where(masked_BL, mask_token_id, tokens_BL)
    if key is None or replaceable_ids_V is None:
        return noisy_BL
    sample_B1 = key.sample_B[:, None]
    choice_BL = counter_uniform(key.seed, _REPLACE, sample_B1, token_index_BL)
    draw_BL = counter_bits(key.seed, _REPLACEMENT, sample_B1, token_index_BL)
    random_BL = replaceable_ids_V[draw_BL % len(replaceable_ids_V)]
    noisy_BL = torch.where(masked_BL & (choice_BL > 0.8), random_BL, noisy_BL)
    return torch.where(masked_BL & (choice_BL > 0.9), tokens_BL, noisy_BL)
