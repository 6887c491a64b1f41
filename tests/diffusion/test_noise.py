"""The forward process: right rates, right coupling, and noise that belongs to the row."""

from collections.abc import Callable

import pytest
import torch
from statistics_bounds import assert_distributed, assert_share
from torch import Tensor

from dlm.diffusion import noise
from dlm.diffusion.noise import ForwardProcess, Noised, NoiseKey, dropped_prompts, replace_masked

ROWS, LENGTH, STEPS = 6000, 12, 10
MASK = 4
torch.set_num_threads(1)


def corrupt(process: ForwardProcess, *, seed: int = 3, rows: int = ROWS) -> Noised:
    """Rows whose every token is maskable."""
    maskable = torch.ones(rows, LENGTH, dtype=torch.bool)
    index = torch.arange(LENGTH).expand(rows, LENGTH)
    return process.corrupt(NoiseKey(seed, torch.arange(rows)), maskable, index)


def steps_of(rate_B: Tensor) -> Tensor:
    """t of the rates t/T, checked to be whole numbers."""
    t = rate_B.double() * STEPS
    assert torch.allclose(t, t.round(), atol=1e-5)
    return t.round().long()


def test_discrete_times_are_uniform_over_1_to_T() -> None:
    t = steps_of(corrupt(ForwardProcess(num_timesteps=STEPS, times="independent")).level.rate_B)
    assert (int(t.min()), int(t.max())) == (1, STEPS)
    assert_distributed(torch.bincount(t, minlength=STEPS + 1)[1:], [1 / STEPS] * STEPS)


@pytest.mark.parametrize("num_timesteps", [1, 3, 50, 1000])
def test_the_most_extreme_draws_are_the_times_1_and_T(
    num_timesteps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = torch.tensor([0.5 * 2.0**-23, 1 - 2.0**-24])
    monkeypatch.setattr(noise, "counter_uniform", lambda *_: ends)
    process = ForwardProcess(num_timesteps=num_timesteps)
    rate = process.time_of(NoiseKey(0, torch.arange(2)), 0)
    assert torch.allclose(rate, torch.tensor([1 / num_timesteps, 1.0]))
    assert float(rate[1]) == 1.0


def test_discrete_time_t_masks_a_token_with_probability_t_over_T() -> None:
    noised = corrupt(ForwardProcess(num_timesteps=STEPS, times="independent"))
    t = steps_of(noised.level.rate_B)
    for step in range(1, STEPS):
        assert_share(noised.masked_BL[t == step], step / STEPS)
    assert noised.masked_BL[t == STEPS].all()


def test_number_of_masks_in_a_row_is_binomial() -> None:
    noised = corrupt(ForwardProcess(fixed_rate=0.5))
    counts = torch.bincount(noised.masked_BL.sum(dim=1), minlength=LENGTH + 1)
    row = [1]
    for _ in range(LENGTH):
        row = [a + b for a, b in zip([0, *row], [*row, 0], strict=True)]
    assert_distributed(counts, [count / 2**LENGTH for count in row])


def test_continuous_times_are_uniform_over_eps_to_1() -> None:
    process = ForwardProcess(time="continuous", min_time=0.2, times="independent")
    rate = corrupt(process).level.rate_B
    assert 0.2 < float(rate.min()) < 0.21 and 0.99 < float(rate.max()) <= 1.0
    bins = ((rate - 0.2) / 0.8 * 16).long().clamp(max=15)
    assert_distributed(torch.bincount(bins, minlength=16), [1 / 16] * 16)


def test_continuous_time_t_masks_a_token_with_probability_t() -> None:
    noised = corrupt(ForwardProcess(time="continuous", min_time=1e-3, times="independent"))
    for low in torch.arange(0, 1, 0.125).tolist():
        rows = (noised.level.rate_B > low) & (noised.level.rate_B <= low + 0.125)
        assert_share(noised.masked_BL[rows], noised.level.rate_B[rows, None].double())


def test_masks_of_neighbouring_tokens_and_rows_are_independent() -> None:
    masked = corrupt(ForwardProcess(fixed_rate=0.3)).masked_BL
    assert_share(masked[:, :-1] & masked[:, 1:], 0.09)
    assert_share(masked[:-1] & masked[1:], 0.09)


def coupled(time: str = "discrete", steps: int = STEPS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    process = ForwardProcess(time=time, num_timesteps=steps)  # type: ignore[arg-type]
    noised = corrupt(process)
    assert noised.level.rate_B.shape == (2 * ROWS,)
    assert noised.masked_BL.shape == (2 * ROWS, LENGTH)
    first, second = noised.level.rate_B.chunk(2)
    masked, later_masked = noised.masked_BL.chunk(2)
    return first, second, masked, later_masked


def test_coupled_times_are_two_sorted_uniform_draws() -> None:
    first, second = map(steps_of, coupled()[:2])
    assert (first >= second).all()
    pairs = [(a, b) for a in range(1, STEPS + 1) for b in range(1, a + 1)]
    counts = torch.stack([((first == a) & (second == b)).sum() for a, b in pairs])
    assert_distributed(counts, [(1 if a == b else 2) / STEPS**2 for a, b in pairs])


@pytest.mark.parametrize("time", ["discrete", "continuous"])
def test_coupled_masks_are_nested_where_the_times_differ(time: str) -> None:
    first, second, first_BL, second_BL = coupled(time)
    differ = first > second
    assert differ.any()
    assert not (second_BL & ~first_BL)[differ].any()


@pytest.mark.parametrize("time", ["discrete", "continuous"])
def test_coupled_masks_have_the_rates_of_their_own_times(time: str) -> None:
    first, second, first_BL, second_BL = coupled(time)
    differ = first > second
    for low in torch.arange(0, 1, 0.25).tolist():
        rows = differ & (first > low) & (first <= low + 0.25)
        assert_share(first_BL[rows], first[rows, None].double())
        rows = differ & (second > low) & (second <= low + 0.25)
        assert_share(second_BL[rows], second[rows, None].double())


def test_second_mask_keeps_a_first_mask_with_probability_t2_over_t1() -> None:
    first, second, first_BL, second_BL = coupled()
    differ = first > second
    ratio_BL = (second / first).double()[:, None].expand_as(first_BL)
    chosen = differ[:, None] & first_BL
    assert_share(second_BL[chosen], ratio_BL[chosen])


def test_coupled_masks_are_independent_where_the_times_are_equal() -> None:
    first, second, first_BL, second_BL = coupled(steps=3)
    equal = (first == second) & (first < 1)
    rate = first[equal, None].double()
    assert_share(second_BL[equal], rate)
    assert_share((first_BL & second_BL)[equal], rate**2)


@pytest.mark.parametrize("is_coupled", [False, True])
def test_only_maskable_positions_become_noise(is_coupled: bool) -> None:
    process = ForwardProcess(num_timesteps=2, times="coupled" if is_coupled else "independent")
    maskable = torch.rand(500, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.5
    index = torch.arange(LENGTH).expand(500, LENGTH)
    masked = process.corrupt(NoiseKey(1, torch.arange(500)), maskable, index).masked_BL
    copies = 2 if is_coupled else 1
    assert masked.any()
    assert not (masked & ~maskable.repeat(copies, 1)).any()
    tokens = torch.randint(5, 50, masked.shape, generator=torch.Generator().manual_seed(1))
    noisy = replace_masked(tokens, masked, index, mask_token_id=MASK)
    assert torch.equal(noisy == MASK, masked)
    assert torch.equal(noisy[~masked], tokens[~masked])


Place = Callable[[list[int], int], list[int]]
PLACES: dict[str, Place] = {
    "right": lambda row, width: row + [1] * (width - len(row)),
    "left": lambda row, width: [1] * (width - len(row)) + row,
}


def noisy_rows(rows: dict[int, list[int]], place: Place, width: int) -> dict[int, list[list[int]]]:
    """Noise rows (sample number -> tokens, a prompt of 2) in one batch: 80/10/10, coupled apart."""
    tokens = torch.tensor([place(row, width) for row in rows.values()])
    valid = torch.tensor([place([2] * len(row), width) for row in rows.values()]) == 2
    index = (valid.cumsum(dim=1) - 1).clamp(min=0)
    maskable = valid & (index >= 2)
    key = NoiseKey(5, torch.tensor(list(rows)))
    found: dict[int, list[list[int]]] = {sample: [] for sample in rows}
    for process in (ForwardProcess(num_timesteps=4), ForwardProcess(fixed_rate=0.5)):
        masked = process.corrupt(key, maskable, index).masked_BL
        for part in masked.split(len(rows)):
            noisy = replace_masked(
                tokens, part, index, mask_token_id=MASK, key=key,
                replaceable_ids_V=torch.arange(100, 120),
            )  # fmt: skip
            for sample, row, own in zip(rows, noisy, valid, strict=True):
                found[sample].append(row[own].tolist())
    return found


@pytest.mark.parametrize("side", PLACES)
def test_a_row_gets_the_same_noise_alone_in_a_batch_and_padded_on_either_side(side: str) -> None:
    rows = {10 + i: list(range(20, 20 + 6 + i % 9)) for i in range(40)}
    batch = noisy_rows(rows, PLACES[side], 20)
    backwards = noisy_rows(dict(reversed(rows.items())), PLACES[side], 17)
    assert backwards == batch
    for sample, row in rows.items():
        assert noisy_rows({sample: row}, PLACES["right"], len(row))[sample] == batch[sample]
    assert any(MASK in row for copies in batch.values() for row in copies)


def test_another_epoch_seed_or_row_gets_other_noise() -> None:
    process = ForwardProcess(fixed_rate=0.5)
    maskable = torch.ones(1, 64, dtype=torch.bool)
    index = torch.arange(64)[None]

    def noise_of(seed: int, sample: int) -> list[bool]:
        masked_BL = process.corrupt(NoiseKey(seed, torch.tensor([sample])), maskable, index)
        return masked_BL.masked_BL[0].tolist()

    here = noise_of(1, 7)
    assert noise_of(1, 7) == here
    assert noise_of(1, 7 + 1000) != here
    assert noise_of(1, 7 + 2**32) != here
    assert noise_of(2, 7) != here


def test_a_fixed_rate_masks_at_that_rate_and_does_not_double_the_rows() -> None:
    noised = corrupt(ForwardProcess(fixed_rate=0.15))
    assert noised.masked_BL.shape == (ROWS, LENGTH)
    assert torch.equal(noised.level.rate_B, torch.full((ROWS,), 0.15))
    assert_share(noised.masked_BL, 0.15)


def bert_rule(original: int, replaceable: list[int]) -> Tensor:
    """Masked tokens of rows that hold one token only, after the 80/10/10 rule."""
    tokens = torch.full((ROWS, LENGTH), original)
    masked = torch.ones_like(tokens, dtype=torch.bool)
    masked[:, 0] = False
    noisy = replace_masked(
        tokens, masked, torch.arange(LENGTH).expand_as(tokens), mask_token_id=MASK,
        key=NoiseKey(3, torch.arange(ROWS)), replaceable_ids_V=torch.tensor(replaceable),
    )  # fmt: skip
    assert (noisy[:, 0] == original).all()
    return noisy[:, 1:]


def test_berts_rule_masks_80_replaces_10_and_keeps_10_percent() -> None:
    noisy = bert_rule(60, list(range(10, 30)))
    random = (noisy != MASK) & (noisy != 60)
    counts = torch.stack([(noisy == MASK).sum(), random.sum(), (noisy == 60).sum()])
    assert_distributed(counts, [0.8, 0.1, 0.1])


def test_random_replacements_are_uniform_over_the_replaceable_tokens_and_never_special() -> None:
    replaceable = [7, 9, 10, 20, 31]
    noisy = bert_rule(60, replaceable)
    random = noisy[(noisy != MASK) & (noisy != 60)]
    assert set(random.tolist()) == set(replaceable)
    assert_distributed(torch.bincount(random)[replaceable], [0.2] * 5)


def test_berts_rule_is_independent_of_what_was_masked_and_at_which_rate() -> None:
    process = ForwardProcess(num_timesteps=2, times="independent")
    noised = corrupt(process)
    tokens = torch.full((ROWS, LENGTH), 60)
    noisy = replace_masked(
        tokens, noised.masked_BL, torch.arange(LENGTH).expand_as(tokens), mask_token_id=MASK,
        key=NoiseKey(3, torch.arange(ROWS)), replaceable_ids_V=torch.tensor([10]),
    )  # fmt: skip
    for rate in (0.5, 1.0):
        chosen = noised.masked_BL & (noised.level.rate_B == rate)[:, None]
        assert_share(noisy[chosen] == MASK, 0.8)
        assert_share(noisy[chosen] == 10, 0.1)


@pytest.mark.parametrize("times", ["coupled", "independent"])
def test_which_prompts_are_dropped_says_nothing_of_how_noisy_their_rows_are(times: str) -> None:
    process = ForwardProcess(num_timesteps=2, times=times)  # type: ignore[arg-type]
    key = NoiseKey(3, torch.arange(ROWS))
    dropped = dropped_prompts(key, 0.5)
    assert_share(dropped, 0.5)
    for rate_B in process.levels(key).rate_B.split(ROWS):
        for rate in (0.5, 1.0):
            assert_share(dropped[rate_B == rate], 0.5)
