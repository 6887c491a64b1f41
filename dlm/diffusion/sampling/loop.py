"""The one loop of the reverse process (arXiv 2302.05737, algorithm 2; method: reverse process)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.ends import HeldBack
from dlm.diffusion.sampling.needed import Reader
from dlm.diffusion.sampling.network import EverySlot, Predict, SlotNetwork
from dlm.diffusion.sampling.predict import ranked
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.state import Canvas, Prediction
from dlm.diffusion.sampling.steps import steps_of

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
    min_length: int = 0,
    end_penalty: float = 0.0,
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
        block_length: Slots are generated in blocks of this many from left to right, each from noise
            to the end (semi-autoregressive; LLaDA, BD3-LM). A row's last block may be shorter.
        end_token_id: A token behind which a row says nothing more: once a finished block holds it,
            the row's later blocks are filled with it and not generated. None: there is no such
            token.
        min_length: The end token may not stand before slot ``min_length``, counted from 0.
        end_penalty: Subtracted from the end token's logit.
        observe: Called after every iteration.
        looks: Whether the canvas is looked at in every iteration, for rows whose prediction is
            known because nothing in them changed. A GPU has to be waited for; what cannot be
            foreseen (``Rule.num_read``) is looked at in any case. None: on a CPU.

    Raises:
        ValueError: Something is drawn and there is no ``key``, or end tokens are to be set last or
            held back and there are none.
    """
    if sampler.end_last and end_token_id is None:
        raise ValueError("end_last is read where answers end themselves (length=canvas): remove it")
    network = predict if isinstance(predict, SlotNetwork) else EverySlot(predict)
    looks = slot_BN.device.type == "cpu" if looks is None else looks
    rows_differ = sampler.rule.stops_early or num_iterations is None
    canvas = Canvas.all_noise(slot_BN, mask_token_id)
    held_back = HeldBack.of(end_token_id, min_length, end_penalty)
    reader = Reader(network, sampler, slot_BN, forbidden_ids, looks, held_back)
    number_BN = slot_BN.cumsum(dim=1) - 1
    iterations = 0
    for block, block_BN in enumerate(_blocks(slot_BN, block_length)):
        active_BN = block_BN & canvas.noise_BN  # nothing of a row that has ended
        # Not the iterations so far: how many those were depends on the other rows.
        draws = Draws(key, block * (num_iterations or block_length or 0), number_BN)
        steps, noise_MB = steps_of(sampler, active_BN, draws, num_iterations)
        if not steps:
            break
        reader.begin_block(noise_MB, slot_BN.device)
        for step in steps:
            part = canvas.within(active_BN)
            prediction = reader.read(canvas, part, step)
            noise_BN, set_BN = sampler.rule.decide(
                part, ranked(prediction, sampler, step, end_token_id), step
            )
            noise_BN = noise_BN | (canvas.noise_BN & ~active_BN)
            before, canvas = canvas, advance(canvas, prediction, noise_BN, set_BN, mask_token_id)
            if end_token_id is not None and (step is steps[-1] or rows_differ):
                canvas = _ended(canvas, active_BN, end_token_id)
            reader.remember(before, canvas)
            iterations += 1
            if observe is not None:
                observe(iterations, canvas)
            if sampler.rule.stops_early and not (canvas.noise_BN & active_BN).any():
                break
    return Denoised(canvas.tokens_BN, canvas.log_probability_BN, reader.calls)


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
