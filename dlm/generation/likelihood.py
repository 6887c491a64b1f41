"""How likely texts are: bounds, multiple choice, perplexity.

A row is  begin prompt end response end.  The response's tokens are scored, each masked in turn with
others; begin, prompt and its end are given. The end token behind the response is given too, as in
decoding with a known length, or scored with ``with_end``, as it is trained.

Every number is an upper bound on -log p(response | prompt, its length N); that of ``chain_rule`` is
exact for its order. An autoregressive model gives the chain rule from left to right in one network
row, exactly and whatever the estimator; the length is given there too: no end token is predicted,
and its probability goes to the others. With its own lengths compare bound - log p(N | prompt)
(method: objectives).

Special tokens are never predicted and so take no probability; except the unknown token, which is
scored like any other (a text that has one is not described in full), and with ``with_end`` the end.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlm.data.rows.encoding import encode_responses
from dlm.diffusion.likelihood import Estimate
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import (
    Bound,
    LikelihoodSettings,
    ScoredRow,
    row_bounds,
    scored_row,
)

_ROUNDING = 1e-6
"""Bounds this near are equal: float32 gives the same row other last digits in another batch."""


@dataclass(frozen=True)
class Choice:
    """The answer to a multiple-choice question."""

    lowest: tuple[int, ...]
    """The choices whose bound per token is lowest: one, or several of equal bounds, none of which
    is the model's choice more than another."""
    bounds: list[Bound]
    """The bound of every choice. Choices of a question share their draws: those of one length are
    masked alike, so their difference is surer than two independent standard errors say."""

    @property
    def index(self) -> int:
        """The first of ``lowest``."""
        return self.lowest[0]


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
    share: Share = ALONE,
) -> list[Bound]:
    """Bound on -log p(response | prompt, its length) of every pair.

    Args:
        model: A diffusion model, or an autoregressive one.
        prompts: One for each response.
        responses: What is scored.
        settings: Estimator, samples, seed, batch size.
        with_end: Score the end token behind the response as well; it counts among the tokens.
        row_ids: Identity of each pair in the draws; its place in the list if None. With the same
            identity a pair has the same bound in any list.
        share: What the ranks of a job share; each of them gets all bounds.

    Raises:
        UserError: A prompt or response is empty, a pair is longer than the model's positions, the
            settings have too few samples.
        ValueError: The lists differ in length.
    """
    names = [f"pair {number} of {len(responses)}" for number in range(1, len(responses) + 1)]
    rows = pair_rows(model, list(prompts), list(responses), names, with_end)
    return row_bounds(model, rows, _ids(row_ids, len(rows)), settings, with_end, share)


def multiple_choice(
    model: GenerativeModel,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    settings: LikelihoodSettings,
    *,
    with_end: bool = False,
    row_ids: Sequence[int] | None = None,
    share: Share = ALONE,
) -> list[Choice]:
    """For every prompt the choice of the lowest bound per token, or all choices of that bound.

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
    rows = pair_rows(model, [p for p, _ in pairs], [text for _, text in pairs], names, with_end)
    bounds = iter(row_bounds(model, rows, ids, settings, with_end, share))
    return [_choice(list(itertools.islice(bounds, len(texts)))) for texts in choices]


def rolling_bounds(
    model: GenerativeModel,
    texts: Sequence[str],
    settings: LikelihoodSettings,
    *,
    context_tokens: int = 0,
    row_ids: Sequence[int] | None = None,
    share: Share = ALONE,
) -> list[Bound]:
    """Bound on -log p of every text, given its length, in windows that fit the model.

    A text is cut into the fewest windows, of like length; each is a row  begin window end  whose
    tokens are all scored, and the bounds are added.

    Args:
        model: A diffusion model, or an autoregressive one.
        texts: What is scored.
        settings: Estimator, samples, seed, batch size.
        context_tokens: How many tokens before its window a row shows unmasked. They take room from
            the window.
        row_ids: Identity of each text in the draws; its place in the list if None.
        share: What the ranks of a job share; each of them gets all bounds.

    Raises:
        UserError: A text is empty, the context leaves no room for a window, or the settings have
            too few samples.
    """
    room = model.backbone.max_length - 2 - context_tokens
    if context_tokens < 0 or room < 1:
        raise UserError(
            f"context_tokens={context_tokens} must lie between 0 and "
            f"{model.backbone.max_length - 3}, as the model has {model.backbone.max_length} "
            "positions: change it"
        )
    rows: list[ScoredRow] = []
    ids: list[int] = []
    owner: list[int] = []
    encoded = encode_responses(model.tokenizer, list(texts)) if texts else []
    for text, (tokens, row_id) in enumerate(zip(encoded, _ids(row_ids, len(texts)), strict=True)):
        if not tokens:
            raise UserError(f"text {text + 1} of {len(texts)} is empty: leave it out")
        cuts = _even_cuts(len(tokens), room)
        for window, (start, stop) in enumerate(itertools.pairwise(cuts)):
            context = tokens[max(0, start - context_tokens) : start]
            head = [model.special.begin, *context]
            # From left to right a text is read behind its begin token, its context too.
            rows.append(scored_row(model, head, tokens[start:stop], prompt=1))
            # Windows of a text have draws of their own: a counter reads 64 bits.
            ids.append((window << 32) + row_id)
            owner.append(text)
    bounds = row_bounds(model, rows, ids, settings, with_end=False, share=share)
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


def pair_rows(
    model: GenerativeModel,
    prompts: list[str],
    responses: list[str],
    names: list[str],
    with_end: bool = False,
) -> list[ScoredRow]:
    """Rows  begin prompt end response end.

    Raises:
        UserError: A prompt or response is empty, or a pair is longer than the model's positions;
            the message begins with its one of ``names``.
        ValueError: The lists differ in length.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses: give as many")
    if not prompts:
        return []
    rows = []
    heads = model.heads(prompts)
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
        if len(tail) + 1 > model.backbone.room_behind(len(head)):
            raise UserError(
                f"{name}: prompt and response take {len(head) + len(tail) + 1} tokens, special "
                f"tokens included ({len(tail)} are the response's), which do not fit "
                f"{model.backbone.room_text}: shorten one of them"
            )
        whole = 1 if model.texts else None
        rows.append(scored_row(model, head, tail, with_end=with_end, prompt=whole))
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
    rates = [bound.per_token.value for bound in bounds]
    least = min(rates)
    same = (math.isclose(rate, least, rel_tol=_ROUNDING, abs_tol=_ROUNDING) for rate in rates)
    return Choice(tuple(itertools.compress(range(len(rates)), same)), bounds)


def _total(bounds: Sequence[Bound]) -> Bound:
    return Bound(Estimate.total(b.nats for b in bounds), sum(b.tokens for b in bounds))
