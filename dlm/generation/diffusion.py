"""Answers by the reverse process, one canvas for every candidate length, reranked."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_bits
from dlm.diffusion.sampling.draws import DrawKey
from dlm.diffusion.sampling.guidance import Guided
from dlm.diffusion.sampling.loop import Denoised, Observe, denoise
from dlm.diffusion.sampling.network import SlotNetwork
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.generated import Generated, Generation
from dlm.generation.lengths import LengthChoice, candidate_lengths, pad
from dlm.generation.model import GenerativeModel
from dlm.generation.prefix_network import context_network
from dlm.generation.rerank import Candidate, best_of_each_prompt
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow
from dlm.generation.trace import History, Recorder
from dlm.tokens.text_form import decode_texts


def generate_by_diffusion(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    references: list[str] | None,
    settings: GenerationSettings,
    *,
    record: bool = False,
    share: Share = ALONE,
) -> Generation:
    """Decode every candidate length and keep the best by ``settings.rerank``; ``record`` keeps
    what the canvas of the best went through."""
    lengths, calls = candidate_lengths(model, prompt_ids, references, settings, share)
    canvases = [(row, choice) for row, choices in enumerate(lengths) for choice in choices]
    sizes = [len(prompt_ids[row]) + choice.length + 1 for row, choice in canvases]
    decoded: list[Candidate | None] = [None] * len(canvases)
    histories: dict[int, History] = {}

    def work(batch: list[int]) -> tuple[list[Candidate], int, list[History]]:
        recorder = Recorder.for_sampler(settings.parts()) if record else None
        candidates, batch_calls = _decode(
            model, [canvases[i] for i in batch], prompt_ids, settings, recorder
        )
        kept = [recorder.history(place) for place in range(len(batch))] if recorder else []
        return candidates, batch_calls, kept

    batches = batches_of_like_length(sizes, settings.batch_tokens)
    for batch, (candidates, batch_calls, kept) in zip(
        batches, share.map(work, batches), strict=True
    ):
        calls += batch_calls
        for place, (index, candidate) in enumerate(zip(batch, candidates, strict=True)):
            decoded[index] = candidate
            if record:
                histories[id(candidate)] = kept[place]

    def decode(rows: list[list[int]]) -> list[str]:
        return decode_texts(model.tokenizer, rows)

    found = [candidate for candidate in decoded if candidate is not None]
    best = best_of_each_prompt(found, settings.rerank, decode)
    answers, scores = zip(*(best[row] for row in range(len(prompt_ids))), strict=True)
    texts = decode([answer.tokens for answer in answers])
    return Generation(
        [
            Generated(text, len(answer.tokens), score)
            for text, answer, score in zip(texts, answers, scores, strict=True)
        ],
        calls,
        [histories[id(answer)] for answer in answers] if record else [],
    )


@torch.inference_mode()
def _decode(
    model: GenerativeModel,
    canvases: list[tuple[int, LengthChoice]],
    prompt_ids: list[list[int]],
    settings: GenerationSettings,
    observe: Observe | None,
) -> tuple[list[Candidate], int]:
    special = model.special
    rows = [SlotRow.behind(prompt_ids[row], choice.length, special) for row, choice in canvases]
    result = denoise_masks(model, rows, settings, observe)
    log_probability_B = result.log_probability_BN.sum(dim=1)
    candidates = [
        Candidate(row, tokens[: choice.length], log_probability, choice.log_probability)
        for (row, choice), tokens, log_probability in zip(
            canvases, result.tokens_BN.tolist(), log_probability_B.tolist(), strict=True
        )
    ]
    return candidates, result.num_network_calls


@torch.inference_mode()
def denoise_masks(
    model: GenerativeModel,
    rows: list[SlotRow],
    settings: GenerationSettings,
    observe: Observe | None = None,
    *,
    ends_itself: bool = False,
) -> Denoised:
    """Generate the slots of every row; the rest of it is fixed context.

    Args:
        model: The network.
        rows: Token ids, and which of them are slots.
        settings: The sampler and its iterations.
        observe: Called after every iteration with its number and the canvas.
        ends_itself: Whether the end token may be generated, and ends a row.

    Raises:
        UserError: A canvas is not a whole number of blocks, or guidance has nothing to leave out.
    """
    tokens_BL, valid_BL = pad([row.tokens for row in rows], model)
    place_BN, slot_BN = _places([row.slots for row in rows], model.device)
    lengths = [len(row.tokens) for row in rows]
    column_L = torch.arange(tokens_BL.shape[1], device=model.device)
    first_B = [length if row.response is None else row.response
               for row, length in zip(rows, lengths, strict=True)]  # fmt: skip
    response_BL = valid_BL & (column_L >= torch.tensor(first_B, device=model.device)[:, None])
    context = partial(
        context_network, model, valid_BL=valid_BL, lengths=lengths, place_BN=place_BN,
        slot_BN=slot_BN, response_BL=response_BL, prompt_cache=settings.prompt_cache,
    )  # fmt: skip
    network: SlotNetwork = context(tokens_BL=tokens_BL)
    if settings.guidance:
        bare_BL = _without_context(
            model, tokens_BL, valid_BL, rows, keep_special=settings.guidance_keeps_special
        )
        network = Guided(network, context(tokens_BL=bare_BL), settings.guidance)
    _check_blocks(settings.block_length, [len(row.slots) for row in rows])
    try:
        parts = settings.parts()
        result = denoise(
            network, slot_BN, sampler=parts, num_iterations=parts.num_iterations,
            mask_token_id=model.special.mask,
            forbidden_ids=model.forbidden_ids_on_canvas if ends_itself else model.forbidden_ids,
            key=DrawKey(settings.seed, row_numbers(tokens_BL, valid_BL)),
            block_length=parts.block_length,
            end_token_id=model.special.end if ends_itself else None,
            min_length=settings.min_length if ends_itself else 0,
            end_penalty=settings.end_penalty if ends_itself else 0.0, observe=observe,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error
    calls = result.num_network_calls * (2 if settings.guidance else 1)
    return replace(result, num_network_calls=calls)


def _check_blocks(block_length: int | None, lengths: list[int]) -> None:
    """Blocks that were asked for are whole ones; a sampler's own end with what is left.

    Raises:
        UserError: A canvas is not a whole number of them.
    """
    for length in lengths if block_length else ():
        if length % (block_length or 1):
            raise UserError(
                f"a canvas of {length} tokens is not a whole number of blocks of {block_length}: "
                "choose a block_length that divides every length, or a fixed canvas"
            )


def row_numbers(tokens_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """A number for each row that is a function of its tokens alone, int64 [B]."""
    place_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0)
    return (counter_bits(place_BL, tokens_BL) * valid_BL).sum(dim=1)


def _places(columns: list[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """The columns of each row's slots, int64 [B, N], and which of them are any, bool [B, N]; those
    that are none lie in the first column."""
    most = max(map(len, columns))
    place_BN = torch.tensor([[*row, *[0] * (most - len(row))] for row in columns])
    slot_BN = torch.arange(most) < torch.tensor(list(map(len, columns)))[:, None]
    return place_BN.to(device), slot_BN.to(device)


def _without_context(
    model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, rows: list[SlotRow], *,
    keep_special: bool,
) -> Tensor:  # fmt: skip
    """The rows with their whole context masked, begin and end tokens too, as LLaDA, SMDM and dLLM
    do; what is left is the answer's own end token, where its length is given. ``keep_special``:
    the row's begin and the prompt's end are left too.

    Raises:
        UserError: A row has nothing else than masks and special tokens.
    """
    kept_BL = torch.zeros_like(valid_BL)
    for number, row in enumerate(rows):
        if len(row.tokens) == len({*row.frame, *row.slots}):
            raise UserError(
                "guidance compares the answer with that to an empty prompt, and there is no "
                "prompt: give one, or leave generation.guidance out"
            )
        kept_BL[number, [*(row.frame if keep_special else row.end), *row.slots]] = True
    return tokens_BL.masked_fill(valid_BL & ~kept_BL, model.special.mask)
