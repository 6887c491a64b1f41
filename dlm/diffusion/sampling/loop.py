"""The one loop of the reverse process (arXiv 2302.05737, algorithm 2; method: reverse process)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.finding import (
    can_foresee,
    foreseen,
    look,
    noise_numbers,
)
from dlm.diffusion.sampling.network import EverySlot, Predict, SlotNetwork
from dlm.diffusion.sampling.predict import nothing_predicted, predicted, ranked
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.schedule import rate_tables
from dlm.diffusion.sampling.state import Canvas, Prediction, Step

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
    """How often the network was called, on the batch or some rows of it."""


def denoise(
    predict: Predict | SlotNetwork,
    slot_BN: Tensor,
    *,
    sampler: Sampler,
    num_iterations: int | None,
    mask_token_id: int,
    forbidden_ids: Tensor,
    key: DrawKey | None = None,
    block_length: int | None = None,
    end_token_id: int | None = None,
    observe: Observe | None = None,
    looks: bool | None = None,
) -> Denoised:
    """Generate every slot from noise.

    In every iteration the network is called for the rows, and asked for the logits of the slots,
    that the sampler's rule reads.

    Args:
        predict: The network over the slots; a plain function computes them all.
        slot_BN: Which slots exist, bool.
        sampler: The parts.
        num_iterations: M of the method: network calls, of each block if there are blocks. Samplers
            that stop early set everything that is left in the last of them. None: each row has as
            many as it has slots (in a block); one slot an iteration, where the schedule is even.
        mask_token_id: The absorbing state.
        forbidden_ids: Tokens that are never predicted, the mask token among them, int64.
        key: What random numbers are a function of, for whatever draws. A row's draws are its own
            where its number is.
        block_length: Slots are generated in blocks of so many from left to right, each from noise
            to the end (semi-autoregressive; LLaDA, BD3-LM). A row's last block may be shorter.
        end_token_id: A token behind which a row says nothing more: once a finished block holds it,
            the row's later blocks are filled with it and not generated. None: there is no such
            token.
        observe: Called after every iteration.
        looks: Whether the canvas is looked at in every iteration, for rows whose prediction is
            known because nothing in them changed. A GPU has to be waited for; what cannot be
            foreseen (samplers that stop early, new rules) is looked at in any case. None: on a CPU.

    Raises:
        ValueError: Something is drawn and there is no ``key``, or end tokens are to be set last and
            there are none.
    """
    if sampler.end_last and end_token_id is None:
        raise ValueError("end_last is read where answers end themselves (length=canvas): remove it")
    network = predict if isinstance(predict, SlotNetwork) else EverySlot(predict)
    looks = slot_BN.device.type == "cpu" if looks is None else looks
    looks = looks or not can_foresee(sampler)
    rows_differ = sampler.stops_early or num_iterations is None
    canvas = Canvas(
        tokens_BN=torch.full_like(slot_BN, mask_token_id, dtype=torch.int64),
        noise_BN=slot_BN,
        slot_BN=slot_BN,
        log_probability_BN=torch.zeros(slot_BN.shape, device=slot_BN.device),
        score_BN=torch.zeros(slot_BN.shape, device=slot_BN.device),
    )
    number_BN = slot_BN.cumsum(dim=1) - 1
    prediction, known_BN = nothing_predicted(slot_BN), torch.zeros_like(slot_BN)
    calls = iterations = 0
    for block, block_BN in enumerate(_blocks(slot_BN, block_length)):
        active_BN = block_BN & canvas.noise_BN  # nothing of a row that has ended
        # Not the iterations so far: how many those were depends on the other rows.
        before = block * (num_iterations or block_length or 0)
        draws = Draws(key, before, number_BN)
        lengths = active_BN.sum(dim=1).tolist()
        if not any(lengths):
            break
        rate_MB1, set_MB1 = (
            table.to(slot_BN.device)
            for table in rate_tables(sampler.schedule, lengths, num_iterations)
        )
        count_MB, noise_MB = noise_numbers(
            sampler, active_BN, lengths, draws, num_iterations, set_MB1
        )
        plan = None if looks else foreseen(sampler, noise_MB, slot_BN.device)
        for number, count_B in enumerate(count_MB, start=1):
            draws = Draws(key, before + number - 1, number_BN)
            step = Step(count_B, rate_MB1[number - 1], set_MB1[number - 1], draws)
            part = replace(canvas, slot_BN=active_BN, noise_BN=canvas.noise_BN & active_BN)
            wanted_BN = sampler.reads(part, step) & ~known_BN
            wanted = plan.wanted(number, wanted_BN) if plan else look(wanted_BN)
            if wanted is not None:
                wanted = replace(wanted, iteration=draws.iteration)
                prediction = predicted(
                    network, canvas, wanted, prediction, sampler, forbidden_ids, draws
                )
                calls += 1
            noise_BN, set_BN = sampler.renoise(
                part, ranked(prediction, sampler, step, end_token_id), step
            )
            noise_BN = noise_BN | (canvas.noise_BN & ~active_BN)
            old_BN = canvas.tokens_BN
            canvas = advance(canvas, prediction, noise_BN, set_BN, mask_token_id)
            if end_token_id is not None and (number == len(count_MB) or rows_differ):
                canvas = _ended(canvas, active_BN, end_token_id)
            if looks and sampler.repeats and network.repeats:
                # A row that stays as it is has the prediction that it has.
                same_B1 = (canvas.tokens_BN == old_BN).all(dim=1, keepdim=True)
                known_BN = (known_BN | wanted_BN) & same_B1
            iterations += 1
            if observe is not None:
                observe(iterations, canvas)
            if sampler.stops_early and not (canvas.noise_BN & active_BN).any():
                break
    return Denoised(canvas.tokens_BN, canvas.log_probability_BN, calls)


def _blocks(slot_BN: Tensor, block_length: int | None) -> list[Tensor]:
    """The slots of each block, bool [B, N]; one block of all slots if there are no blocks."""
    if block_length is None:
        return [slot_BN]
    block_BN = (slot_BN.cumsum(dim=1) - 1) // block_length
    count = -(-int(slot_BN.sum(dim=1).max()) // block_length)
    return [slot_BN & (block_BN == number) for number in range(count)]


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
