"""Answers by the reverse process, one canvas for every candidate length, reranked."""

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
from dlm.generation.lengths import LengthChoice, candidate_lengths, pad
from dlm.generation.model import GenerativeModel
from dlm.generation.prefix_network import context_network
from dlm.generation.rerank import Candidate, best_of_each_prompt
from dlm.generation.settings import Generated, Generation, GenerationSettings
from dlm.generation.trace import History, Recorder
from dlm.models.response import response_of


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
        return model.tokenizer.batch_decode(rows, skip_special_tokens=True)

    found = [candidate for candidate in decoded if candidate is not None]
    best = best_of_each_prompt(found, settings.rerank, decode)
    answers, scores = zip(*(best[row] for row in range(len(prompt_ids))), strict=True)
    texts = decode([answer.tokens for answer in answers])
    return Generation(
        [
            Generated(text.strip(), len(answer.tokens), score)
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
    rows = [prompt_ids[row] + [special.mask] * c.length + [special.end] for row, c in canvases]
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
    rows: list[list[int]],
    settings: GenerationSettings,
    observe: Observe | None = None,
    *,
    ends_itself: bool = False,
) -> Denoised:
    """Generate the mask tokens of every row; the rest of it is fixed context.

    Args:
        model: The network.
        rows: Token ids, each row with at least one mask token. A row's slots are its mask tokens
            from left to right, wherever they stand.
        settings: The sampler and its iterations.
        observe: Called after every iteration with its number and the canvas.
        ends_itself: Whether the end token may be generated, and ends a row.

    Raises:
        UserError: A canvas is not a whole number of blocks, or guidance has nothing to leave out.
    """
    tokens_BL, valid_BL = pad(rows, model)
    mask_BL = tokens_BL == model.special.mask
    length_B = mask_BL.sum(dim=1)
    slot_N = torch.arange(int(length_B.max()), device=model.device)
    slot_BN = slot_N[None] < length_B[:, None]
    # A stable sort of "is no mask" brings the places of the masks to the front, in their order.
    place_BN = (~mask_BL).int().argsort(dim=1, stable=True)[:, : slot_BN.shape[1]]
    lengths = list(map(len, rows))
    context = partial(
        context_network, model, valid_BL=valid_BL, lengths=lengths, place_BN=place_BN,
        slot_BN=slot_BN, prompt_cache=settings.prompt_cache,
        # Of the rows as they are: without a prompt the answer stands where it stood.
        response_BL=response_of(tokens_BL, valid_BL, model.special.end),
    )  # fmt: skip
    network: SlotNetwork = context(tokens_BL=tokens_BL)
    if settings.guidance:
        bare_BL = _without_context(
            model, tokens_BL, valid_BL, mask_BL, keep_special=settings.guidance_keeps_special
        )
        network = Guided(network, context(tokens_BL=bare_BL), settings.guidance)
    _check_blocks(settings.block_length, length_B.tolist())
    try:
        parts = settings.parts()
        result = denoise(
            network, slot_BN, sampler=parts, num_iterations=parts.num_iterations,
            mask_token_id=model.special.mask,
            forbidden_ids=model.forbidden_ids_on_canvas if ends_itself else model.forbidden_ids,
            key=DrawKey(settings.seed, _row_numbers(tokens_BL, valid_BL)),
            block_length=parts.block_length,
            end_token_id=model.special.end if ends_itself else None, observe=observe,
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


def _row_numbers(tokens_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """A number for each row that is a function of its tokens alone, int64 [B]."""
    place_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0)
    return (counter_bits(place_BL, tokens_BL) * valid_BL).sum(dim=1)


def _without_context(
    model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, mask_BL: Tensor, *,
    keep_special: bool,
) -> Tensor:  # fmt: skip
    """The rows with their whole context masked, begin and end tokens too, as LLaDA, SMDM and dLLM
    do; what is left is the answer's own end token, where its length is given. ``keep_special``:
    all special tokens are left.

    Raises:
        UserError: A row has nothing else than masks and special tokens.
    """
    special = torch.tensor(model.tokenizer.all_special_ids, device=model.device)
    context_BL = valid_BL & ~mask_BL
    words_BL = context_BL & ~torch.isin(tokens_BL, special)
    if keep_special:
        context_BL = words_BL
    else:
        last_BL = valid_BL.flip(1).cumsum(dim=1).flip(1) == 1
        context_BL &= ~(last_BL & (tokens_BL == model.special.end))
    if not words_BL.any(dim=1).all():
        raise UserError(
            "guidance compares the answer with that to an empty prompt, and there is no prompt: "
            "give one, or leave generation.guidance out"
        )
    return tokens_BL.masked_fill(context_BL, model.special.mask)
