"""How likely texts are under a diffusion model: bounds, multiple choice, perplexity.

A row is  begin prompt end response end.  The response's tokens are scored, each masked in turn with
others; begin, prompt and its end are given. The end token behind the response is given too, as in
decoding with a known length, or scored with ``with_end``, as it is trained.

Every number is an upper bound on -log p(response | prompt, its length N); that of ``chain_rule`` is
exact for its order. Beside an autoregressive model, which also says where it ends, compare
bound - log p(N | prompt) (method: objectives).

Special tokens are never predicted and so take no probability; except the unknown token, which is
scored like any other (a text that has one is not described in full), and with ``with_end`` the end.

L positions of a row, N scored tokens, S draws, U distinct maskings, M scored positions of a batch.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dlm.data.encoding import encode_prompts, encode_responses
from dlm.diffusion.likelihood import (
    Estimate,
    Masking,
    bernoulli,
    chain_step,
    cross_entropy,
    exactly_l,
)
from dlm.diffusion.noise import NoiseKey
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.model import GenerativeModel

Estimator = Literal["exactly_l", "bernoulli", "chain_rule"]
# Rows whose maskings are held at once, and positions whose logits over the vocabulary are: both
# only bound the memory.
_GROUP_ROWS = 256
_HEAD_POSITIONS = 1024


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
class Choice:
    """The answer to a multiple-choice question."""

    index: int
    """The choice whose bound per token is lowest; the first of equal ones."""
    bounds: list[Bound]
    """The bound of every choice. Choices of a question share their draws: those of one length are
    masked alike, so their difference is surer than two independent standard errors say."""


@dataclass(frozen=True)
class Perplexity:
    """exp(bound per token)."""

    value: float
    """The perplexity. A standard error e of the bound per token makes its expectation too large by
    a factor of about 1 + e^2 / 2."""
    standard_error: float
    """value x standard error of the bound per token (delta method)."""
    bound: Bound
    """What it is made of: the sum over all rows."""


def conditional_bounds(
    model: GenerativeModel,
    prompts: Sequence[str],
    responses: Sequence[str],
    settings: LikelihoodSettings,
    *,
    with_end: bool = False,
    row_ids: Sequence[int] | None = None,
) -> list[Bound]:
    """Bound on -log p(response | prompt, its length) of every pair.

    Args:
        model: A diffusion model.
        prompts: One for each response.
        responses: What is scored.
        settings: Estimator, samples, seed, batch size.
        with_end: Score the end token behind the response as well; it counts among the tokens.
        row_ids: Identity of each pair in the draws; its place in the list if None. With the same
            identity a pair has the same bound in any list.

    Raises:
        UserError: A prompt or response is empty, a pair is longer than the model's positions, the
            settings have too few samples, or the model is autoregressive.
        ValueError: The lists differ in length.
    """
    names = [f"pair {number} of {len(responses)}" for number in range(1, len(responses) + 1)]
    rows = _pair_rows(model, list(prompts), list(responses), names, with_end)
    return _bounds(model, rows, _ids(row_ids, len(rows)), settings, with_end)


def multiple_choice(
    model: GenerativeModel,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    settings: LikelihoodSettings,
    *,
    with_end: bool = False,
    row_ids: Sequence[int] | None = None,
) -> list[Choice]:
    """For every prompt the choice of the lowest bound per token.

    Arguments and errors are those of ``conditional_bounds``, with ``choices`` in place of
    responses and ``row_ids`` of the questions; a prompt without choices is a ``UserError``.
    """
    pairs: list[tuple[str, str]] = []
    names: list[str] = []
    ids: list[int] = []
    questions = zip(prompts, choices, _ids(row_ids, len(choices)), strict=True)
    for number, (prompt, texts, row_id) in enumerate(questions, start=1):
        question = f"question {number} of {len(choices)}"
        if not texts:
            raise UserError(f"{question} has no choices: give it some")
        pairs += [(prompt, text) for text in texts]
        names += [f"{question}, choice {place}" for place in range(1, len(texts) + 1)]
        ids += [row_id] * len(texts)
    rows = _pair_rows(model, [p for p, _ in pairs], [text for _, text in pairs], names, with_end)
    bounds = iter(_bounds(model, rows, ids, settings, with_end))
    return [_choice(list(itertools.islice(bounds, len(texts)))) for texts in choices]


def rolling_bounds(
    model: GenerativeModel,
    texts: Sequence[str],
    settings: LikelihoodSettings,
    *,
    context_tokens: int = 0,
    row_ids: Sequence[int] | None = None,
) -> list[Bound]:
    """Bound on -log p of every text, given its length, in windows that fit the model.

    A text is cut into the fewest windows, of like length; each is a row  begin window end  whose
    tokens are all scored, and the bounds are added.

    Args:
        model: A diffusion model.
        texts: What is scored.
        settings: Estimator, samples, seed, batch size.
        context_tokens: How many tokens before its window a row shows unmasked. They take room from
            the window.
        row_ids: Identity of each text in the draws; its place in the list if None.

    Raises:
        UserError: A text is empty, the context leaves no room for a window, the settings have too
            few samples, or the model is autoregressive.
    """
    room = model.backbone.max_length - 2 - context_tokens
    if context_tokens < 0 or room < 1:
        raise UserError(
            f"context_tokens={context_tokens} must lie between 0 and "
            f"{model.backbone.max_length - 3}, as the model has {model.backbone.max_length} "
            "positions: change it"
        )
    rows: list[_Row] = []
    ids: list[int] = []
    owner: list[int] = []
    encoded = encode_responses(model.tokenizer, list(texts)) if texts else []
    for text, (tokens, row_id) in enumerate(zip(encoded, _ids(row_ids, len(texts)), strict=True)):
        if not tokens:
            raise UserError(f"text {text + 1} of {len(texts)} is empty: leave it out")
        cuts = _even_cuts(len(tokens), room)
        for window, (start, stop) in enumerate(itertools.pairwise(cuts)):
            context = tokens[max(0, start - context_tokens) : start]
            rows.append(_row(model, [model.special.begin, *context], tokens[start:stop]))
            # Windows of a text have draws of their own: a counter reads 64 bits.
            ids.append((window << 32) + row_id)
            owner.append(text)
    bounds = _bounds(model, rows, ids, settings, with_end=False)
    windows: list[list[Bound]] = [[] for _ in texts]
    for text, bound in zip(owner, bounds, strict=True):
        windows[text].append(bound)
    return [_total(own) for own in windows]


def rolling_perplexity(
    model: GenerativeModel,
    text: str,
    settings: LikelihoodSettings,
    *,
    context_tokens: int = 0,
) -> Perplexity:
    """Perplexity of a text of any length; arguments and errors are those of ``rolling_bounds``."""
    return perplexity(rolling_bounds(model, [text], settings, context_tokens=context_tokens))


def perplexity(bounds: Sequence[Bound]) -> Perplexity:
    """Perplexity of a corpus: exp(sum of bounds / sum of tokens).

    The standard error takes the bounds as independent: those of one call of ``conditional_bounds``
    or ``rolling_bounds``, or of calls with other seeds or ``row_ids``.

    Raises:
        UserError: There are no bounds.
    """
    if not bounds:
        raise UserError("there is no text to take the perplexity of: give at least one")
    bound = _total(bounds)
    per_token = bound.per_token
    value = math.exp(per_token.value)
    return Perplexity(value, value * per_token.standard_error, bound)


@dataclass(frozen=True)
class _Row:
    """A row of the network and which of its tokens are scored: those from start to stop."""

    tokens_L: Tensor
    start: int
    stop: int

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


def _row(
    model: GenerativeModel, head: list[int], scored: list[int], *, with_end: bool = False
) -> _Row:
    tokens = [*head, *scored, model.special.end]
    return _Row(torch.tensor(tokens), len(head), len(tokens) - (0 if with_end else 1))


def _pair_rows(
    model: GenerativeModel,
    prompts: list[str],
    responses: list[str],
    names: list[str],
    with_end: bool,
) -> list[_Row]:
    """Rows  begin prompt end response end."""
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses: give as many")
    if not prompts:
        return []
    rows = []
    heads = encode_prompts(model.tokenizer, prompts)
    tails = encode_responses(model.tokenizer, responses)
    for name, prompt, head, tail in zip(names, prompts, heads, tails, strict=True):
        if not prompt.strip():
            raise UserError(
                f"{name}: the prompt is empty: give it some text, or take the rolling bound of "
                "the text alone"
            )
        if not tail:
            raise UserError(
                f"{name}: the response is empty, there is nothing to score: leave it out"
            )
        if (length := len(head) + len(tail) + 1) > model.backbone.max_length:
            raise UserError(
                f"{name}: prompt and response take {length} tokens, special tokens included, where "
                f"{model.backbone.max_length} fit the model ({len(tail)} are the response's): "
                "shorten one of them"
            )
        rows.append(_row(model, head, tail, with_end=with_end))
    return rows


def _ids(row_ids: Sequence[int] | None, count: int) -> list[int]:
    if row_ids is None:
        return list(range(count))
    if len(row_ids) != count:
        raise ValueError(f"{len(row_ids)} row_ids for {count} rows: give as many")
    return list(row_ids)


def _even_cuts(length: int, most: int) -> list[int]:
    """Borders of the fewest windows of at most ``most`` tokens, which differ by one at most."""
    windows = math.ceil(length / most)
    return [length * window // windows for window in range(windows + 1)]


def _choice(bounds: list[Bound]) -> Choice:
    return Choice(min(range(len(bounds)), key=lambda i: bounds[i].per_token.value), bounds)


def _total(bounds: Sequence[Bound]) -> Bound:
    return Bound(Estimate.total(b.nats for b in bounds), sum(b.tokens for b in bounds))


@torch.inference_mode()
def _bounds(
    model: GenerativeModel,
    rows: list[_Row],
    row_ids: list[int],
    settings: LikelihoodSettings,
    with_end: bool,
) -> list[Bound]:
    """The bound of every row, in their order."""
    if model.kind != "diffusion":
        raise UserError(
            f"a likelihood bound needs a diffusion model, and this one is {model.kind}: open the "
            "export of a diffusion stage"
        )
    if settings.estimator != "chain_rule" and settings.samples < 2:
        raise UserError(
            f"samples={settings.samples} gives no standard error: use at least 2, or "
            "estimator=chain_rule, which draws nothing"
        )
    forbidden_ids = _forbidden_ids(model, with_end)
    bounds: dict[int, Bound] = {}
    # Longest first, like the batches: what does not fit in memory fails at the start.
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].tokens_L))
    for first in range(0, len(order), _GROUP_ROWS):
        group = order[first : first + _GROUP_ROWS]
        plans = [_plan(rows[i], row_ids[i], settings) for i in group]
        sums = _cross_entropy_sums(
            model, [rows[i] for i in group], plans, forbidden_ids, settings.batch_tokens
        )
        for index, plan, sum_U in zip(group, plans, sums, strict=True):
            value_S = plan.weight_S * sum_U[plan.distinct_S]
            exact = settings.estimator == "chain_rule"
            nats = Estimate(float(value_S.sum()), 0.0, 1) if exact else Estimate.of(value_S)
            bounds[index] = Bound(nats, rows[index].count)
    return [bounds[index] for index in range(len(rows))]


def _forbidden_ids(model: GenerativeModel, with_end: bool) -> Tensor:
    scored = [model.tokenizer.unk_token_id, model.special.end if with_end else None]
    allowed = torch.tensor([i for i in scored if i is not None], device=model.device)
    forbidden = model.forbidden_ids
    return forbidden[~torch.isin(forbidden, allowed)]


def _plan(row: _Row, row_id: int, settings: LikelihoodSettings) -> _Plan:
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
    rows: list[_Row],
    plans: list[_Plan],
    forbidden_ids: Tensor,
    batch_tokens: int,
) -> list[Tensor]:
    """Sum over the scored positions of every distinct masking, float64 [U] for each row."""
    items = [(r, u) for r, plan in enumerate(plans) for u in range(len(plan.noise_UL))]
    sums = [torch.zeros(len(plan.noise_UL), dtype=torch.float64) for plan in plans]
    lengths = [len(rows[r].tokens_L) for r, _ in items]
    for batch in batches_of_like_length(lengths, batch_tokens):
        chosen = [items[i] for i in batch]
        clean_BL = _padded([rows[r].tokens_L for r, _ in chosen], model.special.pad, model)
        noise_BL = _padded([plans[r].noise_UL[u] for r, u in chosen], False, model)
        scored_BL = _padded([plans[r].scored_UL[u] for r, u in chosen], False, model)
        valid_BL = _padded([torch.ones_like(plans[r].noise_UL[u]) for r, u in chosen], False, model)
        # The prompt, for networks whose prompt does not see the response.
        prompt_B = torch.tensor([rows[r].start for r, _ in chosen], device=model.device)
        column_L = torch.arange(clean_BL.shape[1], device=model.device)
        response_BL = valid_BL & (column_L >= prompt_B[:, None])
        hidden_BLH = model.backbone.hidden(
            clean_BL.masked_fill(noise_BL, model.special.mask), valid_BL, response_BL=response_BL
        )
        sum_B = _scored_sums(model, hidden_BLH, clean_BL, scored_BL, forbidden_ids)
        for (r, u), value in zip(chosen, sum_B.cpu(), strict=True):
            sums[r][u] = value
    return sums


def _scored_sums(
    model: GenerativeModel,
    hidden_BLH: Tensor,
    clean_BL: Tensor,
    scored_BL: Tensor,
    forbidden_ids: Tensor,
) -> Tensor:
    """Sum of the cross-entropies at the scored positions, float64 [B]."""
    row_M, column_M = scored_BL.nonzero(as_tuple=True)
    sum_B = torch.zeros(len(clean_BL), dtype=torch.float64, device=clean_BL.device)
    for first in range(0, len(row_M), _HEAD_POSITIONS):
        place = slice(first, first + _HEAD_POSITIONS)
        row_P, column_P = row_M[place], column_M[place]
        logits_PV = model.backbone.logits(hidden_BLH[row_P, column_P])
        cross_entropy_P = cross_entropy(logits_PV, clean_BL[row_P, column_P], forbidden_ids)
        sum_B.index_add_(0, row_P, cross_entropy_P)
    return sum_B


def _padded(rows: list[Tensor], value: float, model: GenerativeModel) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value).to(model.device)
