"""The order of samples: a function of seed and step, every row once an epoch, on any devices."""

from collections import Counter
from collections.abc import Callable
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm.data.batches.batching import BatchRequest, StepSampler, TokenDataset, validation_requests
from dlm.data.batches.mixture import MixtureStream
from dlm.data.batches.order import BatchOrder, GlobalBatches
from dlm.data.batches.token_budget import TokenBudgetOrder
from dlm.data.rows.encoding import EncodedRows

SHAPES = {"rows": st.integers(1, 40), "batch": st.integers(1, 24), "grouping": st.integers(0, 6)}


def lengths_of(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(4, 30, rows)


def encoded(rows: int) -> EncodedRows:
    lengths = lengths_of(rows)
    return EncodedRows(
        np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths], dtype=np.int64),
        np.full(rows, 2, dtype=np.int32), [""] * rows, [""] * rows,
    )  # fmt: skip


def batches(order: BatchOrder, count: int, first: int = 0) -> list[list[int]]:
    return [order.batch(step).tolist() for step in range(first, first + count)]


@settings(max_examples=12, deadline=None)
@given(**SHAPES, seed=st.integers(0, 5), first=st.integers(0, 12))
def test_a_step_is_the_same_whatever_was_asked_before(
    rows: int, batch: int, grouping: int, seed: int, first: int
) -> None:
    def order() -> BatchOrder:
        return BatchOrder(lengths_of(rows), batch, seed, grouping)

    straight, jumping = batches(order(), 16), order()
    assert batches(order(), 4, first) == straight[first : first + 4]
    for step in (15, 0, 9, 9, 3):
        assert jumping.batch(step).tolist() == straight[step]


@settings(max_examples=25, deadline=None)
@given(**SHAPES, windows=st.integers(1, 4))
def test_every_epoch_visits_every_row_once(
    rows: int, batch: int, grouping: int, windows: int
) -> None:
    order = BatchOrder(lengths_of(rows), batch, 0, grouping)
    # Whole windows: in the middle of one, an epoch that it holds is not finished.
    positions = np.concatenate([order.batch(s) for s in range(windows * max(1, grouping))])
    assert len(set(positions.tolist())) == len(positions), "no sample occurs twice in a run"
    epochs = Counter((positions // rows).tolist())
    last = max(epochs)
    assert sorted(epochs) == list(range(last + 1))
    for epoch in range(last):
        inside = positions[positions // rows == epoch] % rows
        assert sorted(inside.tolist()) == list(range(rows))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = (BatchOrder(lengths_of(64), 32, seed, 0) for seed in (0, 1))
    epochs = [np.concatenate([first.batch(2 * e), first.batch(2 * e + 1)]) % 64 for e in range(3)]
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3
    assert first.batch(0).tolist() != second.batch(0).tolist()


def test_a_window_holds_the_samples_of_the_ungrouped_stream_in_batches_of_like_length() -> None:
    lengths = lengths_of(100)
    grouped, plain = (BatchOrder(lengths, 8, 0, grouping) for grouping in (5, 0))
    # Epochs of 12 batches and a half: windows of 5, 5 and 2; the batch between two is alone.
    for first, end in ((0, 5), (5, 10), (10, 12), (13, 15), (15, 20), (20, 25), (25, 30)):
        steps = range(first, end)
        ours = [grouped.batch(step) for step in steps]
        theirs = [plain.batch(step) for step in steps]
        assert sorted(np.concatenate(ours)) == sorted(np.concatenate(theirs))

        def spread(parts: list[np.ndarray]) -> int:
            return int(sum(np.ptp(lengths[part % 100]) for part in parts))

        assert spread(ours) < spread(theirs) / (2 if end - first > 2 else 1)
        bounds = sorted((lengths[p % 100].min(), lengths[p % 100].max()) for p in ours)
        assert all(a[1] <= b[0] for a, b in pairwise(bounds))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_devices_and_micro_batches_divide_the_same_global_batch(
    world_size: int, accumulate: int
) -> None:
    rows = encoded(37)
    order = BatchOrder(rows.lengths, 16, 3, 4)
    samplers = [
        StepSampler(rows, order, first_step=5, accumulate=accumulate, rank=rank,
                    world_size=world_size)
        for rank in range(world_size)
    ]  # fmt: skip
    parts = [list(islice(sampler, 6 * accumulate)) for sampler in samplers]
    for step in range(6):
        mine = [part for rank in parts for part in rank[step * accumulate :][:accumulate]]
        expected = order.batch(5 + step)
        assert sorted(np.concatenate([p.positions for p in mine])) == sorted(expected)
        assert {len(part.positions) for part in mine} == {16 // world_size // accumulate}
        assert {part.global_rows for part in mine} == {16}
        maskable = int(rows.maskable_lengths[expected % 37].sum())
        assert {part.global_maskable for part in mine} == {maskable}


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("count", [40, 44, 63, 65])
def test_validation_reads_every_row_once(count: int, world_size: int) -> None:
    requests = [
        validation_requests(encoded(count), 8, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(of_rank) for of_rank in requests}) == 1, "else a collective hangs"
    every = [part for of_rank in requests for part in of_rank]
    seen = [p for part in every if not part.filler for p in part.positions.tolist()]
    assert sorted(seen) == list(range(count))
    assert all(len(part.positions) for part in every)


def test_a_micro_batch_is_collated_from_its_own_rows() -> None:
    rows = encoded(5)
    batch = TokenDataset(rows, pad_token_id=0).__getitems__(
        BatchRequest(np.array([7, 1]), np.array([0, 1]), 2, 9)
    )
    for line, index in enumerate((2, 1)):
        row = rows.row(index)
        assert batch.tokens_BL[line, : len(row)].tolist() == row.tolist()
        assert batch.valid_BL[line].sum() == len(row)
        assert not batch.maskable_BL[line, :2].any()
        assert batch.maskable_BL[line].sum() == len(row) - 2
    assert batch.sample_B.tolist() == [7, 1]


def _orders(rows: EncodedRows) -> dict[str, Callable[[], GlobalBatches]]:
    """Every way in which samples become steps; made anew, as after a kill."""
    mixture = MixtureStream((10, len(rows) - 10), (0.3, 0.7), 5)
    return {
        "rows": lambda: BatchOrder(rows.lengths, 16, 5, 4),
        "rows of a mixture": lambda: BatchOrder(rows.lengths, 16, 5, 4, mixture),
        "tokens": lambda: TokenBudgetOrder(rows.lengths, 480, 5, 4),
        "tokens, packed": lambda: TokenBudgetOrder(rows.lengths, 480, 5, 0, packed=True),
        "tokens of a mixture": lambda: TokenBudgetOrder(rows.lengths, 480, 5, 4, stream=mixture),
    }


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(_orders(encoded(37)))),
    killed=st.integers(0, 20),
    more=st.integers(1, 12),
    devices=st.tuples(*[st.sampled_from([1, 2, 4])] * 2),
    accumulate=st.tuples(*[st.sampled_from([1, 2])] * 2),
)
def test_a_run_that_goes_on_with_other_devices_reads_what_an_undisturbed_one_does(
    name: str, killed: int, more: int, devices: tuple[int, int], accumulate: tuple[int, int]
) -> None:
    rows = encoded(37)

    def read(first: int, steps: int, world_size: int, parts: int) -> Counter[int]:
        order = _orders(rows)[name]()
        seen: Counter[int] = Counter()
        for rank in range(world_size):
            sampler = StepSampler(
                rows, order, first_step=first, accumulate=parts, rank=rank, world_size=world_size
            )
            for request in islice(sampler, steps * parts):
                seen.update(request.positions.tolist())
        return seen

    interrupted = read(0, killed, devices[0], accumulate[0])
    interrupted += read(killed, more, devices[1], accumulate[1])
    assert interrupted == read(0, killed + more, 1, 1)


@pytest.mark.parametrize("grouping", [0, 1, 4])
def test_the_first_whole_windows_train_on_just_the_first_samples(grouping: int) -> None:
    order = BatchOrder(lengths_of(30), 4, 0, grouping)
    for step in range(14):
        whole = order.whole_windows(step)
        assert step - max(1, grouping) < whole.steps <= step
        seen = [position for s in range(whole.steps) for position in order.batch(s).tolist()]
        stream = BatchOrder(lengths_of(30), 4, 0, 0)
        first = [p for s in range(whole.samples // 4) for p in stream.batch(s).tolist()]
        assert sorted(seen) == sorted(first)
