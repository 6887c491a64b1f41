"""The reverse process: invariants of the loop, and both rules against a loop over one row."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dlm.diffusion.counter import counter_uniform
from dlm.diffusion.sampling.loop import Denoised, denoise
from dlm.diffusion.sampling.samplers import SAMPLERS, get_sampler
from dlm.diffusion.sampling.state import Canvas, lowest

VOCAB, MASK = 13, 4
FORBIDDEN = [0, 1, 2, 4, 12]
LENGTHS = [7, 1, 12, 3, 20, 2, 9, 16, 5, 7, 11, 4, 8, 20, 6, 13]
Network = Callable[[list[int], list[int]], "HashNetwork"]
every_sampler = pytest.mark.parametrize("name", sorted(SAMPLERS))
torch.set_num_threads(1)


def slots_of(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]


class HashNetwork:
    """Logits are random functions of (row, slot, all tokens of the row); forbidden tokens look
    best; slots that do not exist give NaN. ``levels`` makes scores coarse, so that they tie."""

    def __init__(self, rows: list[int], lengths: list[int], levels: int | None = None) -> None:
        self.row_B, self.slot_BN, self.levels = torch.tensor(rows), slots_of(lengths), levels
        self.calls = 0

    def __call__(self, tokens_BN: Tensor) -> Tensor:
        self.calls += 1
        place_N = torch.arange(tokens_BN.shape[1])
        content_B = (tokens_BN * (place_N + 1) ** 3 * self.slot_BN).sum(dim=1)
        logits = 6 * counter_uniform(
            self.row_B[:, None, None], content_B[:, None, None], place_N[None, :, None],
            torch.arange(VOCAB),
        )  # fmt: skip
        if self.levels is not None:
            logits = (logits / 6 * self.levels).floor()
            # One token stands out by a coarse amount: whole rows of equal scores.
            logits = torch.where(logits == logits.amax(-1, keepdim=True), 2.0, 0.0)
        logits[..., FORBIDDEN] = 50.0
        return logits.masked_fill(~self.slot_BN[..., None], torch.nan)


def run(
    name: str,
    network: HashNetwork,
    iterations: int,
    observe: Callable[[int, Canvas], None] | None = None,
) -> Denoised:
    return denoise(
        network, network.slot_BN, sampler=get_sampler(name), num_iterations=iterations,
        mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN), observe=observe,
    )  # fmt: skip


def count_after(name: str, length: int, m: int, iterations: int) -> int:
    if name.endswith("linear"):
        return length * (iterations - m) // iterations
    return 0 if m == iterations else math.floor(length * math.cos(math.pi * m / 2 / iterations))


@every_sampler
@pytest.mark.parametrize("iterations", [1, 2, 4, 20, 40])
@pytest.mark.parametrize("levels", [None, 3, 1])
def test_exactly_k_slots_are_noise_after_every_iteration(
    name: str, iterations: int, levels: int | None
) -> None:
    network = HashNetwork(list(range(16)), LENGTHS, levels)
    seen = []

    def observe(m: int, canvas: Canvas) -> None:
        expected = [count_after(name, length, m, iterations) for length in LENGTHS]
        assert canvas.noise_BN.sum(dim=1).tolist() == expected
        assert not (canvas.noise_BN & ~canvas.slot_BN).any()
        assert torch.equal(canvas.tokens_BN == MASK, canvas.noise_BN | ~canvas.slot_BN)
        assert not canvas.log_probability_BN[canvas.noise_BN].any()
        seen.append(m)

    run(name, network, iterations, observe)
    assert seen == list(range(1, iterations + 1))


@every_sampler
@pytest.mark.parametrize("iterations", [1, 2, 4, 20, 40])
def test_no_mask_is_left_and_no_forbidden_token_is_chosen(name: str, iterations: int) -> None:
    network = HashNetwork(list(range(16)), LENGTHS)
    result = run(name, network, iterations)
    slot = network.slot_BN
    assert not torch.isin(result.tokens_BN[slot], torch.tensor(FORBIDDEN)).any()
    assert (result.tokens_BN[~slot] == MASK).all()
    assert (result.log_probability_BN[slot] < 0).all()
    assert not result.log_probability_BN[~slot].any()


@every_sampler
@pytest.mark.parametrize("iterations", [1, 4, 40])
def test_network_calls_are_counted(name: str, iterations: int) -> None:
    network = HashNetwork([1, 2], [5, 9])
    assert run(name, network, iterations).num_network_calls == iterations == network.calls


@every_sampler
@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_a_row_alone_equals_the_row_in_a_batch_of_other_lengths(
    name: str, levels: int | None, iterations: int
) -> None:
    batch = run(name, HashNetwork(list(range(16)), LENGTHS, levels), iterations)
    for row, length in enumerate(LENGTHS):
        alone = run(name, HashNetwork([row], [length], levels), iterations)
        assert alone.tokens_BN[0].tolist() == batch.tokens_BN[row, :length].tolist()
        torch.testing.assert_close(
            alone.log_probability_BN[0], batch.log_probability_BN[row, :length]
        )


def one_row(name: str, network: HashNetwork, iterations: int) -> tuple[list[int], list[float]]:
    """The method's loop for one row, in Python numbers."""
    length = int(network.slot_BN.sum())
    tokens, log_p, noise = [MASK] * length, [0.0] * length, set(range(length))
    for m in range(1, iterations + 1):
        logits = network(torch.tensor([tokens]))[0].double().tolist()
        proposals = []
        for row in logits:
            allowed = {v: x for v, x in enumerate(row) if v not in FORBIDDEN}
            best = max(allowed, key=lambda v: (allowed[v], -v))
            log_z = math.log(sum(math.exp(x) for x in allowed.values()))
            proposals.append((best, allowed[best] - log_z))
        eligible = noise if name.startswith("frozen") else set(range(length))
        ranked = sorted(eligible, key=lambda i: (proposals[i][1], i))
        next_noise = set(ranked[: count_after(name, length, m, iterations)])
        for i in range(length):
            if i in next_noise:
                tokens[i], log_p[i] = MASK, 0.0
            elif i in noise:
                tokens[i], log_p[i] = proposals[i]
        noise = next_noise
    return tokens, log_p


@every_sampler
@pytest.mark.parametrize(("length", "iterations"), [(1, 3), (6, 1), (9, 4), (12, 12), (7, 14)])
def test_sampling_equals_a_loop_over_one_row(name: str, length: int, iterations: int) -> None:
    for row in range(8):
        result = run(name, HashNetwork([row], [length]), iterations)
        tokens, log_p = one_row(name, HashNetwork([row], [length]), iterations)
        assert result.tokens_BN[0].tolist() == tokens
        assert result.log_probability_BN[0].tolist() == pytest.approx(log_p, abs=1e-5)


A, B, C, D = range(4)
HAND_MASK = 4
Step = list[tuple[int, float]]
"""For each of three slots: the most likely token and its probability."""
HAND_STEPS: list[Step] = [
    [(A, 0.9), (B, 0.5), (C, 0.4)],
    [(D, 0.3), (B, 0.8), (C, 0.7)],
    [(A, 0.6), (A, 0.95), (D, 0.99)],
]


def by_hand(name: str) -> tuple[Denoised, list[list[int]]]:
    """Three iterations of a network that says HAND_STEPS whatever it reads."""
    steps = iter(HAND_STEPS)

    def predict(_: Tensor) -> Tensor:
        logits = torch.full((1, 3, 5), -torch.inf)
        for slot, (token, p) in enumerate(next(steps)):
            logits[0, slot, :4] = math.log((1 - p) / 3)
            logits[0, slot, token] = math.log(p)
        return logits

    trace: list[list[int]] = []
    result = denoise(
        predict, torch.ones(1, 3, dtype=torch.bool), sampler=get_sampler(name), num_iterations=3,
        mask_token_id=HAND_MASK, forbidden_ids=torch.tensor([HAND_MASK]),
        observe=lambda _, canvas: trace.append(canvas.tokens_BN[0].tolist()),
    )  # fmt: skip
    return result, trace


def test_reparam_uncond_by_hand() -> None:
    """Iteration 2: slot 0 (score .3 of its *current* argmax D) is noise again, though A was sure.
    Iteration 3: slots 1 and 2 keep B and C with the probabilities they had when set."""
    result, trace = by_hand("reparam-uncond-deterministic-linear")
    assert trace == [[A, HAND_MASK, HAND_MASK], [HAND_MASK, B, C], [A, B, C]]
    expected = [math.log(p) for p in (0.6, 0.8, 0.7)]
    assert result.log_probability_BN[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_frozen_by_hand() -> None:
    """Slot 0 stays A; slot 2 waits until the last iteration and takes D."""
    result, trace = by_hand("frozen-linear")
    assert trace == [[A, HAND_MASK, HAND_MASK], [A, B, HAND_MASK], [A, B, D]]
    expected = [math.log(p) for p in (0.9, 0.8, 0.99)]
    assert result.log_probability_BN[0].tolist() == pytest.approx(expected, rel=1e-5)


def canvases(name: str) -> list[Canvas]:
    seen: list[Canvas] = []
    run(name, HashNetwork(list(range(16)), LENGTHS), 10, lambda _, canvas: seen.append(canvas))
    return seen


@pytest.mark.parametrize("name", ["frozen-linear", "frozen-cosine"])
def test_frozen_never_changes_a_decoded_token_or_its_score(name: str) -> None:
    for before, after in itertools.pairwise(canvases(name)):
        decoded = before.slot_BN & ~before.noise_BN
        assert not (after.noise_BN & decoded).any()
        assert torch.equal(after.tokens_BN[decoded], before.tokens_BN[decoded])
        assert torch.equal(after.log_probability_BN[decoded], before.log_probability_BN[decoded])


def test_reparam_uncond_returns_decoded_slots_to_noise_but_never_swaps_their_token() -> None:
    returned = False
    for before, after in itertools.pairwise(canvases("reparam-uncond-deterministic-cosine")):
        decoded = before.slot_BN & ~before.noise_BN
        returned |= bool((after.noise_BN & decoded).any())
        kept = decoded & ~after.noise_BN
        assert torch.equal(after.tokens_BN[kept], before.tokens_BN[kept])
        assert torch.equal(after.log_probability_BN[kept], before.log_probability_BN[kept])
    assert returned


def test_log_probability_is_computed_in_float32_from_half_precision_logits() -> None:
    logits = (8 * torch.randn(1, 4, VOCAB, generator=torch.Generator().manual_seed(0))).bfloat16()
    result = denoise(
        lambda _: logits, torch.ones(1, 4, dtype=torch.bool), sampler=get_sampler("frozen-linear"),
        num_iterations=1, mask_token_id=MASK, forbidden_ids=torch.tensor([MASK]),
    )  # fmt: skip
    exact = logits.double().index_fill(-1, torch.tensor([MASK]), -torch.inf).log_softmax(-1)
    assert result.log_probability_BN.dtype == torch.float32
    torch.testing.assert_close(result.log_probability_BN.double(), exact.amax(-1))


def test_lowest_breaks_ties_by_position_and_takes_all_where_fewer_are_eligible() -> None:
    score = torch.tensor([[2.0, 1.0, 1.0, 1.0], [5.0, 4.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    eligible = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]]).bool()
    chosen = lowest(score, eligible, torch.tensor([2, 2, 3])).int().tolist()
    assert chosen == [[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]]


def test_an_unknown_sampler_is_refused_with_the_nearest_name_and_all_names() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'frozen-linea': did you mean") as error:
        get_sampler("frozen-linea")
    assert "'frozen-linear'?" in str(error.value)
    assert all(name in str(error.value) for name in SAMPLERS)
    with pytest.raises(ValueError, match=r"unknown sampler 'zzz': choose from"):
        get_sampler("zzz")
