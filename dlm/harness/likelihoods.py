"""Log-likelihoods as the harness asks for them: lower bounds on log p, given the length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.generation.batches import batches_of_like_length
from dlm.generation.diffusion import denoise_masks
from dlm.generation.likelihood import conditional_bounds, rolling_bounds
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import Bound, LikelihoodSettings
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow

Scale = Literal["sum", "per_token"]


@dataclass(frozen=True)
class Pair:
    """A context and what is scored behind it."""

    prompt: str
    """Empty: the text stands alone."""
    response: str
    row_id: int
    """Its identity in the draws: choices of one question have the same."""


def pair_bounds(
    model: GenerativeModel, pairs: Sequence[Pair], settings: LikelihoodSettings
) -> list[Bound]:
    """Bound on -log p(response | prompt, its length) of every pair, in their order.

    A bound is a function of its pair and the settings, whatever else is asked for. Errors are
    those of ``conditional_bounds``.
    """
    behind = [pair for pair in pairs if pair.prompt]
    alone = [pair for pair in pairs if not pair.prompt]
    found = iter(
        conditional_bounds(
            model, [p.prompt for p in behind], [p.response for p in behind], settings,
            row_ids=[p.row_id for p in behind],
        )
    )  # fmt: skip
    texts = iter(
        rolling_bounds(
            model, [p.response for p in alone], settings, row_ids=[p.row_id for p in alone]
        )
    )
    return [next(found) if pair.prompt else next(texts) for pair in pairs]


def log_likelihood(bound: Bound, scale: Scale) -> float:
    """What the harness is given. ``per_token`` makes its ``acc`` the choice of the lowest bound per
    token, as ``dlm evaluate`` chooses."""
    return -(bound.per_token if scale == "per_token" else bound.nats).value


@torch.inference_mode()
def greedy(
    model: GenerativeModel, pairs: Sequence[Pair], settings: GenerationSettings
) -> list[bool]:
    """Whether each response is what the sampler writes when it is told the length."""
    special = model.special
    heads = [
        head if pair.prompt else [special.begin]
        for pair, head in zip(
            pairs, encode_prompts(model.tokenizer, [p.prompt for p in pairs]), strict=True
        )
    ]
    wanted = encode_responses(model.tokenizer, [pair.response for pair in pairs])
    rows = [
        SlotRow.behind(head, len(tokens), special)
        for head, tokens in zip(heads, wanted, strict=True)
    ]
    same = [False] * len(pairs)
    for batch in batches_of_like_length([len(row.tokens) for row in rows], settings.batch_tokens):
        written = denoise_masks(model, [rows[i] for i in batch], settings).tokens_BN.tolist()
        for index, tokens in zip(batch, written, strict=True):
            # As texts: the same words may be cut into other tokens.
            texts = model.tokenizer.batch_decode([tokens[: len(wanted[index])], wanted[index]])
            same[index] = texts[0].strip() == texts[1].strip()
    return same
