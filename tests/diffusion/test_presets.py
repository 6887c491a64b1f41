"""Presets under the names of their systems, with nothing said: every canvas on the way is the one
of the peer's rule, written here from its paper and code, row by row, in Python numbers."""

import math
from collections.abc import Iterator

import pytest
import torch
from sampler_tools import (
    ALLOWED,
    FORBIDDEN,
    MASK,
    SEED,
    VOCAB,
    HashNetwork,
    lowest,
    run,
    tempered,
)
from torch import Tensor

from dlm.diffusion.counter import counter_uniform
from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.loop import denoise
from dlm.diffusion.sampling.samplers import SAMPLERS, customised
from dlm.diffusion.sampling.state import Canvas

torch.set_num_threads(1)
Frame = list[int]


class Sure(HashNetwork):
    """Often sure of a token, as trained networks are."""

    def __call__(self, tokens_BN: Tensor) -> Tensor:
        return 3 * super().__call__(tokens_BN)


def log_p_of(network: HashNetwork, tokens: Frame) -> list[dict[int, float]]:
    """Of each slot: token -> log-probability; the mask and what is forbidden have none."""
    rows = []
    for logits in network(torch.tensor([tokens]))[0].double().tolist():
        log_z = math.log(sum(math.exp(logits[v]) for v in ALLOWED))
        rows.append({v: logits[v] - log_z for v in ALLOWED})
    return rows


def likeliest(log_p: dict[int, float]) -> int:
    return max(log_p, key=lambda v: (log_p[v], -v))


def gumbel_of(row: int, slot: int, call: int) -> list[float]:
    draws = Draws(DrawKey(SEED, torch.tensor([row])), call, torch.tensor([[slot]]))
    return draws.token_gumbel(VOCAB)[0, 0].tolist()


def masks(tokens: Frame) -> set[int]:
    return {i for i, token in enumerate(tokens) if token == MASK}


def surest(slots: set[int], doubt: dict[int, float], k: int) -> set[int]:
    """The k of least doubt. Which of equals they are the peers leave to torch.topk; here the last,
    for the first stay noise."""
    return set(sorted(slots, key=lambda i: (doubt[i], -i))[:k])


def llada(network: HashNetwork, length: int, steps: int | None = None) -> Iterator[Frame]:
    """generate.py: the masks are dealt to the steps as evenly as they go, the first ones get what
    is over; the tokens of the highest probability are set. By default a step a token."""
    tokens, steps = [MASK] * length, steps or length
    for step in range(steps):
        log_p = log_p_of(network, tokens)
        sure = {i: -max(log_p[i].values()) for i in masks(tokens)}
        for i in surest(masks(tokens), sure, length // steps + (step < length % steps)):
            tokens[i] = likeliest(log_p[i])
        yield list(tokens)


def dream(
    network: HashNetwork,
    length: int,
    steps: int | None = None,
    temperature: float = 0.2,
    top_p: float | None = 0.95,
) -> Iterator[Frame]:
    """diffusion_generate(alg="entropy", alg_temp=0): int(n (1 - s/t)) of n masks in float32, times
    on linspace(1, 0.001); entropies are those of the tempered and cut distribution."""
    tokens, steps, row = [MASK] * length, steps or length, int(network.row_B)
    times = torch.linspace(1, 1e-3, steps + 1)
    for step in range(steps):
        log_p, left = log_p_of(network, tokens), len(masks(tokens))
        drawn = [tempered(one, temperature or 1.0, top_p) for one in log_p]
        entropy = {i: -sum(p * math.log(p) for p in drawn[i].values()) for i in masks(tokens)}
        share = 1 - times[step + 1] / times[step]
        count = int(torch.tensor(float(left)) * share) if step < steps - 1 else left
        for i in surest(masks(tokens), entropy, count):
            gumbel = gumbel_of(row, i, step) if temperature else [0.0] * VOCAB
            tokens[i] = likeliest({v: math.log(p) + gumbel[v] for v, p in drawn[i].items()})
        yield list(tokens)


def fast_dllm(network: HashNetwork, length: int, threshold: float = 0.9) -> Iterator[Frame]:
    """llada/generate.py with a threshold, in blocks of 32: the best token of the block and all of
    probability ``threshold`` or more, until no mask of it is left."""
    tokens = [MASK] * length
    for start in range(0, length, 32):
        block = set(range(start, min(start + 32, length)))
        while left := masks(tokens) & block:
            log_p = log_p_of(network, tokens)
            sure = {i: -max(log_p[i].values()) for i in left}
            at_once = {i for i in left if math.exp(-sure[i]) >= threshold}
            for i in at_once | lowest(left, sure, 1):
                tokens[i] = likeliest(log_p[i])
            yield list(tokens)


def eb(network: HashNetwork, length: int, bound: float = 0.1) -> Iterator[Frame]:
    """Equation 9: masks by ascending entropy, as many as keep sum less largest within the bound."""
    tokens = [MASK] * length
    while left := masks(tokens):
        log_p = log_p_of(network, tokens)
        entropy = {i: -sum(math.exp(x) * x for x in log_p[i].values()) for i in left}
        order = sorted(left, key=lambda i: (entropy[i], i))
        count = max(k for k in range(1, len(order) + 1)
                    if k == 1 or sum(entropy[i] for i in order[: k - 1]) <= bound)  # fmt: skip
        for i in order[:count]:
            tokens[i] = likeliest(log_p[i])
        yield list(tokens)


def mdlm(network: HashNetwork, length: int, steps: int = 128) -> Iterator[Frame]:
    """ddpm_cache: from time t to s = t - 1/steps a mask is set with probability (t - s)/t, and then
    its token is drawn."""
    tokens, row = [MASK] * length, int(network.row_B)
    for step in range(steps):
        log_p = log_p_of(network, tokens)
        for i in masks(tokens):
            place = (step, torch.tensor(row), torch.tensor(i))
            if float(counter_uniform(SEED, 304, *place)) <= 1 / (steps - step):
                gumbel = gumbel_of(row, i, step)
                tokens[i] = likeliest({v: x + gumbel[v] for v, x in log_p[i].items()})
        yield list(tokens)


def mask_predict(network: HashNetwork, length: int, steps: int = 10) -> Iterator[Frame]:
    """Algorithm of section 3: predict the masks, mask the n lowest by the probability that they
    were set with, n = N (T - t)/T."""
    tokens, log_p_set = [MASK] * length, [0.0] * length
    for step in range(1, steps + 1):
        log_p = log_p_of(network, tokens)
        for i in masks(tokens):
            tokens[i] = likeliest(log_p[i])
            log_p_set[i] = log_p[i][tokens[i]]
        count = length * (steps - step) // steps
        for i in lowest(set(range(length)), dict(enumerate(log_p_set)), count):
            tokens[i] = MASK
        yield list(tokens)


def rdm(network: HashNetwork, length: int, steps: int = 10) -> Iterator[Frame]:
    """Algorithm 2, uncond, deterministic, cosine: the k lowest by today's probability are masks."""
    tokens = [MASK] * length
    for step in range(1, steps + 1):
        log_p = log_p_of(network, tokens)
        sure = {i: max(one.values()) for i, one in enumerate(log_p)}
        count = math.floor(length * math.cos(math.pi / 2 * step / steps)) if step < steps else 0
        low = lowest(set(range(length)), sure, count)
        tokens = [
            MASK if i in low else likeliest(log_p[i]) if tokens[i] == MASK else tokens[i]
            for i in range(length)
        ]
        yield list(tokens)


PEERS = {"llada": llada, "dream-entropy": dream, "fast-dllm": fast_dllm, "eb": eb, "mdlm": mdlm,
         "mask-predict": mask_predict, "rdm": rdm}  # fmt: skip


def ours(name: str, row: int, length: int, **given: float) -> list[Frame]:
    frames: list[Frame] = []
    sampler = customised(name, **given)
    run(
        sampler, Sure([row], [length]), sampler.num_iterations,
        lambda _, canvas: frames.append(canvas.tokens_BN[0].tolist()),
        block_length=sampler.block_length,
    )  # fmt: skip
    return frames


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("length", [1, 2, 5, 16, 40])
def test_with_nothing_said_every_canvas_is_that_of_the_peer(name: str, length: int) -> None:
    for row in range(2):
        assert ours(name, row, length) == list(PEERS[name](Sure([row], [length]), length))


@pytest.mark.parametrize("name", ["llada", "dream-entropy", "mdlm", "mask-predict", "rdm"])
@pytest.mark.parametrize(("length", "steps"), [(16, 6), (16, 16), (7, 3), (5, 8)])
def test_with_other_iterations_too(name: str, length: int, steps: int) -> None:
    expected = list(PEERS[name](Sure([3], [length]), length, steps))
    assert ours(name, 3, length, num_iterations=steps) == expected


def test_dream_without_a_draw_reads_the_cut_distribution_too() -> None:
    expected = list(dream(Sure([3], [16]), 16, temperature=0, top_p=0.7))
    assert ours("dream-entropy", 3, 16, temperature=0, top_p=0.7) == expected


def noise_left(name: str, length: int, **given: float) -> list[int]:
    return [len(masks(frame)) for frame in ours(name, 1, length, **given)]


def test_counts_that_the_peers_codes_give() -> None:
    """Read off runs of the peers' own code (LLaDA, 16 masks in 6 steps; Dream, 16 in 16)."""
    assert noise_left("llada", 16, num_iterations=6) == [13, 10, 7, 4, 2, 0]
    assert noise_left("dream-entropy", 16) == [*range(16, 1, -1), 0]


@pytest.mark.parametrize("name", ["fast-dllm", "eb"])
def test_nothing_is_set_because_iterations_end(name: str) -> None:
    """A network sure of nothing: one token an iteration, however many that takes."""
    given = {"threshold": 1.0} if name == "fast-dllm" else {"entropy_bound": 0.0}
    frames: list[int] = []
    sampler = customised(name, **given)
    run(
        sampler, HashNetwork([1], [30]), sampler.num_iterations,
        lambda _, canvas: frames.append(int(canvas.noise_BN.sum())),
    )  # fmt: skip
    assert frames == list(range(29, -1, -1))


@pytest.mark.parametrize(
    ("name", "given"), [("fast-dllm", {"threshold": 1.0}), ("eb", {"entropy_bound": 0.0})]
)
def test_bounds_are_met_by_what_equals_them(name: str, given: dict[str, float]) -> None:
    """Tokens of probability 1 and entropy 0 are all set at once."""
    logits = torch.full((1, 6, VOCAB), -torch.inf)
    logits[..., ALLOWED[0]] = 0.0
    seen: list[Canvas] = []
    denoise(
        lambda _: logits, torch.ones(1, 6, dtype=torch.bool), sampler=customised(name, **given),
        num_iterations=None, mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN),
        observe=lambda _, canvas: seen.append(canvas),
    )  # fmt: skip
    assert len(seen) == 1


def test_every_preset_says_where_it_is_from() -> None:
    for name in PEERS:
        assert "arXiv" in SAMPLERS[name].source
    assert SAMPLERS["fast-dllm"].defaults == ("no limit of iterations, blocks of 32, threshold 0.9")
    assert SAMPLERS["dream-entropy"].defaults == (
        "an iteration a slot, temperature 0.2, top-p 0.95"
    )
