"""Which token each slot would take, and how sure the network is of it."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from dlm.diffusion.sampling.draws import Draws

ScoreName = Literal["log_probability", "margin", "entropy", "random"]


def log_probabilities(logits_BNV: Tensor, forbidden_ids: Tensor) -> Tensor:
    """Log-probabilities in float32; forbidden tokens, the mask token among them, have none."""
    return logits_BNV.float().index_fill(-1, forbidden_ids, -torch.inf).log_softmax(-1)


def choose_tokens(
    log_p_BNV: Tensor, draws: Draws, *, temperature: float, top_k: int | None, top_p: float | None
) -> Tensor:
    """The most likely token, or with ``temperature`` one drawn in proportion to p^(1/temperature).

    Drawn by adding Gumbel noise in float32: in 16 bits its large values, which decide, are too
    coarse. ``top_k`` and ``top_p`` (the smallest set of tokens that holds so much probability)
    restrict the draw.
    """
    if temperature == 0:
        return log_p_BNV.argmax(-1)
    logits_BNV = tempered(log_p_BNV, temperature=temperature, top_k=top_k, top_p=top_p)
    return (logits_BNV + draws.token_gumbel(logits_BNV.shape[-1])).argmax(-1)


def tempered(
    log_p_BNV: Tensor, *, temperature: float, top_k: int | None, top_p: float | None
) -> Tensor:
    """Logits of the distribution that tokens are drawn from: tempered, and cut (-inf)."""
    logits_BNV = log_p_BNV / temperature
    if top_k is not None and top_k < logits_BNV.shape[-1]:
        weakest_BN1 = logits_BNV.topk(top_k, dim=-1).values[..., -1:]
        logits_BNV = logits_BNV.masked_fill(logits_BNV < weakest_BN1, -torch.inf)
    if top_p is not None and top_p < 1:
        logits_BNV = _nucleus(logits_BNV, top_p)
    return logits_BNV


def _nucleus(logits_BNV: Tensor, top_p: float) -> Tensor:
    """Without the tokens that the likelier ones before them already outweigh."""
    sorted_BNV, order_BNV = logits_BNV.sort(dim=-1, descending=True, stable=True)
    p_BNV = sorted_BNV.softmax(-1)
    before_BNV = p_BNV.cumsum(-1) - p_BNV
    cut_BNV = torch.zeros_like(before_BNV, dtype=torch.bool).scatter(
        -1, order_BNV, before_BNV >= top_p
    )
    return logits_BNV.masked_fill(cut_BNV, -torch.inf)


def _log_probability(log_p_BNV: Tensor, chosen_BN: Tensor, draws: Draws) -> Tensor:
    return chosen_BN


def _margin(log_p_BNV: Tensor, chosen_BN: Tensor, draws: Draws) -> Tensor:
    first_BN, second_BN = log_p_BNV.topk(2, dim=-1).values.exp().unbind(-1)
    return first_BN - second_BN


def _negative_entropy(log_p_BNV: Tensor, chosen_BN: Tensor, draws: Draws) -> Tensor:
    return (log_p_BNV.exp() * log_p_BNV.clamp(min=-1e4)).sum(-1)  # 0 log 0 = 0


def _random(log_p_BNV: Tensor, chosen_BN: Tensor, draws: Draws) -> Tensor:
    return draws.score()


SCORES: dict[ScoreName, Callable[[Tensor, Tensor, Draws], Tensor]] = {
    "log_probability": _log_probability,
    "margin": _margin,
    "entropy": _negative_entropy,
    "random": _random,
}
"""(log-probabilities of all tokens, of the chosen one, draws) -> how sure each slot is, [B, N]."""
