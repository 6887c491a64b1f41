"""The one loop of the reverse process (arXiv 2302.05737, algorithm 2; method: reverse process)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.schedule import noise_table
from dlm.diffusion.sampling.state import Canvas, Prediction

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
    observe: Observe | None = None,
) -> Denoised:
    """Generate every slot from noise in ``num_iterations`` network calls.

    Args:
        predict: The network over the slots.
        slot_BN: Which slots exist, bool.
        sampler: The parts.
        num_iterations: M of the method.
        mask_token_id: The absorbing state.
        forbidden_ids: Tokens that are never predicted, the mask token among them, int64.
    """
    canvas = Canvas(
        tokens_BN=torch.full_like(slot_BN, mask_token_id, dtype=torch.int64),
        noise_BN=slot_BN,
        slot_BN=slot_BN,
        log_probability_BN=torch.zeros(slot_BN.shape, device=slot_BN.device),
    )
    lengths = slot_BN.sum(dim=1).tolist()
    counts = noise_table(sampler.schedule, lengths, num_iterations).to(slot_BN.device)
    for iteration in range(num_iterations):
        prediction = choose(predict(canvas.tokens_BN), forbidden_ids)
        noise_BN, set_BN = sampler.renoise(canvas, prediction, counts[iteration])
        canvas = advance(canvas, prediction, noise_BN, set_BN, mask_token_id)
        if observe is not None:
            observe(iteration + 1, canvas)
    return Denoised(canvas.tokens_BN, canvas.log_probability_BN, num_iterations)


def choose(logits_BNV: Tensor, forbidden_ids: Tensor) -> Prediction:
    """Argmax tokens, scored by their log-probability in float32."""
    log_p_BNV = logits_BNV.float().index_fill(-1, forbidden_ids, -torch.inf).log_softmax(-1)
    log_probability_BN, tokens_BN = log_p_BNV.max(-1)
    return Prediction(tokens_BN, log_probability_BN, log_probability_BN)


def advance(
    canvas: Canvas, prediction: Prediction, noise_BN: Tensor, set_BN: Tensor, mask_token_id: int
) -> Canvas:
    """Apply a re-noising rule's decision."""
    tokens_BN = torch.where(set_BN, prediction.tokens_BN, canvas.tokens_BN)
    log_p_BN = torch.where(set_BN, prediction.log_probability_BN, canvas.log_probability_BN)
    return Canvas(
        tokens_BN=tokens_BN.masked_fill(noise_BN, mask_token_id),
        noise_BN=noise_BN,
        slot_BN=canvas.slot_BN,
        log_probability_BN=log_p_BN.masked_fill(noise_BN, 0.0),
    )
