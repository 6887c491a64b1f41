"""Answers by the reverse process, one canvas for every candidate length, reranked."""

import torch
from torch import Tensor

from dlm.diffusion.sampling.loop import denoise
from dlm.diffusion.sampling.samplers import get_sampler
from dlm.generation.batches import batches_of_like_length
from dlm.generation.lengths import LengthChoice, candidate_lengths, pad
from dlm.generation.model import GenerativeModel
from dlm.generation.rerank import RERANK, Candidate, best_of_each_prompt
from dlm.generation.settings import Generated, Generation, GenerationSettings


def generate_by_diffusion(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    references: list[str] | None,
    settings: GenerationSettings,
) -> Generation:
    """Decode every candidate length and keep the best by ``settings.rerank``."""
    lengths, calls = candidate_lengths(model, prompt_ids, references, settings)
    canvases = [(row, choice) for row, choices in enumerate(lengths) for choice in choices]
    sizes = [len(prompt_ids[row]) + choice.length + 1 for row, choice in canvases]
    decoded: list[Candidate | None] = [None] * len(canvases)
    for batch in batches_of_like_length(sizes, settings.batch_tokens):
        for index, candidate in zip(
            batch, _decode(model, [canvases[i] for i in batch], prompt_ids, settings), strict=True
        ):
            decoded[index] = candidate
        calls += settings.num_iterations
    best = best_of_each_prompt([c for c in decoded if c is not None], settings.rerank)
    answers = [best[row] for row in range(len(prompt_ids))]
    score = RERANK[settings.rerank]
    texts = model.tokenizer.batch_decode([a.tokens for a in answers], skip_special_tokens=True)
    return Generation(
        [
            Generated(text.strip(), len(answer.tokens), score(answer))
            for text, answer in zip(texts, answers, strict=True)
        ],
        calls,
    )


@torch.inference_mode()
def _decode(
    model: GenerativeModel,
    canvases: list[tuple[int, LengthChoice]],
    prompt_ids: list[list[int]],
    settings: GenerationSettings,
) -> list[Candidate]:
    special = model.special
    rows = [prompt_ids[row] + [special.mask] * c.length + [special.end] for row, c in canvases]
    tokens_BL, valid_BL = pad(rows, model)
    length_B = torch.tensor([choice.length for _, choice in canvases], device=model.device)
    start_B = torch.tensor([len(prompt_ids[row]) for row, _ in canvases], device=model.device)
    slot_N = torch.arange(int(length_B.max()), device=model.device)
    slot_BN = slot_N[None] < length_B[:, None]
    result = denoise(
        _SlotNetwork(model, tokens_BL, valid_BL, start_B, slot_BN), slot_BN,
        sampler=get_sampler(settings.sampler), num_iterations=settings.num_iterations,
        mask_token_id=special.mask, forbidden_ids=model.forbidden_ids,
    )  # fmt: skip
    log_probability_B = result.log_probability_BN.sum(dim=1)
    return [
        Candidate(row, tokens[: choice.length], log_probability, choice.log_probability)
        for (row, choice), tokens, log_probability in zip(
            canvases, result.tokens_BN.tolist(), log_probability_B.tolist(), strict=True
        )
    ]


class _SlotNetwork:
    """Slot tokens [B, N] -> slot logits [B, N, V], inside the fixed prompt and end token."""

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, start_B: Tensor,
        slot_BN: Tensor,
    ) -> None:  # fmt: skip
        self.backbone = model.backbone
        self.tokens_BL, self.valid_BL = tokens_BL, valid_BL
        place_BN = start_B[:, None] + torch.arange(slot_BN.shape[1], device=start_B.device)
        row_B1 = torch.arange(len(start_B), device=start_B.device)[:, None]
        width = tokens_BL.shape[1]
        # Slots that do not exist read the row's first token; their logits are never used.
        self.read_BN = row_B1 * width + torch.where(slot_BN, place_BN, 0)
        self.slots_S = slot_BN.flatten().nonzero().squeeze(1)
        self.write_S = self.read_BN.flatten()[self.slots_S]

    def __call__(self, tokens_BN: Tensor) -> Tensor:
        tokens_BL = self.tokens_BL.clone()
        tokens_BL.view(-1)[self.write_S] = tokens_BN.flatten()[self.slots_S]
        hidden_BLH = self.backbone.hidden(tokens_BL, self.valid_BL)
        return self.backbone.logits(hidden_BLH.flatten(0, 1)[self.read_BN])
