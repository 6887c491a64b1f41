"""Answers of the autoregressive twin by beam search."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dlm.diffusion.sampling.ends import HeldBack
from dlm.distributed.share import ALONE, Share
from dlm.generation.batches import batches_of_like_length
from dlm.generation.generated import Generated, Generation
from dlm.generation.lengths import longest_answers, pad
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.models.attention.prompt_cache import PromptCache
from dlm.tokens.text_form import decode_texts


@dataclass(frozen=True)
class _Hypothesis:
    tokens: list[int]
    log_probability: float
    ended: bool = False
    parent: int = 0
    """Which of the hypotheses that the network has read last it continues."""

    def score(self, length_penalty: float) -> float:
        """log-probability / length^penalty; the end token counts where there is one."""
        count = float(len(self.tokens) + self.ended)
        return self.log_probability / math.pow(count, length_penalty)


@dataclass
class _Beam:
    """The hypotheses of one prompt."""

    prompt: list[int]
    limit: int
    active: list[_Hypothesis] = field(default_factory=lambda: [_Hypothesis([], 0.0)])
    finished: list[_Hypothesis] = field(default_factory=list)


_Active = list[tuple[_Beam, _Hypothesis]]
_Read = Callable[[_Active], Tensor]
"""The hypotheses that go on -> the states [B, H] that say what comes next."""


def generate_autoregressively(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    settings: GenerationSettings,
    share: Share = ALONE,
) -> Generation:
    """Beam search with length penalty; beam size 1 is greedy.

    Raises:
        UserError: A prompt leaves no room for an answer.
    """
    answers: dict[int, Generated] = {}
    limits = longest_answers(model, prompt_ids, settings)
    sizes = [settings.beam_size * (len(ids) + 32) for ids in prompt_ids]

    def work(batch: list[int]) -> tuple[list[Generated], int]:
        beams = [_Beam(prompt_ids[i], limits[i]) for i in batch]
        read = _KeptRows(model).states if _keeps_rows(model) else partial(_whole_rows, model)
        calls = 0
        while any(beam.active for beam in beams):
            _extend(model, beams, settings, read)
            calls += 1
        return [_answer(model, beam, settings) for beam in beams], calls

    batches = batches_of_like_length(sizes, settings.batch_tokens)
    done = share.map(work, batches)
    for batch, (given, _) in zip(batches, done, strict=True):
        answers |= dict(zip(batch, given, strict=True))
    calls = sum(batch_calls for _, batch_calls in done)
    return Generation([answers[i] for i in range(len(prompt_ids))], calls)


def _keeps_rows(model: GenerativeModel) -> bool:
    # What a model of texts is given to continue is read from left to right too.
    return not model.texts and model.backbone.caches_prompts(model.device)


class _KeptRows:
    """Keys and values of all that was read are kept: a step reads the last tokens alone."""

    def __init__(self, model: GenerativeModel) -> None:
        self._model = model
        self._cache: PromptCache | None = None

    def states(self, active: _Active) -> Tensor:
        """The state of the last token of each hypothesis [B, H]."""
        model = self._model
        if self._cache is None:
            prompts = [beam.prompt for beam, _ in active]
            lengths = list(map(len, prompts))
            hidden_TH, layers = model.backbone.read_rows(*pad(prompts, model), lengths)
            self._cache = PromptCache(layers, lengths, model.device)
            last_B = torch.tensor(lengths, device=model.device).cumsum(0) - 1
            return hidden_TH.index_select(0, last_B)
        tokens_B = torch.tensor([h.tokens[-1] for _, h in active], device=model.device)
        rows = [hypothesis.parent for _, hypothesis in active]
        prompt_B = torch.tensor([len(beam.prompt) for beam, _ in active], device=model.device)
        number_B = torch.tensor([len(h.tokens) - 1 for _, h in active], device=model.device)
        place_B = model.backbone.places_responses.behind(prompt_B, number_B)
        hidden_BH, self._cache = model.backbone.next_states(self._cache, rows, tokens_B, place_B)
        return hidden_BH


def _whole_rows(model: GenerativeModel, active: _Active) -> Tensor:
    """The same by reading prompts and answers again, where nothing can be kept."""
    rows = [beam.prompt + hypothesis.tokens for beam, hypothesis in active]
    tokens_BL, valid_BL = pad(rows, model)
    prompt_B = torch.tensor([len(beam.prompt) for beam, _ in active], device=model.device)
    hidden_BLH = model.backbone.hidden(
        tokens_BL, valid_BL, attention="prefix_causal",
        response_BL=model.behind_prompts(valid_BL, prompt_B),
    )  # fmt: skip
    last_B = valid_BL.sum(dim=1) - 1
    return hidden_BLH[torch.arange(len(active)), last_B]


@torch.inference_mode()
def _extend(
    model: GenerativeModel, beams: list[_Beam], settings: GenerationSettings, read: _Read
) -> None:
    """Let every active hypothesis of every beam grow by one token."""
    active = [(beam, hypothesis) for beam in beams for hypothesis in beam.active]
    logits_BV = model.backbone.logits(read(active)).float()
    end = model.special.end
    if held_back := HeldBack.of(end, settings.min_length, settings.end_penalty):
        number_B = torch.tensor([len(h.tokens) for _, h in active], device=model.device)
        logits_BV = held_back.applied(logits_BV, number_B)
    forbidden = model.forbidden_ids
    logits_BV = logits_BV.index_fill(-1, forbidden[forbidden != end], -torch.inf)
    top = logits_BV.log_softmax(-1).topk(min(settings.beam_size + 1, logits_BV.shape[1]))
    choices = zip(active, top.values.tolist(), top.indices.tolist(), strict=True)
    grown: dict[int, list[tuple[float, _Hypothesis, int, int]]] = {}
    for number, ((beam, hypothesis), values, ids) in enumerate(choices):
        grown.setdefault(id(beam), []).extend(
            (hypothesis.log_probability + value, hypothesis, token, number)
            for value, token in zip(values, ids, strict=True)
            if value > -math.inf
        )
    for beam in beams:
        if beam.active:
            _select(beam, grown[id(beam)], end, settings)


def _select(
    beam: _Beam,
    grown: list[tuple[float, _Hypothesis, int, int]],
    end: int,
    settings: GenerationSettings,
) -> None:
    """Keep the best continuations; those that end are finished."""
    beam.active = []
    ranked = sorted(grown, key=lambda item: -item[0])[: 2 * settings.beam_size]
    for rank, (log_probability, hypothesis, token, number) in enumerate(ranked):
        if token == end:
            if rank < settings.beam_size:
                beam.finished.append(_Hypothesis(hypothesis.tokens, log_probability, ended=True))
        elif len(beam.active) < settings.beam_size:
            tokens = [*hypothesis.tokens, token]
            beam.active.append(_Hypothesis(tokens, log_probability, parent=number))
    full = bool(beam.active) and len(beam.active[0].tokens) >= beam.limit
    if len(beam.finished) >= settings.beam_size or full:
        beam.finished += beam.active if full else []
        beam.active = []


def _answer(model: GenerativeModel, beam: _Beam, settings: GenerationSettings) -> Generated:
    best = max(beam.finished, key=lambda h: h.score(settings.length_penalty))
    (text,) = decode_texts(model.tokenizer, [best.tokens])
    return Generated(text, len(best.tokens), best.score(1.0))
