"""The reverse process: invariants of the loop, and every sampler against a loop over one row."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from sampler_tools import (
    FORBIDDEN,
    LENGTHS,
    MASK,
    VOCAB,
    HashNetwork,
    count_after,
    one_row,
    run,
    variants,
)
from torch import Tensor

from dlm.diffusion.sampling import rules
from dlm.diffusion.sampling.loop import Denoised, denoise
from dlm.diffusion.sampling.samplers import SAMPLERS, Sampler, customised, get_sampler
from dlm.diffusion.sampling.state import Canvas, Prediction, Step, lowest

EVERY = variants()
slow = pytest.mark.slow
ITERATIONS = pytest.mark.parametrize(
    "iterations", [1, 2, 4, pytest.param(20, marks=slow), pytest.param(40, marks=slow)]
)
EXACT_RULES = (rules.REPARAM_UNCOND, rules.FROZEN, rules.CMLM, rules.LEFT_TO_RIGHT)
every_sampler = pytest.mark.parametrize("name", sorted(EVERY))
torch.set_num_threads(1)


@every_sampler
@ITERATIONS
@pytest.mark.parametrize("levels", [None, 3])
def test_the_number_of_noise_slots_is_the_rules_after_every_iteration(
    name: str, iterations: int, levels: int | None
) -> None:
    """Exactly k, ties included; at most k for cond; fewer each time where a rule stops early."""
    sampler = EVERY[name]
    network = HashNetwork(list(range(16)), LENGTHS, levels)
    seen: list[list[int]] = [LENGTHS]

    def observe(m: int, canvas: Canvas) -> None:
        scheduled = [count_after(sampler, length, m, iterations) for length in LENGTHS]
        left = canvas.noise_BN.sum(dim=1).tolist()
        if sampler.rule in EXACT_RULES:
            assert left == scheduled
        if sampler.rule == rules.REPARAM_COND:
            assert all(n <= k for n, k in zip(left, scheduled, strict=True))
        if sampler.rule.stops_early:
            assert all(n < max(1, before) for n, before in zip(left, seen[-1], strict=True))
        assert not (canvas.noise_BN & ~canvas.slot_BN).any()
        assert torch.equal(canvas.tokens_BN == MASK, canvas.noise_BN | ~canvas.slot_BN)
        assert not canvas.log_probability_BN[canvas.noise_BN].any()
        assert not canvas.score_BN[canvas.noise_BN].any()
        seen.append(left)

    run(sampler, network, iterations, observe)
    assert not any(seen[-1])
    assert len(seen) - 1 == iterations or sampler.rule.stops_early


@every_sampler
@ITERATIONS
def test_no_mask_is_left_and_no_forbidden_token_is_chosen(name: str, iterations: int) -> None:
    network = HashNetwork(list(range(16)), LENGTHS)
    result = run(EVERY[name], network, iterations)
    slot = network.slot_BN
    assert not torch.isin(result.tokens_BN[slot], torch.tensor(FORBIDDEN)).any()
    assert (result.tokens_BN[~slot] == MASK).all()
    assert (result.log_probability_BN[slot] < 0).all()
    assert not result.log_probability_BN[~slot].any()


@every_sampler
@pytest.mark.parametrize("iterations", [1, 4, pytest.param(40, marks=slow)])
def test_network_calls_are_counted(name: str, iterations: int) -> None:
    network = HashNetwork([1, 2], [5, 9])
    calls = run(EVERY[name], network, iterations).num_network_calls
    assert calls == network.calls
    assert calls <= (min(9, iterations) if EVERY[name].rule.stops_early else iterations)


@every_sampler
@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("iterations", [1, 3, pytest.param(10, marks=slow)])
def test_a_row_alone_equals_the_row_in_a_batch_and_padding_may_be_on_either_side(
    name: str, levels: int | None, iterations: int
) -> None:
    rows = list(range(16))
    batch = run(EVERY[name], HashNetwork(rows, LENGTHS, levels), iterations)
    left = run(EVERY[name], HashNetwork(rows, LENGTHS, levels, left=True), iterations)
    for row, length in enumerate(LENGTHS):
        alone = run(EVERY[name], HashNetwork([row], [length], levels), iterations)
        assert alone.tokens_BN[0].tolist() == batch.tokens_BN[row, :length].tolist()
        assert alone.tokens_BN[0].tolist() == left.tokens_BN[row, -length:].tolist()
        torch.testing.assert_close(
            alone.log_probability_BN[0], batch.log_probability_BN[row, :length]
        )


@every_sampler
@pytest.mark.parametrize(
    ("length", "iterations"),
    [(1, 3), (6, 1), (9, 4), pytest.param(12, 12, marks=slow), pytest.param(7, 14, marks=slow)],
)
def test_sampling_equals_a_loop_over_one_row(name: str, length: int, iterations: int) -> None:
    for row in range(3):
        result = run(EVERY[name], HashNetwork([row], [length]), iterations)
        tokens, log_p, calls = one_row(EVERY[name], HashNetwork([row], [length]), iterations)
        assert result.tokens_BN[0].tolist() == tokens
        assert result.log_probability_BN[0].tolist() == pytest.approx(log_p, abs=1e-5)
        assert result.num_network_calls <= calls


@every_sampler
def test_the_same_seed_gives_the_same_tokens_and_the_global_generator_is_left_alone(
    name: str,
) -> None:
    before = torch.get_rng_state()
    first, second = (run(EVERY[name], HashNetwork([3, 4], [9, 6]), 4) for _ in range(2))
    assert torch.equal(first.tokens_BN, second.tokens_BN)
    assert torch.equal(torch.get_rng_state(), before)


@every_sampler
@pytest.mark.parametrize("iterations", [1, 3])
def test_blocks_are_finished_from_left_to_right(name: str, iterations: int) -> None:
    network = HashNetwork([1, 2, 3], [12, 4, 8])

    def observe(call: int, canvas: Canvas) -> None:
        for row, length in enumerate([12, 4, 8]):
            noisy = canvas.noise_BN[row, :length].reshape(-1, 4).sum(dim=1).tolist()
            started = [n for n in noisy if n < 4]
            assert noisy == started + [4] * (len(noisy) - len(started))
            assert not any(started[:-1]), "a block begins before the one before it is finished"

    result = run(EVERY[name], network, iterations, observe, block_length=4)
    assert not (result.tokens_BN == MASK)[network.slot_BN].any()
    if not EVERY[name].rule.stops_early:
        assert result.num_network_calls == 3 * iterations


@every_sampler
def test_a_row_in_blocks_alone_equals_the_row_in_a_batch(name: str) -> None:
    lengths = [12, 4, 8, 16]
    batch = run(EVERY[name], HashNetwork([1, 2, 3, 4], lengths), 3, block_length=4)
    for row, length in enumerate(lengths):
        alone = run(EVERY[name], HashNetwork([row + 1], [length]), 3, block_length=4)
        assert alone.tokens_BN[0].tolist() == batch.tokens_BN[row, :length].tolist()


def test_the_last_block_of_a_row_may_be_shorter() -> None:
    seen: list[list[int]] = []

    def observe(_: int, canvas: Canvas) -> None:
        seen.append([int(block.sum()) for block in canvas.noise_BN[1, :9].split(4)])

    run("llada", HashNetwork([1, 2], [8, 9]), 2, observe, block_length=4)
    assert seen == [[2, 4, 1], [0, 4, 1], [0, 2, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


@every_sampler
@pytest.mark.parametrize("block_length", [None, 4])
def test_rows_with_an_iteration_a_slot_do_not_depend_on_their_batch(
    name: str, block_length: int | None
) -> None:
    lengths = [12, 4, 7, 1]
    batch = run(EVERY[name], HashNetwork([1, 2, 3, 4], lengths), None, block_length=block_length)
    for row, length in enumerate(lengths):
        network = HashNetwork([row + 1], [length])
        alone = run(EVERY[name], network, None, block_length=block_length)
        assert alone.tokens_BN[0].tolist() == batch.tokens_BN[row, :length].tolist()
        if block_length is None:
            tokens, _, _ = one_row(EVERY[name], network, length)
            assert alone.tokens_BN[0].tolist() == tokens


def coin(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """A rule that is added, and draws by itself."""
    set_BN = canvas.noise_BN & (step.draws.setting() <= step.set_probability)
    return canvas.noise_BN & ~set_BN, set_BN


COIN = Sampler(rules.Rule(coin), "each slot by a coin")


@pytest.mark.parametrize(
    "name", ["mdlm", "frozen, random", "rdm, drawn", "reparam-cond-stochastic-cosine", "coin"]
)
def test_whatever_draws_needs_a_key(name: str) -> None:
    network = HashNetwork([1], [4])
    sampler = COIN if name == "coin" else EVERY[name]
    assert sampler.draws
    with pytest.raises(ValueError, match="draws at random: give it a seed"):
        denoise(
            network, network.slot_BN, sampler=sampler, num_iterations=2,
            mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN),
        )  # fmt: skip


def test_a_rule_that_is_added_draws_for_each_row_its_own() -> None:
    frames: list[list[list[bool]]] = []
    lengths = [8] * 6

    def observe(_: int, canvas: Canvas) -> None:
        frames.append(canvas.noise_BN.tolist())

    together = run(COIN, HashNetwork([1, 2, 3, 4, 5, 6], lengths), 4, observe)
    assert len({str(row) for row in frames[0]}) > 1, "the rows draw alike"
    for row in range(6):
        alone = run(COIN, HashNetwork([row + 1], [8]), 4)
        assert alone.tokens_BN[0].tolist() == together.tokens_BN[row].tolist()


def test_a_rule_that_is_added_and_draws_nothing_needs_no_key() -> None:
    network = HashNetwork([1], [4])
    result = denoise(
        network, network.slot_BN, sampler=Sampler(rules.Rule(rules.frozen), ""), num_iterations=2,
        mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN),
    )  # fmt: skip
    assert not (result.tokens_BN == MASK).any()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rdm", {"threshold": 0.5}, "threshold is not read by sampler 'rdm': use 'fast-dllm'"),
        ("llada", {"entropy_bound": 0.5}, "entropy_bound is not read by sampler 'llada': use 'eb'"),
        ("eb", {"score": "margin"}, "needs score=entropy, not margin"),
        ("rdm", {"top_k": 5}, "not read at temperature 0"),
        ("nothing", {}, "unknown sampler 'nothing'"),
        ("llada", {"temperature": -1.0}, "temperature must be at least 0, not -1.0"),
        ("llada", {"temperature": 1.0, "top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ("fast-dllm", {"threshold": 1.5}, "threshold must be between 0 and 1, not 1.5"),
    ],
)
def test_options_that_a_sampler_does_not_read_are_refused(
    name: str, given: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        customised(name, **given)


def test_given_options_replace_the_samplers_own_and_none_keeps_them() -> None:
    assert customised("eb", entropy_bound=None, temperature=None) == SAMPLERS["eb"]
    assert customised("fast-dllm", threshold=0.5).threshold == 0.5
    assert get_sampler("reparam-cond-stochastic0.25-linear").routing_noise == 0.25


A, B, C, D = range(4)
HAND_MASK = 4
HandStep = list[tuple[int, float]]
"""For each of three slots: the most likely token and its probability."""
HAND_STEPS: list[HandStep] = [
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
    torch.testing.assert_close(
        result.log_probability_BN.double(), exact.amax(-1), rtol=1e-5, atol=1e-6
    )


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


@pytest.mark.parametrize("looks", [None, False])
def test_a_rule_that_is_new_reads_every_slot_whether_or_not_the_canvas_is_looked_at(
    looks: bool | None,
) -> None:
    another = rules.Rule(rules.reparam_uncond)
    rdm = get_sampler("rdm")
    network = HashNetwork(list(range(len(LENGTHS))), LENGTHS)
    expected = run(rdm, network, 4)
    found = denoise(
        network, network.slot_BN, sampler=replace(rdm, rule=another), num_iterations=4,
        mask_token_id=MASK, forbidden_ids=torch.tensor(FORBIDDEN), looks=looks,
    )  # fmt: skip
    assert torch.equal(found.tokens_BN, expected.tokens_BN)
    assert torch.equal(found.log_probability_BN, expected.log_probability_BN)
