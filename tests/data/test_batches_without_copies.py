"""In every epoch each row once, one epoch after the other, and no copies in a batch with room."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from dlm.data.batches import epochs, mixture, order, token_budget
from dlm.data.batches.epochs import ShuffledRows
from dlm.data.batches.mixture import MixtureStream
from dlm.data.batches.order import BatchOrder, GlobalBatches
from dlm.data.batches.token_budget import TokenBudgetOrder

LONGEST, SEEDS = 30, 20


@cache
def permutation(size: int, seed: int, number: int) -> np.ndarray:
    return np.random.default_rng((size, seed, number + 10**9)).permutation(size)


def quick_shuffle(
    places: np.ndarray, size: int, *, seed: int, number: int | np.ndarray
) -> np.ndarray:
    """Any shuffles will do here; these are made from lists, which many seeds can afford."""
    numbers = np.broadcast_to(number, places.shape)
    items = np.empty_like(places)
    for one in np.unique(numbers).tolist():
        here = numbers == one
        items[here] = permutation(size, seed, one)[places[here]]
    return items


@dataclass(frozen=True)
class Case:
    """Rows of several sources and how they become batches, drawn from a seed."""

    rows: tuple[int, ...]
    lengths: np.ndarray
    order: GlobalBatches

    @classmethod
    def of(cls, seed: int, tokens: bool, mixed: bool) -> "Case":
        draw = np.random.default_rng(seed)
        rows = tuple(draw.integers(1, 300, draw.integers(1, 5) if mixed else 1).tolist())
        shares = draw.dirichlet(np.ones(len(rows)))
        shares = np.maximum(shares, 1e-3) / np.maximum(shares, 1e-3).sum()
        # Copies of a row are of one length: sorting brings them together wherever it can.
        lengths = draw.integers(4, LONGEST + 1, sum(rows))
        stream = MixtureStream(rows, tuple(shares.tolist()), seed) if mixed else None
        grouping = int(draw.choice([0, 1, 4, 50]))
        if tokens:
            budget = int(draw.integers(LONGEST, 3000))
            return cls(
                rows, lengths, TokenBudgetOrder(lengths, budget, seed, grouping, stream=stream)
            )
        return cls(rows, lengths, BatchOrder(lengths, int(draw.integers(1, 150)), seed, grouping,
                                             stream))  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (epochs, mixture, order, token_budget):
        monkeypatch.setattr(module, "shuffled_places", quick_shuffle)
    epochs._heads.cache_clear()
    yield
    epochs._heads.cache_clear()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_each_row_once_an_epoch_and_no_copies_where_there_is_room(
    tokens: bool, mixed: bool, quick: None
) -> None:
    epochs._heads.cache_clear()
    for seed in range(SEEDS):
        case = Case.of(seed, tokens, mixed)
        total, ends = sum(case.rows), np.cumsum(case.rows)
        batches, drawn, step = [], 0, 0
        while drawn < 2.5 * total or step < 8:
            batches.append(case.order.batch(step))
            drawn, step = drawn + len(batches[-1]), step + 1
        places = np.concatenate(batches)
        steps = np.repeat(np.arange(step), [len(batch) for batch in batches])
        assert len(set(places.tolist())) == len(places), "no sample occurs twice in a run"
        passes, sources = places // total, np.searchsorted(ends, places % total, side="right")
        for source, rows in enumerate(case.rows):
            mine = sources == source
            done = int(passes[mine].max(initial=0))
            when = [steps[mine & (passes == epoch)] for epoch in range(done)]
            for one, other in pairwise(when):
                assert one.max() <= other.min(), f"seed {seed}: an epoch is finished first"
            for epoch, _ in enumerate(when):
                once = places[mine & (passes == epoch)] % total
                assert sorted(once) == list(range(ends[source] - rows, ends[source]))
        held, copies = np.unique((steps, places % total), axis=1, return_counts=True)
        of = np.searchsorted(ends, held[1], side="right")
        drawn_by = np.zeros((step, len(case.rows)), dtype=np.int64)
        np.add.at(drawn_by, (steps, sources), 1)
        assert (copies <= -(-drawn_by[held[0], of] // np.array(case.rows)[of])).all(), f"{seed}"


def test_copies_are_so_many_samples_apart_wherever_the_stream_is_asked(quick: None) -> None:
    draw = np.random.default_rng(0)
    for seed in range(60):
        rows, apart, cut = (int(draw.integers(1, most)) for most in (60, 40, 90))
        stream = ShuffledRows(rows, seed).spread(apart, cut)
        count = 12 * rows + 5
        whole = stream.positions(0, count)
        assert sorted(whole[: 12 * rows].tolist()) == list(range(12 * rows))
        for start in range(0, count - 7, 11):
            assert stream.positions(start, 7).tolist() == whole[start : start + 7].tolist()
        bounds = [*range(0, count, cut or count), count]
        for first, end in pairwise(bounds):
            for start in range(first, end):
                inside = whole[start : min(end, start + apart)] % rows
                most = np.unique(inside, return_counts=True)[1].max()
                assert most <= -(-len(inside) // rows)


def test_few_copies_to_move_leave_the_shuffle_as_it_is(quick: None) -> None:
    plain, spread = ShuffledRows(5000, 3), ShuffledRows(5000, 3).spread(64, 64)
    differ = plain.positions(0, 100_000) != spread.positions(0, 100_000)
    assert 0 < differ.sum() < 500
    assert not differ[:5000].any()


@pytest.mark.parametrize("rows", [65, 100, 127, 128, 300])
def test_neighbours_change_from_epoch_to_epoch(rows: int, quick: None) -> None:
    stream = ShuffledRows(rows, 1).spread(64, 64)
    orders = {tuple(stream.positions(e * rows, rows) % rows) for e in range(40)}
    assert len(orders) > 30


def test_a_far_part_of_many_rows_needs_no_past() -> None:
    lengths = np.broadcast_to(np.int64(9), 10**8)
    far = BatchOrder(lengths, 4096, 1).batch(10**7)
    assert len(set(far.tolist())) == 4096


@pytest.mark.parametrize(("rows", "size", "at_most"), [(300, 64, 64), (100, 64, 64), (40, 64, 40)])
def test_like_length_grouping_has_as_many_different_rows_as_data_order(
    rows: int, size: int, at_most: int, quick: None
) -> None:
    lengths = np.random.default_rng(0).integers(10, 60, rows)
    for grouping in (50, 0):
        batches = BatchOrder(lengths, size, 0, grouping)
        assert all(len(set(batches.batch(step) % rows)) == at_most for step in range(60))


def test_batches_within_an_epoch_are_still_of_like_length(quick: None) -> None:
    lengths = np.random.default_rng(0).integers(10, 60, 1000)
    grouped, plain = (BatchOrder(lengths, 64, 0, grouping) for grouping in (50, 0))
    spread = [np.ptp(lengths[grouped.batch(step) % 1000]) for step in range(62)]
    assert np.median(spread) <= 5
    assert np.median([np.ptp(lengths[plain.batch(s) % 1000]) for s in range(62)]) > 45
