"""Rows of tokens and the bound on some of them: every masking once, batched, whatever the batch.

L positions of a row, N scored tokens, S draws, U distinct maskings, M scored positions of a batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dlm.diffusion.likelihood import (
    Estimate,
    Masking,
    bernoulli,
    chain_step,
    cross_entropy,
    exactly_l,
)
from dlm.diffusion.noise import NoiseKey
from dlm.distributed.share import ALONE, Share
from dlm.errors import StageFailed, UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.model import GenerativeModel
from dlm.models.packed import one_row

Estimator = Literal["exactly_l", "bernoulli", "chain_rule"]
# Rows whose maskings are held at once, and positions whose logits over the vocabulary are: both
# only bound the memory.
_GROUP_ROWS = 256
_HEAD_POSITIONS = 1024
_ROW_OF_WINDOW = 2**32 - 1


@dataclass(frozen=True)
class LikelihoodSettings:
    """How a likelihood is estimated; kept beside every number."""

    estimator: Estimator = "exactly_l"
    """``chain_rule`` is left to right and exact for that order, in N network rows."""
    samples: int = 128
    """Draws for each row (not for ``chain_rule``)."""
    seed: int = 0
    min_time: float = 1e-3
    """eps of ``bernoulli``, which truncates the bound."""
    batch_tokens: int = 8192
    """Most tokens in a network call, padding included; changes no result."""


@dataclass(frozen=True)
class Bound:
    """A bound on -log p of one text, given its length."""

    nats: Estimate
    """The bound on all scored tokens together."""
    tokens: int
    """How many were scored."""

    @property
    def per_token(self) -> Estimate:
        """The bound divided by the tokens."""
        return self.nats.per(self.tokens)


@dataclass(frozen=True)
class ScoredRow:
    """A row of the network and which of its tokens are scored: those from start to stop."""

    tokens_L: Tensor
    start: int
    stop: int
    prompt: int
    """Leading tokens that an autoregressive model reads as a whole, as it was trained."""

    @property
    def is_text(self) -> bool:
        """Whether it has no prompt but the begin token: none of it is a response."""
        return self.prompt == 1

    @property
    def count(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Plan:
    """The maskings of a row, each distinct one only once: short responses have few."""

    noise_UL: Tensor
    scored_UL: Tensor
    weight_S: Tensor
    distinct_S: Tensor
    """Which of the distinct maskings a draw has."""


def scored_row(
    model: GenerativeModel,
    head: list[int],
    scored: list[int],
    *,
    with_end: bool = False,
    prompt: int | None = None,
) -> ScoredRow:
    """``prompt``: how much of ``head`` is a prompt; None: all of it."""
    tokens = [*head, *scored, model.special.end]
    stop = len(tokens) - (0 if with_end else 1)
    return ScoredRow(torch.tensor(tokens), len(head), stop, len(head) if prompt is None else prompt)


@torch.inference_mode()
def row_bounds(
    model: GenerativeModel,
    rows: list[ScoredRow],
    row_ids: list[int],
    settings: LikelihoodSettings,
    with_end: bool,
    share: Share = ALONE,
) -> list[Bound]:
    """The bound of every row, in their order. Every rank plans all rows and calls the network on
    its share of the batches, which are those of one process."""
    check_estimable(model, settings)
    forbidden_ids = _forbidden_ids(model, with_end)
    if model.kind == "autoregressive":
        found = _next_token_bounds(model, rows, forbidden_ids, settings.batch_tokens, share)
        return _finite(found, row_ids)
    bounds: dict[int, Bound] = {}
    # Longest first, like the batches: what does not fit in memory fails at the start.
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].tokens_L))
    for first in range(0, len(order), _GROUP_ROWS):
        group = order[first : first + _GROUP_ROWS]
        plans = [_plan(rows[i], row_ids[i], settings) for i in group]
        sums = _cross_entropy_sums(
            model, [rows[i] for i in group], plans, forbidden_ids, settings.batch_tokens, share
        )
        for index, plan, sum_U in zip(group, plans, sums, strict=True):
            value_S = plan.weight_S * sum_U[plan.distinct_S]
            exact = settings.estimator == "chain_rule"
            nats = Estimate(float(value_S.sum()), 0.0, 1) if exact else Estimate.of(value_S)
            bounds[index] = Bound(nats, rows[index].count)
    return _finite([bounds[index] for index in range(len(rows))], row_ids)


def _finite(bounds: list[Bound], row_ids: list[int]) -> list[Bound]:
    """The bounds, which are all numbers.

    Raises:
        StageFailed: One is not.
    """
    for bound, row_id in zip(bounds, row_ids, strict=True):
        if not math.isfinite(bound.nats.value + bound.nats.standard_error):
            row = (row_id & _ROW_OF_WINDOW) + 1
            raise StageFailed(
                f"row {row}: its likelihood is {bound.nats.value} nats of {bound.tokens} tokens, "
                "which is no number: the model gives a token of it no probability, or its weights "
                "are not finite. Look at the row, and at the model's training"
            )
    return bounds


def check_estimable(model: GenerativeModel, settings: LikelihoodSettings) -> None:
    """Refuse settings that give no standard error."""
    draws = model.kind == "diffusion" and settings.estimator != "chain_rule"
    if draws and settings.samples < 2:
        raise UserError(
            f"samples={settings.samples} gives no standard error: use at least 2, or "
            "estimator=chain_rule, which draws nothing"
        )


def _next_token_bounds(
    model: GenerativeModel,
    rows: list[ScoredRow],
    forbidden_ids: Tensor,
    batch_tokens: int,
    share: Share,
) -> list[Bound]:
    """Of a model that writes from left to right: the chain rule in that order, which one network
    row gives exactly."""
    bounds: dict[int, Bound] = {}

    def work(batch: list[int]) -> list[float]:
        chosen = [rows[i] for i in batch]
        tokens_BL = _padded([row.tokens_L for row in chosen], model.special.pad, model)
        valid_BL = _padded([torch.ones_like(row.tokens_L).bool() for row in chosen], False, model)
        column_L = torch.arange(tokens_BL.shape[1], device=model.device)
        prompt_B, start_B, stop_B = (
            torch.tensor([getattr(row, name) for row in chosen], device=model.device)
            for name in ("prompt", "start", "stop")
        )
        scored_BL = (column_L >= start_B[:, None]) & (column_L < stop_B[:, None])
        place_M = scored_BL.flatten().nonzero().squeeze(1)
        texts = chosen[0].is_text  # as all of them are, or none
        response_BL = valid_BL & (column_L >= prompt_B[:, None]) & (not texts)
        # The state before a token predicts it.
        hidden_MH = model.backbone.hidden(
            tokens_BL, valid_BL, attention="causal" if texts else "prefix_causal",
            response_BL=response_BL, place_M=place_M - 1,
        )  # fmt: skip
        sum_B = _scored_sums(model, hidden_MH, place_M, tokens_BL, forbidden_ids)
        return sum_B.tolist()

    batches = batches_of_like_length([len(row.tokens_L) for row in rows], batch_tokens)
    for batch, values in zip(batches, share.map(work, batches), strict=True):
        for index, value in zip(batch, values, strict=True):
            bounds[index] = Bound(Estimate(value, 0.0, 1), rows[index].count)
    return [bounds[index] for index in range(len(rows))]


def _forbidden_ids(model: GenerativeModel, with_end: bool) -> Tensor:
    scored = [model.tokenizer.unk_token_id, model.special.end if with_end else None]
    allowed = torch.tensor([i for i in scored if i is not None], device=model.device)
    forbidden = model.forbidden_ids
    return forbidden[~torch.isin(forbidden, allowed)]


def _plan(row: ScoredRow, row_id: int, settings: LikelihoodSettings) -> _Plan:
    """All draws of a row. Made without padding and on the host: the same in any batch."""
    masking = _maskings(row.count, row_id, settings)
    noise_UN, distinct_S = torch.unique(masking.noise_BN, dim=0, return_inverse=True)
    # Draws of equal noise score the same positions, so any of them speaks for all.
    scored_UN = torch.zeros_like(noise_UN)
    scored_UN[distinct_S] = masking.scored_BN
    around = (row.start, len(row.tokens_L) - row.stop)
    return _Plan(F.pad(noise_UN, around), F.pad(scored_UN, around), masking.weight_B, distinct_S)


def _maskings(count: int, row_id: int, settings: LikelihoodSettings) -> Masking:
    """The draws or steps of a row of ``count`` scored tokens, one in a row of the masking."""
    steps = count if settings.estimator == "chain_rule" else settings.samples
    draw_S = torch.arange(steps)
    maskable_SN = torch.ones(steps, count, dtype=torch.bool)
    key = NoiseKey(settings.seed, torch.full((steps,), row_id))
    if settings.estimator == "chain_rule":
        return chain_step(maskable_SN, step=draw_S)
    if settings.estimator == "bernoulli":
        return bernoulli(maskable_SN, key=key, draw=draw_S, min_time=settings.min_time)
    return exactly_l(maskable_SN, key=key, draw=draw_S)


def _cross_entropy_sums(
    model: GenerativeModel,
    rows: list[ScoredRow],
    plans: list[_Plan],
    forbidden_ids: Tensor,
    batch_tokens: int,
    share: Share,
) -> list[Tensor]:
    """Sum over the scored positions of every distinct masking, float64 [U] for each row."""
    items = [(r, u) for r, plan in enumerate(plans) for u in range(len(plan.noise_UL))]
    sums = [torch.zeros(len(plan.noise_UL), dtype=torch.float64) for plan in plans]
    lengths = [len(rows[r].tokens_L) for r, _ in items]

    def work(batch: list[int]) -> list[float]:
        chosen = [items[i] for i in batch]
        clean_BL = _padded([rows[r].tokens_L for r, _ in chosen], model.special.pad, model)
        noise_BL = _padded([plans[r].noise_UL[u] for r, u in chosen], False, model)
        scored_BL = _padded([plans[r].scored_UL[u] for r, u in chosen], False, model)
        valid_BL = _padded([torch.ones_like(plans[r].noise_UL[u]) for r, u in chosen], False, model)
        # Behind the prompt, for networks whose prompt does not see it or that place it apart.
        longest = clean_BL.shape[1]
        first_B = torch.tensor(
            [longest if rows[r].is_text else rows[r].start for r, _ in chosen], device=model.device
        )
        column_L = torch.arange(longest, device=model.device)
        response_BL = valid_BL & (column_L >= first_B[:, None])
        place_M = scored_BL.flatten().nonzero().squeeze(1)
        packs = model.backbone.packs(valid_BL.device)
        hidden_MH = model.backbone.hidden(
            clean_BL.masked_fill(noise_BL, model.special.mask), valid_BL,
            response_BL=response_BL, place_M=place_M,
            packing=one_row([lengths[i] for i in batch], valid_BL) if packs else None,
        )  # fmt: skip
        sum_B = _scored_sums(model, hidden_MH, place_M, clean_BL, forbidden_ids)
        return sum_B.tolist()

    batches = batches_of_like_length(lengths, batch_tokens)
    for batch, values in zip(batches, share.map(work, batches), strict=True):
        for index, value in zip(batch, values, strict=True):
            r, u = items[index]
            sums[r][u] = value
    return sums


def _scored_sums(
    model: GenerativeModel,
    hidden_MH: Tensor,
    place_M: Tensor,
    clean_BL: Tensor,
    forbidden_ids: Tensor,
) -> Tensor:
    """Sum of the cross-entropies at the scored places, float64 [B]."""
    row_M = place_M.div(clean_BL.shape[1], rounding_mode="floor")
    target_M = clean_BL.flatten()[place_M]
    sum_B = torch.zeros(len(clean_BL), dtype=torch.float64, device=clean_BL.device)
    for first in range(0, len(row_M), _HEAD_POSITIONS):
        part = slice(first, first + _HEAD_POSITIONS)
        logits_PV = model.backbone.logits(hidden_MH[part])
        cross_entropy_P = cross_entropy(logits_PV, target_M[part], forbidden_ids)
        sum_B.index_add_(0, row_M[part], cross_entropy_P)
    return sum_B


def _padded(rows: list[Tensor], value: float, model: GenerativeModel) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value).to(model.device)
