"""Candidate lengths of every prompt's answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlm.data.rows.encoding import encode_responses
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.models.length_predictor import top_lengths


class LengthChoice(NamedTuple):
    """A length to decode, in tokens without the end token."""

    length: int
    log_probability: float
    """What the length predictor gives it; 0 for a length that is known."""


def settled(model: GenerativeModel, settings: GenerationSettings) -> GenerationSettings:
    """The settings with what they leave open decided by the model: where lengths come from, and
    how long a canvas is. Where there is none, what is said about it goes, and so does the
    temperature of a model that searches for its answers.

    Raises:
        UserError: A canvas is asked of a model that was not trained with one, or is not a whole
            number of blocks; an answer is to be longer than it can be; prompts that are exact are
            to be approximated.
    """
    if model.kind == "autoregressive":
        # Answers to prompts are searched for, texts may be drawn.
        kept = settings.temperature if model.texts else None
        _check_least(settings, settings.max_new_tokens, "generation.max_new_tokens")
        return replace(settings, temperature=kept)
    if settings.prompt_cache and model.backbone.attention == "prefix_lm":
        raise UserError(
            f"generation.prompt_cache = {settings.prompt_cache}: approximates prompts that see the "
            "answer, and this model's do not (attention prefix_lm): they are computed once anyway; "
            "remove it"
        )
    ends_itself = model.canvas_length is not None and model.length_predictor is None
    length = settings.length or ("canvas" if ends_itself else "predicted")
    if length != "canvas":
        if length == "predicted" and model.length_predictor is not None:
            longest = model.length_predictor.max_length
            _check_least(settings, longest, "the longest length of the length predictor")
        least = 0 if length == "oracle" else settings.min_length
        return replace(
            settings, length=length, canvas_length=None, end_last=None, min_length=least,
            end_penalty=0.0,
        )  # fmt: skip
    if model.canvas_length is None:
        raise UserError(
            "this model was not trained with a canvas, so its answers do not end themselves: train "
            "it with data.canvas_length, or take generation.length=predicted (a `length` stage's "
            "model) or oracle"
        )
    canvas_length = settings.canvas_length or model.canvas_length
    _check_least(settings, canvas_length, "the canvas")
    if settings.block_length and canvas_length % settings.block_length:
        raise UserError(
            f"a canvas of {canvas_length} tokens is not a whole number of blocks of "
            f"{settings.block_length}: choose a generation.block_length that divides it, or "
            "another generation.canvas_length"
        )
    return replace(settings, length=length, canvas_length=canvas_length)


def _check_least(settings: GenerationSettings, most: int, what: str) -> None:
    if settings.min_length > most:
        raise UserError(
            f"generation.min_length = {settings.min_length}: no answer can be so long, {what} is "
            f"{most} tokens: lower it"
        )


def _least_room(settings: GenerationSettings) -> int:
    """Tokens of the shortest answer that may come out, with its end; at least one and its end."""
    return max(1, settings.min_length) + 1


def longest_prompt(model: GenerativeModel, settings: GenerationSettings) -> int:
    """Tokens of the longest prompt that leaves room for an answer in the model's positions: for the
    shortest that is allowed and its end, or for a whole canvas. The settings are ``settled``."""
    on_canvas = model.kind == "diffusion" and settings.length == "canvas"
    least = _least_room(settings)
    return model.backbone.longest_prompt((settings.canvas_length or least) if on_canvas else least)


def candidate_lengths(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    references: list[str] | None,
    settings: GenerationSettings,
    share: Share = ALONE,
) -> tuple[list[list[LengthChoice]], int]:
    """Lengths to decode for each prompt, best first, and the network calls made.

    Raises:
        UserError: Lengths are to be predicted without a predictor, or an oracle without
            references; a prompt leaves no room for an answer.
    """
    room = room_for_answers(model, prompt_ids, settings)
    if settings.length == "oracle":
        if references is None:
            raise UserError("length=oracle needs references: use length=predicted")
        known = encode_responses(model.tokenizer, references)
        oracle = [[LengthChoice(max(1, len(ids)), 0.0)] for ids in known]
        return _fit(oracle, room), 0
    if model.length_predictor is None:
        raise UserError(
            "this model has no length predictor: use the model of a `length` stage, or "
            "generation.length=oracle where references exist"
            + (", or generation.length=canvas" if model.canvas_length else "")
        )
    lengths, calls = _predicted(model, prompt_ids, settings, share)
    return _fit(lengths, room), calls


@torch.inference_mode()
def _predicted(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    settings: GenerationSettings,
    share: Share,
) -> tuple[list[list[LengthChoice]], int]:
    predictor = model.length_predictor
    assert predictor is not None
    lengths: list[list[LengthChoice]] = [[] for _ in prompt_ids]

    def work(batch: list[int]) -> tuple[list[list[int]], list[list[float]]]:
        tokens_BL, valid_BL = pad([prompt_ids[i] for i in batch], model)
        feature_BLH = model.backbone.hidden(
            tokens_BL, valid_BL, response_BL=torch.zeros_like(valid_BL)
        )
        logits_BC = predictor(feature_BLH, valid_BL)
        shorter = max(0, settings.min_length - 1)
        length_BK = top_lengths(logits_BC[:, shorter:], settings.length_beam) + shorter
        log_p_BK = logits_BC.float().log_softmax(-1).gather(1, length_BK - 1)
        return length_BK.tolist(), log_p_BK.tolist()

    batches = batches_of_like_length([len(ids) for ids in prompt_ids], settings.batch_tokens)
    for batch, (length_BK, log_p_BK) in zip(batches, share.map(work, batches), strict=True):
        for index, row, log_p in zip(batch, length_BK, log_p_BK, strict=True):
            lengths[index] = [LengthChoice(*choice) for choice in zip(row, log_p, strict=True)]
    return lengths, len(batches)


def pad(rows: list[list[int]], model: GenerativeModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded on the right [B, L], and which of them are real."""
    width = max(map(len, rows))
    tokens = torch.tensor([row + [model.special.pad] * (width - len(row)) for row in rows])
    valid = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return tokens.to(model.device), valid.to(model.device)


def room_for_answers(
    model: GenerativeModel, prompt_ids: list[list[int]], settings: GenerationSettings
) -> list[int]:
    """The longest answer that fits the model's positions behind each prompt, with its end token.

    Raises:
        UserError: A prompt leaves no room for an answer.
    """
    longest = max(map(len, prompt_ids))
    if model.backbone.room_behind(longest) < _least_room(settings):
        least = f" of at least {settings.min_length} tokens" if settings.min_length > 1 else ""
        raise UserError(
            f"a prompt of {longest} tokens leaves no room for an answer{least} in "
            f"{model.backbone.room_text}: shorten the prompt"
            + (", or lower generation.min_length" if least else "")
        )
    return [model.backbone.room_behind(len(ids)) - 1 for ids in prompt_ids]


def longest_answers(
    model: GenerativeModel, prompt_ids: list[list[int]], settings: GenerationSettings
) -> list[int]:
    """Tokens, without its end, of the longest answer that can come out behind each prompt. The
    settings are ``settled``.

    Raises:
        UserError: A prompt leaves no room for an answer.
    """
    room = room_for_answers(model, prompt_ids, settings)
    if model.kind == "autoregressive":
        most = settings.max_new_tokens
    elif settings.length == "canvas":
        return [settings.canvas_length or 0] * len(prompt_ids)
    elif settings.length == "predicted" and model.length_predictor is not None:
        most = model.length_predictor.max_length
    else:
        return room
    return [min(most, own) for own in room]


def references_beyond(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    lengths: Sequence[int],
    settings: GenerationSettings,
) -> int:
    """How many references no answer can equal, because they have more tokens (``lengths``) than one
    may have."""
    most = longest_answers(model, prompt_ids, settled(model, settings))
    return sum(length > longest for length, longest in zip(lengths, most, strict=True))


def _fit(lengths: list[list[LengthChoice]], room: list[int]) -> list[list[LengthChoice]]:
    """Cut lengths so that prompt, answer and end token fit the model's positions; of lengths that
    this makes equal, the likeliest stays."""
    fitting: list[list[LengthChoice]] = []
    for row, most in zip(lengths, room, strict=True):
        kept: dict[int, LengthChoice] = {}
        for length, log_probability in row:
            kept.setdefault(min(length, most), LengthChoice(min(length, most), log_probability))
        fitting.append(list(kept.values()))
    return fitting


def of_one_length(
    model: GenerativeModel, settings: GenerationSettings, length: int
) -> tuple[GenerativeModel, GenerationSettings]:
    """A model whose answers all have this many tokens, and the settings to ask it with: a least
    length of the model's own says nothing there."""
    told = replace(model, length_predictor=OneLength(length))  # type: ignore[arg-type]
    return told, replace(
        settings, length="predicted", length_beam=1, canvas_length=None, min_length=0
    )


class OneLength(nn.Module):
    """A length predictor that always says the same."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = self.max_length = length

    def forward(self, feature_BLH: Tensor, valid_BL: Tensor) -> Tensor:
        """Logits of the lengths 1 to ``length``, [B, length]."""
        logits_BC = torch.full((len(feature_BLH), self.length), -torch.inf)
        logits_BC[:, -1] = 0.0
        return logits_BC.to(feature_BLH.device)
