"""Estimates of -log p(row | its length) by a masked diffusion model (method: likelihood).

exactly-l (LLaDA, arXiv 2502.09992, inference): l uniform in 1..N, l of the N maskable tokens
masked, (N/l) * the sum of their cross-entropies. Bernoulli (MDLM, arXiv 2406.07524): time t
uniform, every token masked with probability t, (1/t) * the same sum. Both estimate one bound: the
mean of the chain rule over all orders. It is reached when the network's conditionals belong to one
joint distribution. Any network that predicts masked tokens has it, whatever weight trained it.

All of it is *given the length*: to compare with a model that also says where it ends, as an
autoregressive one does, add -log p(N | prompt) (method: objectives).

B rows, N positions, V vocabulary, S draws, M scored positions.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_bits, counter_uniform
from dlm.diffusion.noise import NoiseKey
from dlm.diffusion.sampling.network import Predict

# Streams of draws of their own, so that a likelihood never meets the noise of a training run.
_COUNT, _PLACE, _TIME, _MASK = range(1000, 1004)


@dataclass(frozen=True)
class Estimate:
    """A number of nats, and how sure it is."""

    value: float
    """The estimate, in nats."""
    standard_error: float
    """Standard deviation of ``value`` over the draws; 0 where nothing is drawn."""
    samples: int
    """How many draws it is the mean of; 1 where nothing is drawn."""

    @classmethod
    def of(cls, value_S: Tensor) -> "Estimate":
        """The mean of independent draws [S].

        Raises:
            ValueError: There are fewer than two, which have no standard error.
        """
        if len(value_S) < 2:
            raise ValueError(f"{len(value_S)} samples have no standard error: draw at least 2")
        wide_S = value_S.double()
        error = float(wide_S.std(correction=1)) / math.sqrt(len(wide_S))
        return cls(float(wide_S.mean()), error, len(wide_S))

    @classmethod
    def total(cls, estimates: Iterable["Estimate"]) -> "Estimate":
        """The sum of independent estimates; its ``samples`` are the fewest any of them has.

        Raises:
            ValueError: There are none.
        """
        terms = list(estimates)
        return cls(
            math.fsum(term.value for term in terms),
            math.sqrt(math.fsum(term.standard_error**2 for term in terms)),
            min(term.samples for term in terms),
        )

    def per(self, count: int) -> "Estimate":
        """The estimate divided by a number of tokens."""
        return Estimate(self.value / count, self.standard_error / count, self.samples)


@dataclass(frozen=True)
class Masking:
    """A noisy version of every row, and how its cross-entropies enter the estimate."""

    noise_BN: Tensor
    """The positions that hold the mask token, bool."""
    scored_BN: Tensor
    """The positions whose cross-entropy counts, bool; all of them are noise."""
    weight_B: Tensor
    """What the sum over the scored positions is multiplied by, float64."""


def exactly_l(maskable_BN: Tensor, *, key: NoiseKey, draw: Tensor | int) -> Masking:
    """Mask exactly l tokens: l uniform in 1..N, their places uniform; the weight is N/l.

    Args:
        maskable_BN: The tokens of each row that are scored, anywhere in it, bool; N is their
            number, at least 1.
        key: Seed and identity of the rows. The masks are a function of them, of ``draw`` and of a
            token's number among its row's maskable ones: not of the batch, nor of padding.
        draw: Number of the draw, one for all rows or int64 [B].
    """
    index_BN = _index(maskable_BN)
    total_B = maskable_BN.sum(dim=1)
    # The upper half of a product of integers is uniform to within N / 2^32; a float32 is not.
    count_B = 1 + ((counter_bits(key.seed, _COUNT, key.sample_B, draw) * total_B) >> 32)
    bits_BN = counter_bits(key.seed, _PLACE, key.sample_B[:, None], _column(draw), index_BN)
    # Ties of bits are broken by place, so that exactly l are masked.
    place_BN = ((bits_BN << 24) | index_BN).masked_fill(~maskable_BN, torch.iinfo(torch.int64).max)
    noise_BN = maskable_BN & (place_BN.argsort(dim=1).argsort(dim=1) < count_B[:, None])
    return Masking(noise_BN, noise_BN, total_B.double() / count_B)


def bernoulli(
    maskable_BN: Tensor, *, key: NoiseKey, draw: Tensor | int, min_time: float = 1e-3
) -> Masking:
    """Mask every token with probability t, t uniform in (min_time, 1]; the weight is 1/t.

    ``min_time`` (eps) truncates the bound: estimated is the mean over (eps, 1] of an integrand
    whose mean over (0, 1] is the bound. State it beside the value. The other arguments are those
    of ``exactly_l``.

    Raises:
        ValueError: ``min_time`` does not lie between 0 and 1.
    """
    if not 0 < min_time < 1:
        raise ValueError(f"min_time={min_time} must lie between 0 and 1, both excluded")
    time_B = min_time + (1 - min_time) * counter_uniform(
        key.seed, _TIME, key.sample_B, draw
    ).double()  # fmt: skip
    uniform_BN = counter_uniform(
        key.seed, _MASK, key.sample_B[:, None], _column(draw), _index(maskable_BN)
    )
    noise_BN = maskable_BN & (uniform_BN <= time_B[:, None])
    return Masking(noise_BN, noise_BN, 1 / time_B)


def chain_step(
    maskable_BN: Tensor, *, step: Tensor | int, rank_BN: Tensor | None = None
) -> Masking:
    """A step of the chain rule: score its token, with those of all later steps masked.

    Args:
        maskable_BN: The tokens of each row that are scored, bool.
        step: Number of the step from 0, one for all rows or int64 [B]; a row of fewer tokens
            scores nothing.
        rank_BN: The step in which each maskable token is revealed, int64; left to right if None.
    """
    rank_BN = _index(maskable_BN) if rank_BN is None else rank_BN
    noise_BN = maskable_BN & (rank_BN >= _column(step))
    scored_BN = maskable_BN & (rank_BN == _column(step))
    return Masking(noise_BN, scored_BN, torch.ones_like(maskable_BN[:, 0], dtype=torch.float64))


def cross_entropy(logits_MV: Tensor, target_M: Tensor, forbidden_ids: Tensor) -> Tensor:
    """-log p of the targets when forbidden tokens have probability 0, float64 [M].

    Computed in float32 at least. The cross-entropy of a forbidden target is infinite.
    """
    wide_MV = logits_MV if logits_MV.dtype == torch.float64 else logits_MV.float()
    log_p_MV = wide_MV.index_fill(-1, forbidden_ids, -torch.inf).log_softmax(-1)
    return -log_p_MV.gather(-1, target_M[:, None]).squeeze(-1).double()


def exactly_l_bound(
    predict: Predict,
    tokens_BN: Tensor,
    maskable_BN: Tensor,
    *,
    key: NoiseKey,
    samples: int,
    mask_token_id: int,
    forbidden_ids: Tensor,
) -> list[Estimate]:
    """Bound on -log p of every row by ``exactly_l`` masks, in ``samples`` network calls.

    Args:
        predict: The network, tokens [B, N] to logits [B, N, V]; every call is of all rows.
        tokens_BN: The clean rows.
        maskable_BN: The tokens that are scored, bool; the others (prompt, padding) stay.
        key: Seed and identity of the rows; a row's estimate does not depend on the batch.
        samples: Draws for each row, at least 2.
        mask_token_id: The absorbing state.
        forbidden_ids: Tokens that are never predicted, the mask token among them, int64.

    Raises:
        ValueError: There are fewer than two samples, a row has nothing to score, or a token to
            score is forbidden.
    """
    _check(tokens_BN, maskable_BN, forbidden_ids)
    maskings = (exactly_l(maskable_BN, key=key, draw=draw) for draw in range(samples))
    return _estimates(_values(maskings, predict, tokens_BN, mask_token_id, forbidden_ids))


def bernoulli_bound(
    predict: Predict,
    tokens_BN: Tensor,
    maskable_BN: Tensor,
    *,
    key: NoiseKey,
    samples: int,
    mask_token_id: int,
    forbidden_ids: Tensor,
    min_time: float = 1e-3,
) -> list[Estimate]:
    """Bound on -log p of every row by ``bernoulli`` masks, in ``samples`` network calls.

    Its variance grows like N ln(1/min_time): for comparison, where ``exactly_l_bound`` is the
    estimator to use. Arguments and errors are those of the two functions.
    """
    _check(tokens_BN, maskable_BN, forbidden_ids)
    maskings = (
        bernoulli(maskable_BN, key=key, draw=draw, min_time=min_time) for draw in range(samples)
    )
    return _estimates(_values(maskings, predict, tokens_BN, mask_token_id, forbidden_ids))


def chain_rule(
    predict: Predict,
    tokens_BN: Tensor,
    maskable_BN: Tensor,
    *,
    mask_token_id: int,
    forbidden_ids: Tensor,
    rank_BN: Tensor | None = None,
) -> list[Estimate]:
    """-log p of every row when its tokens are set one by one, in as many network calls.

    Exact for that order: the standard error is 0, ``samples`` is 1. Another order gives another
    number unless the network's conditionals belong to one joint distribution.

    Args:
        rank_BN: The step from 0 in which each maskable token is revealed, int64 [B, N]; left to
            right if None. The others are those of ``exactly_l_bound``.

    Raises:
        ValueError: A row has nothing to score, a token to score is forbidden, or the ranks of a
            row are not 0..N-1 in some order.
    """
    _check(tokens_BN, maskable_BN, forbidden_ids)
    if rank_BN is not None:
        _check_ranks(rank_BN, maskable_BN)
    steps = _values(
        (
            chain_step(maskable_BN, step=step, rank_BN=rank_BN)
            for step in range(int(maskable_BN.sum(dim=1).max()))
        ),
        predict, tokens_BN, mask_token_id, forbidden_ids,
    )  # fmt: skip
    return [Estimate(value, 0.0, 1) for value in torch.stack(steps).sum(dim=0).tolist()]


def _values(
    maskings: Iterable[Masking],
    predict: Predict,
    tokens_BN: Tensor,
    mask_token_id: int,
    forbidden_ids: Tensor,
) -> list[Tensor]:
    """The estimate of every draw, in one network call each."""
    return [
        _value(masking, predict, tokens_BN, mask_token_id, forbidden_ids) for masking in maskings
    ]


def _value(
    masking: Masking, predict: Predict, tokens_BN: Tensor, mask_token_id: int, forbidden_ids: Tensor
) -> Tensor:
    """The estimate of one draw for every row, float64 [B]."""
    logits_BNV = predict(tokens_BN.masked_fill(masking.noise_BN, mask_token_id))
    row_M, column_M = masking.scored_BN.nonzero(as_tuple=True)
    cross_entropy_M = cross_entropy(
        logits_BNV[row_M, column_M], tokens_BN[row_M, column_M], forbidden_ids
    )
    sum_B = torch.zeros_like(masking.weight_B).index_add_(0, row_M, cross_entropy_M)
    return masking.weight_B * sum_B


def _estimates(values: Sequence[Tensor]) -> list[Estimate]:
    """Estimates of the rows from their draws [B] each."""
    if len(values) < 2:
        raise ValueError(f"samples={len(values)} has no standard error: draw at least 2")
    return [Estimate.of(value_S) for value_S in torch.stack(list(values), dim=1)]


def _index(maskable_BN: Tensor) -> Tensor:
    """Number of each maskable token in its row, from 0; anything elsewhere."""
    return maskable_BN.cumsum(dim=1) - 1


def _column(number: Tensor | int) -> Tensor | int:
    """A number for each row, or one for all, to stand beside [B, N]."""
    return number[:, None] if isinstance(number, Tensor) else number


def _check(tokens_BN: Tensor, maskable_BN: Tensor, forbidden_ids: Tensor) -> None:
    if not bool(maskable_BN.any(dim=1).all()):
        row = int(maskable_BN.any(dim=1).logical_not().nonzero()[0])
        raise ValueError(f"row {row} has no token to score: leave it out")
    scored_M = tokens_BN[maskable_BN]
    refused_M = torch.isin(scored_M, forbidden_ids)
    if bool(refused_M.any()):
        raise ValueError(
            f"token {int(scored_M[refused_M][0])} is to be scored but is never predicted: take it "
            "out of forbidden_ids or out of the maskable tokens"
        )


def _check_ranks(rank_BN: Tensor, maskable_BN: Tensor) -> None:
    for row, (rank_N, maskable_N) in enumerate(zip(rank_BN, maskable_BN, strict=True)):
        ranks = sorted(rank_N[maskable_N].tolist())
        if ranks != list(range(len(ranks))):
            raise ValueError(f"the ranks of row {row} are {ranks}: give each of 0..N-1 once")
