"""Texts of the autoregressive twin, drawn token by token behind how they begin, if at all."""

from collections import Counter

import torch
from torch import Tensor

from dlm.diffusion.sampling.choice import choose_tokens, log_probabilities
from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.ends import HeldBack
from dlm.distributed.share import ALONE, Share
from dlm.generation.batches import batches_of_like_length
from dlm.generation.diffusion import row_numbers
from dlm.generation.generated import Generated, Generation
from dlm.generation.lengths import longest_answers, pad
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.tokens.text_form import decode_texts


def draw_texts(
    model: GenerativeModel,
    heads: list[list[int]],
    settings: GenerationSettings,
    share: Share = ALONE,
) -> Generation:
    """Ancestral sampling: each token from p^(1/temperature) given those before, up to the end.

    A draw is a function of (seed, beginning, how many equal ones stand before, place of the token),
    whatever else is asked and whatever the batch: equal beginnings are continued apart.

    Raises:
        UserError: A beginning leaves no room for a token.
    """
    limits = longest_answers(model, heads, settings)

    rows = _row_numbers(heads)

    def work(batch: list[int]) -> tuple[list[Generated], int]:
        return _drawn(model, heads, rows, batch, limits, settings)

    sizes = [len(head) + limit for head, limit in zip(heads, limits, strict=True)]
    batches = batches_of_like_length(sizes, settings.batch_tokens)
    done = share.map(work, batches)
    texts = {i: text for batch, (given, _) in zip(batches, done, strict=True)
             for i, text in zip(batch, given, strict=True)}  # fmt: skip
    return Generation([texts[i] for i in range(len(heads))], sum(calls for _, calls in done))


def _row_numbers(heads: list[list[int]]) -> list[int]:
    """A number for each row: a function of its tokens behind the begin token, and of how many equal
    rows stand before it."""
    met: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for head in heads:
        begun_1L = torch.tensor([head[1:]], dtype=torch.int64)
        own = int(row_numbers(begun_1L, torch.ones_like(begun_1L, dtype=torch.bool)))
        numbers.append(own + met[tuple(head)])
        met[tuple(head)] += 1
    return numbers


@torch.inference_mode()
def _drawn(
    model: GenerativeModel,
    heads: list[list[int]],
    rows: list[int],
    batch: list[int],
    limits: list[int],
    settings: GenerationSettings,
) -> tuple[list[Generated], int]:
    tokens: dict[int, list[int]] = {number: [] for number in batch}
    log_p = dict.fromkeys(batch, 0.0)
    ended: set[int] = set()
    held_back = HeldBack.of(model.special.end, settings.min_length, settings.end_penalty)
    calls = 0
    while growing := [i for i in batch if i not in ended and len(tokens[i]) < limits[i]]:
        logits_BV = _next_token(model, [heads[i] + tokens[i] for i in growing])
        calls += 1
        places_B1 = torch.tensor([[len(tokens[i])] for i in growing], device=model.device)
        if held_back is not None:
            logits_BV = held_back.applied(logits_BV, places_B1[:, 0])
        log_p_BV = log_probabilities(logits_BV, model.forbidden_ids_on_canvas)
        rows_B = torch.tensor([rows[i] for i in growing], device=model.device)
        chosen_B = choose_tokens(
            log_p_BV[:, None], Draws(DrawKey(settings.seed, rows_B), 0, places_B1),
            temperature=settings.temperature or 0.0, top_k=settings.top_k, top_p=settings.top_p,
        )[:, 0]  # fmt: skip
        gained_B = log_p_BV.gather(-1, chosen_B[:, None])[:, 0]
        for i, token, gained in zip(growing, chosen_B.tolist(), gained_B.tolist(), strict=True):
            log_p[i] += gained
            if token == model.special.end:
                ended.add(i)
            else:
                tokens[i].append(token)
    decoded = decode_texts(model.tokenizer, [tokens[i] for i in batch])
    return [
        Generated(text, len(tokens[i]), log_p[i] / max(1, len(tokens[i]) + (i in ended)))
        for i, text in zip(batch, decoded, strict=True)
    ], calls


def _next_token(model: GenerativeModel, rows: list[list[int]]) -> Tensor:
    """Logits of the token behind each row [B, V]."""
    tokens_BL, valid_BL = pad(rows, model)
    last_B = valid_BL.sum(dim=1) - 1
    row_B = torch.arange(len(rows), device=model.device)
    hidden_BH = model.backbone.hidden(
        tokens_BL, valid_BL, attention="prefix_causal",
        response_BL=model.behind_prompts(valid_BL, last_B + 1),
        place_M=row_B * tokens_BL.shape[1] + last_B,
    )  # fmt: skip
    return model.backbone.logits(hidden_BH)
