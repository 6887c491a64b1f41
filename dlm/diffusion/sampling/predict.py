"""What the network proposes for the slots that are read."""

from dataclasses import replace

import torch
from torch import Tensor

from dlm.diffusion.sampling.choice import SCORES, choose_tokens, log_probabilities, tempered
from dlm.diffusion.sampling.draws import Draws
from dlm.diffusion.sampling.ends import HeldBack
from dlm.diffusion.sampling.network import SlotNetwork, Wanted
from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.state import Canvas, Prediction, Step

_LOGITS = {"cpu": 2**22, "cuda": 2**27}
"""This many logits at a time, where their whole distribution is read."""


def nothing_predicted(slot_BN: Tensor) -> Prediction:
    """Of a canvas that the network has not seen."""
    zero_BN = torch.zeros(slot_BN.shape, device=slot_BN.device)
    return Prediction(torch.zeros_like(slot_BN, dtype=torch.int64), zero_BN, zero_BN, zero_BN)


def predicted(
    network: SlotNetwork,
    canvas: Canvas,
    wanted: Wanted,
    before: Prediction,
    sampler: Sampler,
    forbidden_ids: Tensor,
    draws: Draws,
    held_back: HeldBack | None = None,
) -> Prediction:
    """``before`` with tokens, log-probabilities and scores of the wanted slots renewed."""
    states = network.states(canvas.tokens_BN, wanted)
    likeliest = sampler.temperature == 0 and sampler.score == "log_probability"
    if likeliest and not sampler.score_of_drawn and held_back is None:
        tokens_S, log_p_S = network.likeliest(states, forbidden_ids)
        score_S = log_p_S
    else:
        tokens_S, log_p_S, score_S = _read(
            network, states, draws.of_slots(wanted.slot_S), sampler, forbidden_ids, held_back
        )

    def renewed(old_BN: Tensor, new_S: Tensor) -> Tensor:
        return old_BN.flatten().scatter(0, wanted.slot_S, new_S).view_as(old_BN)

    return Prediction(
        renewed(before.tokens_BN, tokens_S),
        renewed(before.log_probability_BN, log_p_S),
        renewed(before.score_BN, score_S),
        before.rank_BN,
    )


def _read(
    network: SlotNetwork, states: Tensor, draws: Draws, sampler: Sampler, forbidden_ids: Tensor,
    held_back: HeldBack | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The whole distribution of this many slots at a time; draws of rows of one slot each."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    most = _LOGITS.get(states.device.type, _LOGITS["cuda"])
    rows = max(1, most // network.vocab_size)
    for first in range(0, len(states), rows):
        part = slice(first, first + rows)
        here = draws.of_rows(part)
        logits_SV = network.logits(states[part])
        if held_back is not None:
            logits_SV = held_back.applied(logits_SV, here.number_BN[:, 0])
        log_p_S1V = log_probabilities(logits_SV, forbidden_ids)[:, None]
        tokens_S1 = choose_tokens(
            log_p_S1V, here, temperature=sampler.temperature, top_k=sampler.top_k,
            top_p=sampler.top_p,
        )  # fmt: skip
        chosen_S1 = log_p_S1V.gather(-1, tokens_S1[..., None]).squeeze(-1)
        score_S1 = _score(log_p_S1V, tokens_S1, here, sampler)
        parts.append((tokens_S1.squeeze(1), chosen_S1.squeeze(1), score_S1.squeeze(1)))
    tokens, chosen, score = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(chosen), torch.cat(score)


def _score(log_p_S1V: Tensor, tokens_S1: Tensor, draws: Draws, sampler: Sampler) -> Tensor:
    """How sure each slot is [S, 1], by the network's distribution or by the one drawn from."""
    if sampler.score_of_drawn:
        log_p_S1V = tempered(
            log_p_S1V, temperature=sampler.temperature or 1.0, top_k=sampler.top_k,
            top_p=sampler.top_p,
        ).log_softmax(-1)  # fmt: skip
    chosen_S1 = log_p_S1V.gather(-1, tokens_S1[..., None]).squeeze(-1)
    return SCORES[sampler.score](log_p_S1V, chosen_S1, draws)


def ranked(
    prediction: Prediction, sampler: Sampler, step: Step, end_token_id: int | None
) -> Prediction:
    """With the ranks of this iteration."""
    rank_BN = prediction.score_BN
    if sampler.routing_noise:
        gumbel_BN = step.draws.routing_gumbel()
        rank_BN = rank_BN + sampler.routing_noise * step.noise_rate * gumbel_BN
    if sampler.end_last and end_token_id is not None:
        # All alike, so the last of them are set first: the end grows from the right.
        rank_BN = rank_BN.masked_fill(prediction.tokens_BN == end_token_id, -torch.inf)
    return replace(prediction, rank_BN=rank_BN)
