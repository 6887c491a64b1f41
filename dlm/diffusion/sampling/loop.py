"""The one loop of the reverse process (arXiv 2302.05737, algorithm 2; method: reverse process)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.choice import SCORES, choose_tokens, log_probabilities
from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.schedule import noise_rate, noise_table
from dlm.diffusion.sampling.state import Canvas, Prediction, Step

Predict = Callable[[Tensor], Tensor]
"""Slot tokens [B, N] -> logits of every slot [B, N, V]; the caller holds the context."""
Observe = Callable[[int, Canvas], None]
"""Called after every iteration with its number and the canvas (traces)."""


@dataclass(frozen=True)
class Denoised:
    """The finished canvas."""

    tokens_BN: Tensor
    """Tokens; the mask token on slots that do not exist."""
    log_probability_BN: Tensor
    """Log-probability that each token had when it was last set; 0 where no slot is."""
    num_network_calls: int
    """How often the network was called on the batch."""


def denoise(
    predict: Predict,
    slot_BN: Tensor,
    *,
    sampler: Sampler,
    num_iterations: int,
    mask_token_id: int,
    forbidden_ids: Tensor,
    key: DrawKey | None = None,
    block_length: int | None = None,
    end_token_id: int | None = None,
    observe: Observe | None = None,
) -> Denoised:
    """Generate every slot from noise.

    Args:
        predict: The network over the slots.
        slot_BN: Which slots exist, bool.
        sampler: The parts.
        num_iterations: M of the method: network calls, of each block if there are blocks. An upper
            limit for samplers that stop early.
        mask_token_id: The absorbing state.
        forbidden_ids: Tokens that are never predicted, the mask token among them, int64.
        key: What random numbers are a function of, for samplers that draw.
        block_length: Slots are generated in blocks of so many from left to right, each from noise
            to the end (semi-autoregressive; LLaDA, BD3-LM).
        end_token_id: A token behind which a row says nothing more: once a finished block holds it,
            the row's later blocks are filled with it and not generated. None: there is no such
            token.
        observe: Called after every iteration.

    Raises:
        ValueError: The sampler draws and has no random numbers, a canvas is not a whole number of
            blocks, or end tokens are to be set last and there are none.
    """
    if sampler.end_last and end_token_id is None:
        raise ValueError("end_last is read where answers end themselves (length=canvas): remove it")
    if sampler.draws and key is None:
        raise ValueError("this sampler draws at random: give it a seed")
    canvas = Canvas(
        tokens_BN=torch.full_like(slot_BN, mask_token_id, dtype=torch.int64),
        noise_BN=slot_BN,
        slot_BN=slot_BN,
        log_probability_BN=torch.zeros(slot_BN.shape, device=slot_BN.device),
        score_BN=torch.zeros(slot_BN.shape, device=slot_BN.device),
    )
    key = key or DrawKey(0, torch.zeros(len(slot_BN), dtype=torch.int64, device=slot_BN.device))
    number_BN = slot_BN.cumsum(dim=1) - 1
    calls = 0
    for block, block_BN in enumerate(_blocks(slot_BN, block_length)):
        active_BN = block_BN & canvas.noise_BN  # nothing of a row that has ended
        if not active_BN.any():
            break
        counts = noise_table(sampler.schedule, active_BN.sum(dim=1).tolist(), num_iterations)
        for number, count_B in enumerate(counts.to(slot_BN.device), start=1):
            # Not the calls so far: how many those were depends on the other rows.
            draws = Draws(key, block * num_iterations + number - 1, number_BN)
            step = _step(sampler, number, num_iterations, count_B, draws)
            prediction = _predict(predict, canvas, sampler, forbidden_ids, end_token_id, step)
            part = replace(canvas, slot_BN=active_BN, noise_BN=canvas.noise_BN & active_BN)
            noise_BN, set_BN = sampler.renoise(part, prediction, step)
            noise_BN = noise_BN | (canvas.noise_BN & ~active_BN)
            canvas = advance(canvas, prediction, noise_BN, set_BN, mask_token_id)
            if end_token_id is not None and (number == num_iterations or sampler.stops_early):
                canvas = _ended(canvas, active_BN, end_token_id)
            calls += 1
            if observe is not None:
                observe(calls, canvas)
            if sampler.stops_early and not (canvas.noise_BN & active_BN).any():
                break
    return Denoised(canvas.tokens_BN, canvas.log_probability_BN, calls)


def _blocks(slot_BN: Tensor, block_length: int | None) -> list[Tensor]:
    """The slots of each block, bool [B, N]; one block of all slots if there are no blocks."""
    if block_length is None:
        return [slot_BN]
    for length in slot_BN.sum(dim=1).tolist():
        if length % block_length:
            raise ValueError(
                f"a canvas of {length} tokens is not a whole number of blocks of {block_length}: "
                "choose a block_length that divides every length, or a fixed canvas"
            )
    block_BN = (slot_BN.cumsum(dim=1) - 1) // block_length
    count = int(slot_BN.sum(dim=1).max()) // block_length
    return [slot_BN & (block_BN == number) for number in range(count)]


def _step(
    sampler: Sampler, number: int, iterations: int, count_B: Tensor, draws: Draws
) -> Step:  # fmt: skip
    before = noise_rate(sampler.schedule, number - 1, iterations)
    after = noise_rate(sampler.schedule, number, iterations)
    return Step(count_B, after, 1 - after / before, draws)


def _predict(
    predict: Predict,
    canvas: Canvas,
    sampler: Sampler,
    forbidden_ids: Tensor,
    end_token_id: int | None,
    step: Step,
) -> Prediction:
    log_p_BNV = log_probabilities(predict(canvas.tokens_BN), forbidden_ids)
    tokens_BN = choose_tokens(
        log_p_BNV, step.draws, temperature=sampler.temperature, top_k=sampler.top_k,
        top_p=sampler.top_p,
    )  # fmt: skip
    chosen_BN = log_p_BNV.gather(-1, tokens_BN[..., None]).squeeze(-1)
    score_BN = SCORES[sampler.score](log_p_BNV, chosen_BN, step.draws)
    rank_BN = score_BN
    if sampler.routing_noise:
        gumbel_BN = step.draws.routing_gumbel()
        rank_BN = score_BN + sampler.routing_noise * step.noise_rate * gumbel_BN
    if sampler.end_last and end_token_id is not None:
        # All alike, so the last of them are set first: the end grows from the right.
        rank_BN = rank_BN.masked_fill(tokens_BN == end_token_id, -torch.inf)
    return Prediction(tokens_BN, chosen_BN, score_BN, rank_BN)


def _ended(canvas: Canvas, active_BN: Tensor, end_token_id: int) -> Canvas:
    """Later blocks filled in, of the rows that are done with this one and have ended in it."""
    done_B = ~(canvas.noise_BN & active_BN).any(dim=1)
    end_B = ((canvas.tokens_BN == end_token_id) & active_BN).any(dim=1)
    rest_BN = canvas.noise_BN & (done_B & end_B)[:, None]
    return replace(
        canvas,
        tokens_BN=canvas.tokens_BN.masked_fill(rest_BN, end_token_id),
        noise_BN=canvas.noise_BN & ~rest_BN,
    )


def advance(
    canvas: Canvas, prediction: Prediction, noise_BN: Tensor, set_BN: Tensor, mask_token_id: int
) -> Canvas:
    """Apply a re-noising rule's decision."""

    def updated(new: Tensor, old: Tensor, noise: float) -> Tensor:
        return torch.where(set_BN, new, old).masked_fill(noise_BN, noise)

    return Canvas(
        tokens_BN=updated(prediction.tokens_BN, canvas.tokens_BN, mask_token_id),
        noise_BN=noise_BN,
        slot_BN=canvas.slot_BN,
        log_probability_BN=updated(prediction.log_probability_BN, canvas.log_probability_BN, 0.0),
        score_BN=updated(prediction.score_BN, canvas.score_BN, 0.0),
    )
