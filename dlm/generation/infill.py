"""Infilling: a text with mask spans anywhere is completed, the rest of it stays as it is."""

import re
from dataclasses import dataclass, field, replace

from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.diffusion import denoise_masks
from dlm.generation.model import GenerativeModel
from dlm.generation.pieces import Pieces
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow
from dlm.generation.trace import History, Recorder

_LOOKS_LIKE_A_MASK = re.compile(r"\[\s*mask\b[^\[\]]*\]?", re.IGNORECASE)
_MASK = re.compile(r"\[MASK(?::([1-9][0-9]{0,8}))?\]")


@dataclass(frozen=True)
class InfillTemplate:
    """Fixed texts with a span of masks between every two."""

    texts: tuple[str, ...]
    """The text before, between and behind the spans, blanks included; one more than ``spans``."""
    spans: tuple[int, ...]
    """Tokens of each span, at least one span and one token."""

    def __str__(self) -> str:
        """As it is written: ``The [MASK:3] sat``."""
        masks = [f"[MASK:{count}]" if count > 1 else "[MASK]" for count in self.spans]
        return "".join(part for pair in zip(self.texts, [*masks, ""], strict=True) for part in pair)


@dataclass(frozen=True)
class Infilled:
    """A completed text."""

    text: str
    """The given texts to the letter, with what was generated between them."""
    spans: list[str]
    """What was generated, one text for each span."""
    score: float
    """Mean log-probability of the generated tokens, each when it was last set."""


@dataclass(frozen=True)
class Infilling:
    """All completed texts, in the order of their templates."""

    answers: list[Infilled]
    network_calls: int
    """Forward passes of the network, batched ones counted once."""
    histories: list[History] = field(default_factory=list)
    """What the canvas of each answer went through; none unless it was asked for."""


def parse_infill(text: str, *, place: str = "the infill text") -> InfillTemplate:
    """Read ``[MASK]`` (one token) and ``[MASK:n]`` (n tokens).

    Raises:
        UserError: A mask is written in another way, or there is none.
    """
    texts, spans, end = [], [], 0
    for found in _LOOKS_LIKE_A_MASK.finditer(text):
        mask = _MASK.fullmatch(found[0])
        if mask is None:
            raise UserError(
                f"{place}, character {found.start() + 1}: '{found[0][:40]}' is no mask; write "
                "[MASK] for one token or [MASK:3] for three, in capitals and without blanks"
            )
        texts.append(text[end : found.start()])
        spans.append(int(mask[1] or 1))
        end = found.end()
    if not spans:
        raise UserError(
            f"{place} has no mask, so there is nothing to fill in: write [MASK] for one token or "
            "[MASK:3] for three where text is missing"
        )
    return InfillTemplate((*texts, text[end:]), tuple(spans))


def infill(
    model: GenerativeModel,
    templates: list[InfillTemplate],
    settings: GenerationSettings,
    *,
    prompts: list[str] | None = None,
    record: bool = False,
    share: Share = ALONE,
) -> Infilling:
    """Complete every template by the reverse process on its masks.

    The sequence is  begin text end  as in pretraining, or  begin prompt end text end  with
    ``prompts``, one for each template. The text behind a prompt has the positions of a response,
    from its first token on, wherever its masks are; without a prompt it has those of plain text.
    Lengths are given, so ``settings`` decide the sampler alone.
    ``record`` keeps what every canvas went through; the ranks of ``share`` complete whole batches.

    Raises:
        UserError: The model is autoregressive, or a template has more tokens than the model has
            positions.
    """
    if model.kind == "autoregressive":
        raise UserError(
            "an autoregressive model writes from left to right and cannot fill in text: use a "
            "diffusion model"
        )
    # Nothing ends itself here.
    settings = replace(settings, end_last=None, min_length=0, end_penalty=0.0)
    pieces = Pieces(model.tokenizer)
    begin = [[model.special.begin]] * len(templates)
    heads = begin if prompts is None else encode_prompts(model.tokenizer, prompts)
    rows = [
        _row(
            model,
            pieces,
            head,
            template,
            f"infill text {number} of {len(templates)}",
            prompted=prompts is not None,
        )
        for number, (head, template) in enumerate(zip(heads, templates, strict=True), start=1)
    ]
    answers: dict[int, Infilled] = {}
    histories: dict[int, History] = {}
    calls = 0

    def work(batch: list[int]) -> tuple[list[list[int]], list[float], int, list[History]]:
        recorder = Recorder.for_sampler(settings.parts()) if record else None
        result = denoise_masks(model, [rows[i] for i in batch], settings, recorder)
        kept = [recorder.history(place) for place in range(len(batch))] if recorder else []
        log_probability_B = result.log_probability_BN.sum(dim=1)
        return result.tokens_BN.tolist(), log_probability_B.tolist(), result.num_network_calls, kept

    batches = batches_of_like_length([len(row.tokens) for row in rows], settings.batch_tokens)
    for batch, (tokens_BN, log_probability_B, batch_calls, kept) in zip(
        batches, share.map(work, batches), strict=True
    ):
        calls += batch_calls
        for place, index in enumerate(batch):
            template = templates[index]
            tokens = tokens_BN[place][: sum(template.spans)]
            score = log_probability_B[place] / len(tokens)
            answers[index] = _completed(template, tokens, pieces, score)
            if record:
                histories[index] = kept[place]
    order = range(len(templates))
    return Infilling(
        [answers[i] for i in order], calls, [histories[i] for i in order] if record else []
    )


def _row(
    model: GenerativeModel, pieces: Pieces, head: list[int], template: InfillTemplate, place: str,
    *, prompted: bool = False,
) -> SlotRow:  # fmt: skip
    """A template behind its head, with the end token.

    A blank before a mask is left to the mask: tokens carry the blank before their word.
    """
    masks = sum(template.spans)
    first, *others = (text.removesuffix(" ") for text in template.texts[:-1])
    others.append(template.texts[-1])
    fixed = [*encode_responses(model.tokenizer, [first]), *map(pieces.encode_after, others)]
    behind = sum(map(len, fixed)) + masks + 1
    room = model.backbone.room_behind(len(head)) if prompted else model.backbone.max_length - 1
    if behind > room:
        raise UserError(
            f"{place} has {len(head) + behind} tokens, {masks} of them masks, which do not fit "
            f"{model.backbone.room_text}: use fewer masks or a shorter text"
        )
    row, slots = [*head, *fixed[0]], list[int]()
    for count, text in zip(template.spans, fixed[1:], strict=True):
        slots += range(len(row), len(row) + count)
        row += [model.special.mask] * count + text
    return SlotRow([*row, model.special.end], slots, len(head) if prompted else None)


def _completed(
    template: InfillTemplate, tokens: list[int], pieces: Pieces, score: float
) -> Infilled:
    text, spans, start = "", [], 0
    for fixed, count in zip(template.texts, template.spans, strict=False):
        text += fixed
        span = pieces.decode_after(tokens[start : start + count])
        if not text or fixed.endswith(" "):  # the blank before the mask is there already
            span = span.removeprefix(" ")
        text, start = text + span, start + count
        spans.append(span)
    return Infilled(text + template.texts[-1], spans, score)
