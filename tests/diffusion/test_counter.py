"""Counter-based random numbers: uniform, independent, and a function of the counters alone."""

import math

import pytest
import torch
from statistics_bounds import assert_distributed

from dlm.diffusion import counter
from dlm.diffusion.counter import counter_bits, counter_seed, counter_uniform

DRAWS = 1 << 16
INDEX = torch.arange(DRAWS)
torch.set_num_threads(1)


def reference_bits(*counters: int) -> int:
    """The same hash in Python's unbounded integers (nothing can overflow)."""

    def scramble(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x21F0AAAD) % 2**32
        x = ((x ^ (x >> 15)) * 0x735A2D97) % 2**32
        return x ^ (x >> 15)

    state = 0
    for value in counters:
        for half in (value % 2**32, (value >> 32) % 2**32):
            state = scramble((state * 0x9E3779B9 + half + 0x9E3779B9) % 2**32)
    return state


def draws_along(place: int) -> torch.Tensor:
    """Uniforms of the four counters (seed, stream, sample, token) where one of them runs."""
    counters: list[torch.Tensor | int] = [11, 2, 1234, 5]
    counters[place] = INDEX
    return counter_uniform(*counters)


@pytest.mark.parametrize("bits", [0, 1, 2**32 - 2, 2**32 - 1])
def test_uniform_stays_inside_the_open_interval_at_extreme_bits(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "counter_bits", lambda *_: torch.tensor([bits]))
    value = float(counter_uniform(0))
    assert 0.0 < value < 1.0


@pytest.mark.parametrize("place", range(4))
def test_draws_along_every_counter_are_uniform(place: int) -> None:
    uniform = draws_along(place)
    assert uniform.dtype == torch.float32
    counts = torch.bincount((uniform * 64).long(), minlength=64)
    assert_distributed(counts, [1 / 64] * 64)


@pytest.mark.parametrize("place", range(4))
def test_draws_along_every_counter_have_the_mean_and_variance_of_a_uniform(place: int) -> None:
    uniform = draws_along(place).double()
    assert abs(uniform.mean() - 0.5) < 4 * math.sqrt(1 / 12 / DRAWS)
    assert abs(uniform.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / DRAWS)


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_a_fair_coin(bit: int) -> None:
    ones = (counter_bits(3, INDEX) >> bit & 1).sum()
    assert abs(float(ones) - DRAWS / 2) < 4 * math.sqrt(DRAWS / 4)


def joint_counts(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.bincount((first * 8).long() * 8 + (second * 8).long(), minlength=64)


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_streams_are_independent(first: int, second: int) -> None:
    if first < second:
        pair = [counter_uniform(7, stream, INDEX) for stream in (first, second)]
        assert_distributed(joint_counts(*pair), [1 / 64] * 64)


def test_neighbouring_rows_tokens_and_seeds_are_independent() -> None:
    here = counter_uniform(7, 2, INDEX, 3)
    for other in (
        counter_uniform(7, 2, INDEX + 1, 3),
        counter_uniform(7, 2, INDEX, 4),
        counter_uniform(8, 2, INDEX, 3),
        counter_uniform(7, 2, 3, INDEX),
    ):
        assert_distributed(joint_counts(here, other), [1 / 64] * 64)


def test_swapped_counters_are_other_draws() -> None:
    i, j = INDEX % 256, INDEX // 256
    different = counter_bits(i, j) != counter_bits(j, i)
    assert different[i != j].float().mean() > 0.999


def test_bits_equal_the_hash_in_unbounded_integers() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2**62, (300, 3), generator=generator)
    rows[:100] %= 50
    got = counter_bits(rows[:, 0], rows[:, 1], rows[:, 2]).tolist()
    assert got == [reference_bits(*row) for row in rows.tolist()]


def test_draws_do_not_depend_on_batch_order_or_shape() -> None:
    order = torch.randperm(DRAWS, generator=torch.Generator().manual_seed(1))
    straight = counter_bits(5, INDEX)
    assert torch.equal(counter_bits(5, INDEX[order]), straight[order])
    assert torch.equal(counter_bits(5, INDEX.view(256, 16, 16)), straight.view(256, 16, 16))
    assert torch.equal(counter_bits(5, INDEX[77:78]), straight[77:78])


def test_broadcast_counters_equal_every_pair_alone() -> None:
    sample_B, token_L = torch.tensor([3, 99, 4]), torch.tensor([0, 1, 2, 70])
    table = counter_bits(1, sample_B[:, None], token_L)
    for b, sample in enumerate(sample_B.tolist()):
        for position, token in enumerate(token_L.tolist()):
            assert int(table[b, position]) == int(counter_bits(1, sample, token))


def test_integers_and_tensors_are_the_same_counters() -> None:
    tensors = counter_bits(torch.tensor(9), torch.tensor([4, 5]), torch.tensor(2))
    assert torch.equal(tensors, counter_bits(9, torch.tensor([4, 5]), 2))
    assert int(tensors[0]) == int(counter_bits(9, 4, 2))
    assert torch.equal(
        counter_bits(9, torch.tensor([4, 5], dtype=torch.int32)), counter_bits(9, INDEX[4:6])
    )


def test_counters_beyond_32_bits_are_read_whole() -> None:
    low = counter_bits(0, INDEX)
    for beyond in (2**32, 2**33, 2**40, 2**62):
        high = counter_bits(0, INDEX + beyond)
        assert (high == low).float().mean() < 0.001
        uniform = counter_uniform(0, INDEX + beyond)
        assert_distributed(torch.bincount((uniform * 64).long(), minlength=64), [1 / 64] * 64)
    assert int(counter_bits(2**40 + 1)) == reference_bits(2**40 + 1)


def test_another_seed_gives_other_draws() -> None:
    equal = counter_bits(1, INDEX) == counter_bits(2, INDEX)
    assert equal.float().mean() < 0.001


def test_a_seed_from_counters_is_one_repeatable_32_bit_integer() -> None:
    seeds = {counter_seed(1, 2, number) for number in range(1000)}
    assert len(seeds) == 1000
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)
    assert counter_seed(1, 2, 3) == reference_bits(1, 2, 3)


def test_draws_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    counter_uniform(1, INDEX)
    assert torch.equal(torch.get_rng_state(), before)
