"""A network with known answers, and the reverse process for one row in plain Python."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_uniform
from dlm.diffusion.sampling import rules
from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.loop import Denoised, denoise
from dlm.diffusion.sampling.samplers import Sampler, get_sampler
from dlm.diffusion.sampling.state import Canvas

VOCAB, MASK, SEED = 13, 4, 5
FORBIDDEN = [0, 1, 2, 4, 12]
ALLOWED = [v for v in range(VOCAB) if v not in FORBIDDEN]
LENGTHS = [7, 1, 12, 3, 20, 2, 9, 16, 5, 7, 11, 4, 8, 20, 6, 13]


def slots_of(lengths: list[int], *, left: bool = False) -> Tensor:
    slot_BN = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return slot_BN.flip(1) if left else slot_BN


class HashNetwork:
    """Logits are random functions of (row, slot, all tokens of the row); forbidden tokens look
    best; slots that do not exist give NaN. ``levels`` makes scores coarse, so that they tie."""

    def __init__(
        self, rows: list[int], lengths: list[int], levels: int | None = None, left: bool = False
    ) -> None:
        self.row_B, self.levels = torch.tensor(rows), levels
        self.slot_BN = slots_of(lengths, left=left)
        self.calls = 0

    def __call__(self, tokens_BN: Tensor) -> Tensor:
        self.calls += 1
        place_BN = (self.slot_BN.cumsum(dim=1) - 1).clamp(min=0)
        content_B = (tokens_BN * (place_BN + 1) ** 3 * self.slot_BN).sum(dim=1)
        logits = 6 * counter_uniform(
            self.row_B[:, None, None], content_B[:, None, None], place_BN[..., None],
            torch.arange(VOCAB),
        )  # fmt: skip
        if self.levels is not None:
            logits = (logits / 6 * self.levels).floor()
            # One token stands out by a coarse amount: whole rows of equal scores.
            logits = torch.where(logits == logits.amax(-1, keepdim=True), 2.0, 0.0)
        logits[..., FORBIDDEN] = 50.0
        return logits.masked_fill(~self.slot_BN[..., None], torch.nan)


def run(
    name: str | Sampler,
    network: HashNetwork,
    iterations: int | None,
    observe: Callable[[int, Canvas], None] | None = None,
    **options: Any,
) -> Denoised:
    return denoise(
        network, network.slot_BN, sampler=get_sampler(name) if isinstance(name, str) else name,
        num_iterations=iterations, mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN),
        key=DrawKey(SEED, network.row_B), observe=observe, **options,
    )  # fmt: skip


def rate_after(sampler: Sampler, m: int, iterations: int) -> float:
    if m == iterations:
        return 0.0
    if sampler.schedule == "cosine":
        return math.cos(math.pi * m / 2 / iterations)
    return 1 - (0.999 if sampler.schedule == "dream" else 1) * m / iterations


def count_after(sampler: Sampler, length: int, m: int, iterations: int) -> int:
    if sampler.schedule == "linear":
        return length * (iterations - m) // iterations
    if sampler.schedule == "llada":
        shares = [length // iterations + (i < length % iterations) for i in range(iterations)]
        return length - sum(shares[:m])
    if sampler.schedule == "dream":
        left = length
        for i in range(1, m + 1):
            before, after = (rate_after(sampler, j, iterations) for j in (i - 1, i))
            left -= int(left * (1 - after / before))
        return left
    if 3 * m == 2 * iterations:  # cos(pi/3)
        return length // 2
    return math.floor(length * rate_after(sampler, m, iterations))


class Proposal:
    """What one slot would take: token, its log-probability, score, rank."""

    def __init__(
        self, logits: list[float], slot: int, sampler: Sampler, row: int, call: int, rate: float
    ) -> None:
        where = (call, torch.tensor(row), torch.tensor(slot))
        log_z = math.log(sum(math.exp(logits[v]) for v in ALLOWED))
        log_p = {v: logits[v] - log_z for v in ALLOWED}
        ranks = log_p
        drawn_from = tempered(log_p, sampler.temperature or 1.0, sampler.top_p)
        if sampler.temperature:
            draws = Draws(DrawKey(SEED, torch.tensor([row])), call, torch.tensor([[slot]]))
            gumbel = draws.token_gumbel(VOCAB)[0, 0].tolist()
            ranks = {v: math.log(x) + gumbel[v] for v, x in drawn_from.items()}
        self.token = max(ranks, key=lambda v: (ranks[v], -v))
        self.log_p = log_p[self.token]
        own = {v: math.exp(x) for v, x in log_p.items()}
        read = drawn_from if sampler.score_of_drawn else own
        p = sorted([*read.values(), 0.0], reverse=True)
        self.score = {
            "log_probability": math.log(read[self.token]),
            "margin": p[0] - p[1],
            "entropy": sum(x * math.log(x) for x in p if x),
            "random": float(counter_uniform(SEED, 302, *where)),
        }[sampler.score]
        self.rank = self.score
        if sampler.routing_noise:
            draws = Draws(DrawKey(SEED, torch.tensor([row])), call, torch.tensor([[slot]]))
            self.rank += sampler.routing_noise * rate * float(draws.routing_gumbel())
        self.setting = float(counter_uniform(SEED, 304, *where))


def tempered(log_p: dict[int, float], temperature: float, top_p: float | None) -> dict[int, float]:
    """Probabilities that tokens are drawn with: tempered, of the likeliest that hold ``top_p``."""
    total = sum(math.exp(x / temperature) for x in log_p.values())
    p = {v: math.exp(x / temperature) / total for v, x in log_p.items()}
    kept: dict[int, float] = {}
    for v in sorted(p, key=lambda v: (-p[v], v)):
        if top_p is None or sum(kept.values()) < top_p:
            kept[v] = p[v]
    return {v: x / sum(kept.values()) for v, x in kept.items()}


def lowest(slots: set[int], value: dict[int, float], k: int) -> set[int]:
    return set(sorted(slots, key=lambda slot: (value[slot], slot))[:k])


def one_row(
    sampler: Sampler, network: HashNetwork, iterations: int
) -> tuple[list[int], list[float], int]:
    """Tokens, log-probabilities and network calls for one row, in Python numbers."""
    length, row = int(network.slot_BN.sum()), int(network.row_B)
    tokens, log_p, score = [MASK] * length, [0.0] * length, [0.0] * length
    noise, every, calls = set(range(length)), set(range(length)), 0
    for m in range(1, iterations + 1):
        rate, before = (rate_after(sampler, i, iterations) for i in (m, m - 1))
        logits = network(torch.tensor([tokens]))[0].double().tolist()
        new = [Proposal(logits[i], i, sampler, row, calls, rate) for i in range(length)]
        calls += 1
        count = count_after(sampler, length, m, iterations)
        ranks = dict(enumerate(proposal.rank for proposal in new))
        keep = set()
        if sampler.rule == rules.REPARAM_UNCOND:
            keep = lowest(every, ranks, count)
        elif sampler.rule == rules.REPARAM_COND:
            low = lowest(every, ranks, count)
            fell = {i for i in low - noise if new[i].token == tokens[i] and new[i].score < score[i]}
            keep = (low & noise) | fell
        elif sampler.rule == rules.FROZEN:
            keep = lowest(noise, ranks, count)
        elif sampler.rule == rules.CMLM:
            keep = lowest(every, {i: ranks[i] if i in noise else score[i] for i in every}, count)
        elif sampler.rule == rules.LEFT_TO_RIGHT:
            keep = lowest(noise, {i: -i for i in every}, count)
        elif sampler.rule == rules.ANCESTRAL:
            keep = {i for i in noise if new[i].setting > 1 - rate / before}
        elif sampler.rule == rules.THRESHOLD and m < iterations:
            assert sampler.threshold is not None
            surest = lowest(noise, {i: -rank for i, rank in ranks.items()}, 1)
            keep = {i for i in noise - surest if math.exp(new[i].log_p) < sampler.threshold}
        elif sampler.rule == rules.ENTROPY_BOUND and m < iterations:
            assert sampler.entropy_bound is not None
            chosen: set[int] = set()
            for k in range(1, len(noise) + 1):
                tried = lowest(noise, {i: -rank for i, rank in ranks.items()}, k)
                entropies = [-new[i].score for i in tried]
                if sum(entropies) - max(entropies) <= sampler.entropy_bound:
                    chosen = tried
            keep = noise - chosen
        for i in range(length):
            if i in keep:
                tokens[i], log_p[i], score[i] = MASK, 0.0, 0.0
            elif i in noise:
                tokens[i], log_p[i], score[i] = new[i].token, new[i].log_p, new[i].score
        noise = keep
        if sampler.rule.stops_early and not noise:
            break
    return tokens, log_p, calls


def variants() -> dict[str, Sampler]:
    """Every named sampler, and each part that no name uses."""
    from dlm.diffusion.sampling.samplers import SAMPLERS

    rdm, frozen = get_sampler("rdm"), get_sampler("llada")
    return {
        **SAMPLERS,
        "reparam-uncond-stochastic0.5-linear": get_sampler("reparam-uncond-stochastic0.5-linear"),
        "reparam-cond-stochastic-cosine": get_sampler("reparam-cond-stochastic-cosine"),
        "rdm, margin": replace(rdm, score="margin"),
        "rdm, drawn": replace(rdm, temperature=0.7),
        "frozen, random": replace(frozen, score="random"),
        "frozen, drawn": replace(frozen, temperature=1.5),
        "frozen, drawn and scored": replace(frozen, temperature=0.5, score_of_drawn=True),
        "dream, margin": replace(get_sampler("dream-entropy"), score="margin"),
        "threshold 0.3": replace(get_sampler("fast-dllm"), threshold=0.3),
        "entropy bound 3": replace(get_sampler("eb"), entropy_bound=3.0),
    }
