"""Schedules, clipped mask rates and low-discrepancy times."""

import math

import numpy as np
import pytest
import torch
from statistics_bounds import assert_distributed, assert_share
from torch import Tensor

from dlm.data.batches.batching import StepSampler, TokenDataset, random_ranks, validation_requests
from dlm.data.batches.order import BatchOrder
from dlm.data.rows.encoding import EncodedRows
from dlm.diffusion.noise import ForwardProcess, NoiseKey, mask_rate, time_of_rate

ROWS, LENGTH, STEPS = 6000, 8, 10
EVERYTHING = torch.ones(ROWS, LENGTH, dtype=torch.bool)
INDEX = torch.arange(LENGTH).expand(ROWS, LENGTH)
SCHEDULES = ["linear", "cosine", "log_linear", "mdlm_cosine"]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
every_time = pytest.mark.parametrize("time", ["discrete", "continuous"])
torch.set_num_threads(1)


def rate_of(schedule: str, t: float) -> float:
    return {
        "linear": t,
        "cosine": math.cos(math.pi / 2 * (1 - t)),
        "log_linear": 0.999 * t,
        # MDLM's code says the share that stays clean: eps + (1 - eps) cos(pi t / 2).
        "mdlm_cosine": 1 - (1e-3 + (1 - 1e-3) * math.cos(math.pi * t / 2)),
    }[schedule]


@every_time
@every_schedule
def test_tokens_are_masked_at_the_schedules_rate(schedule: str, time: str) -> None:
    process = ForwardProcess(time=time, schedule=schedule, times="independent")  # type: ignore[arg-type]
    noised = process.corrupt(NoiseKey(1, torch.arange(ROWS)), EVERYTHING, INDEX)
    expected = [rate_of(schedule, t) for t in noised.level.time_B.double().tolist()]
    assert noised.level.rate_B.tolist() == pytest.approx(expected, abs=1e-6)
    for low in (0.0, 0.25, 0.5, 0.75):
        rows = (noised.level.time_B > low) & (noised.level.time_B <= low + 0.25)
        assert_share(noised.masked_BL[rows], noised.level.rate_B[rows, None].double())


@every_schedule
def test_coupled_masks_of_every_schedule_are_nested_with_their_own_rates(schedule: str) -> None:
    process = ForwardProcess(num_timesteps=STEPS, schedule=schedule)  # type: ignore[arg-type]
    noised = process.corrupt(NoiseKey(1, torch.arange(ROWS)), EVERYTHING, INDEX)
    high_B, low_B = noised.level.rate_B.chunk(2)
    high_BL, low_BL = noised.masked_BL.chunk(2)
    differ = high_B > low_B
    assert not (low_BL & ~high_BL)[differ].any()
    assert_share(high_BL[differ], high_B[differ, None].double())
    assert_share(low_BL[differ], low_B[differ, None].double())


@every_schedule
def test_the_continuous_elbo_weight_is_the_slope_of_the_rate_over_the_rate(schedule: str) -> None:
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    weight = ForwardProcess(time="continuous", schedule=schedule).level(t).elbo_weight_B  # type: ignore[arg-type]
    step = 1e-6
    for time, got in zip(t.tolist(), weight.tolist(), strict=True):
        slope = (rate_of(schedule, time + step) - rate_of(schedule, time - step)) / (2 * step)
        assert got == pytest.approx(slope / rate_of(schedule, time), rel=1e-5)


@every_schedule
def test_the_discrete_elbo_weight_is_the_share_of_masks_that_a_step_undoes(schedule: str) -> None:
    process = ForwardProcess(num_timesteps=STEPS, schedule=schedule)  # type: ignore[arg-type]
    weight = process.level(torch.arange(1, STEPS + 1) / STEPS).elbo_weight_B.tolist()
    for t, got in enumerate(weight, start=1):
        before, after = rate_of(schedule, (t - 1) / STEPS), rate_of(schedule, t / STEPS)
        assert got == pytest.approx(STEPS * (after - before) / after, rel=1e-4)


@every_schedule
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_time_of_rate_inverts_the_schedule(schedule: str, rate: float) -> None:
    time = torch.tensor(time_of_rate(schedule, rate), dtype=torch.float64)  # type: ignore[arg-type]
    assert float(mask_rate(schedule, time)) == pytest.approx(rate, abs=1e-9)  # type: ignore[arg-type]


@every_time
@every_schedule
def test_clipped_rates_stay_in_their_range_and_reach_its_ends(schedule: str, time: str) -> None:
    process = ForwardProcess(
        time=time, schedule=schedule, times="independent", rate_range=(0.3, 0.8)  # type: ignore[arg-type]
    )  # fmt: skip
    rate = process.corrupt(NoiseKey(1, torch.arange(ROWS)), EVERYTHING, INDEX).level.rate_B
    assert 0.3 - 1e-6 <= float(rate.min()) < 0.33 and 0.77 < float(rate.max()) <= 0.8 + 1e-6


def test_clipped_discrete_times_are_uniform_over_those_that_are_left() -> None:
    process = ForwardProcess(num_timesteps=10, times="independent", rate_range=(0.3, 0.7))
    rate = process.corrupt(NoiseKey(1, torch.arange(ROWS)), EVERYTHING, INDEX).level.rate_B
    counts = torch.bincount((rate * 10).round().long(), minlength=11)
    assert not counts[:3].any() and not counts[8:].any()
    assert_distributed(counts[3:8], [0.2] * 5)


def encoded_rows(count: int) -> EncodedRows:
    lengths = [3 + 7 * n % 11 for n in range(count)]
    return EncodedRows(
        np.full(sum(lengths), 9, dtype=np.int32), np.cumsum([0, *lengths]),
        np.full(count, 2, dtype=np.int32), [""] * count, [""] * count,
    )  # fmt: skip


def times_of_a_step(world_size: int, accumulate: int, grouping: int) -> tuple[Tensor, Tensor]:
    """Sample numbers and times of all rows of step 5, as the devices draw them."""
    rows = encoded_rows(64)
    process = ForwardProcess(time="continuous", min_time=0.0, times="low_discrepancy")
    samples, times = [], []
    for rank in range(world_size):
        sampler = StepSampler(
            rows, BatchOrder(rows.lengths, 16, 1, grouping), first_step=5, accumulate=accumulate,
            rank=rank, world_size=world_size,
        )  # fmt: skip
        requests = iter(sampler)
        for _ in range(accumulate):
            batch = TokenDataset(rows, pad_token_id=1).__getitems__(next(requests))
            key = NoiseKey(2, batch.sample_B, batch.stratum_B, batch.global_rows)
            samples.append(batch.sample_B)
            times.append(process.time_of(key, 0))
    return torch.cat(samples), torch.cat(times)


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (4, 1), (2, 4), (1, 8)])
@pytest.mark.parametrize("grouping", [0, 4])
def test_low_discrepancy_times_of_all_ranks_form_one_stratified_set(
    world_size: int, accumulate: int, grouping: int
) -> None:
    samples, times = times_of_a_step(world_size, accumulate, grouping)
    assert sorted((times * 16).ceil().long().tolist()) == list(range(1, 17))
    alone = dict(zip(*(x.tolist() for x in times_of_a_step(1, 1, grouping)), strict=True))
    assert dict(zip(samples.tolist(), times.tolist(), strict=True)) == alone


def test_low_discrepancy_times_are_uniform_over_many_steps() -> None:
    key = NoiseKey(3, torch.arange(ROWS), torch.arange(ROWS) % 8, 8)
    process = ForwardProcess(time="continuous", min_time=0.0, times="low_discrepancy")
    times = process.time_of(key, 0)
    inside = (times * 8) % 1  # where in its own part each time lies
    assert_distributed(torch.bincount((inside * 10).long(), minlength=10), [0.1] * 10)


def test_strata_have_nothing_to_do_with_the_place_in_the_batch() -> None:
    """Batches of like length are sorted by length: a long row must not be a noisy one."""
    ranks = np.stack([random_ranks(np.arange(16) + 16 * n) for n in range(400)])
    assert all(sorted(row) == list(range(16)) for row in ranks.tolist())
    assert abs(float(np.corrcoef(ranks.mean(axis=0), np.arange(16))[0, 1])) < 0.7
    assert np.abs(ranks.mean(axis=0) - 7.5).max() < 1.2


def test_the_strata_of_a_validation_are_those_of_all_its_rows() -> None:
    rows = encoded_rows(20)
    requests = [
        request
        for rank in range(2)
        for request in validation_requests(rows, 4, rank=rank, world_size=2)
    ]
    strata = np.concatenate([request.strata for request in requests])
    assert sorted(strata.tolist()) == list(range(20))
    assert {request.global_rows for request in requests} == {20}


def test_low_discrepancy_times_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="need to know each row's place in the step"):
        ForwardProcess(times="low_discrepancy").time_of(NoiseKey(0, torch.arange(3)), 0)


def test_a_process_says_what_it_is() -> None:
    assert str(ForwardProcess()) == "linear schedule, T = 50, coupled times"
    clipped = ForwardProcess("continuous", "cosine", "low_discrepancy", rate_range=(0.1, 0.9))
    assert str(clipped) == (
        "cosine schedule, continuous time, low-discrepancy times, mask rates 0.1 to 0.9"
    )
    assert str(ForwardProcess(fixed_rate=0.15)) == "mask rate 0.15"
