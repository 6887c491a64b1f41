"""Mixtures: shares by their formulas, and a stream that keeps them without a past."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm.data.batches.mixture import BLOCK, MixtureStream
from dlm.data.batches.shares import MixtureSettings
from dlm.errors import UserError

ROWS = {"large": 1000, "small": 10, "middle": 100}


@st.composite
def streams(draw: st.DrawFn) -> MixtureStream:
    rows = draw(st.lists(st.integers(40, 400), min_size=1, max_size=4))
    size = len(rows)
    weights = draw(st.lists(st.floats(1e-3, 1.0), min_size=size, max_size=size))
    shares = tuple(weight / sum(weights) for weight in weights)
    return MixtureStream(tuple(rows), shares, draw(st.integers(0, 5)))


@settings(max_examples=8, deadline=None)
@given(stream=streams(), block=st.integers(0, 5000))
def test_every_block_gives_each_source_its_share_to_within_one_draw(
    stream: MixtureStream, block: int
) -> None:
    positions = stream.positions(block * BLOCK, BLOCK)
    counts = np.bincount(stream.source_of(positions), minlength=len(stream.rows))
    assert np.abs(counts - np.array(stream.shares) * BLOCK).max() < 1.01  # shares: 1 in 2 ** 20


@settings(max_examples=8, deadline=None)
@given(stream=streams(), start=st.integers(0, 3000), count=st.integers(1, 2000))
def test_any_part_is_the_part_of_the_whole(stream: MixtureStream, start: int, count: int) -> None:
    whole = stream.positions(0, start + count)
    assert whole[start:].tolist() == stream.positions(start, count).tolist()


@settings(max_examples=8, deadline=None)
@given(stream=streams())
def test_each_source_walks_its_own_whole_epochs_and_no_position_occurs_twice(
    stream: MixtureStream,
) -> None:
    positions = stream.positions(0, 3 * BLOCK)
    assert len(set(positions.tolist())) == len(positions)
    total, source = sum(stream.rows), stream.source_of(positions)
    begins = np.cumsum((0, *stream.rows))
    for number, rows in enumerate(stream.rows):
        mine = positions[source == number]
        epochs, row = mine // total, mine % total - begins[number]
        assert ((row >= 0) & (row < rows)).all()
        # Whole epochs but for the last, and at a block's end one draw of slack in their order.
        for epoch in range(int(epochs.max(initial=0))):
            assert sorted(row[epochs == epoch].tolist()) == list(range(rows))


def test_over_a_long_run_the_shares_are_kept() -> None:
    stream = MixtureStream((5, 7, 11), (0.5, 0.4995, 0.0005), 0)
    blocks = np.array([100, 1024, 50_000])
    drawn = stream._drawn(blocks)
    assert drawn.sum(axis=1).tolist() == (blocks * BLOCK).tolist()
    assert np.abs(drawn[1] / (1024 * BLOCK) - stream.shares).max() < 2e-6
    assert np.abs(drawn[0] - 100 * BLOCK * np.array(stream.shares)).max() < 4
    assert (np.diff(stream._drawn(np.arange(3000)), axis=0) >= 0).all()


def test_a_far_part_needs_no_past() -> None:
    stream = MixtureStream((10**9, 3), (0.9, 0.1), 1)
    far = stream.positions(10**12, 100)
    assert len(set(far.tolist())) == 100


def test_seeds_mix_differently() -> None:
    first, second = (MixtureStream((50, 50), (0.5, 0.5), seed).positions(0, 64) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert (np.diff(MixtureStream((50, 50), (0.5, 0.5), 0).source_of(first)) != 0).sum() > 16


@pytest.mark.parametrize(
    ("mixture", "rates"),
    [
        (MixtureSettings({}, temperature=1.0), [1000, 10, 100]),
        (MixtureSettings({}, cap=100), [100, 10, 100]),
        (MixtureSettings({}, temperature=2.0), [1000**0.5, 10**0.5, 10]),
        (MixtureSettings({}, temperature=2.0, cap=100), [10, 10**0.5, 10]),
        (MixtureSettings({"small": 3, "large": 1, "middle": 4}), [1, 3, 4]),
    ],
)
def test_shares_follow_the_formula(mixture: MixtureSettings, rates: list[float]) -> None:
    assert mixture.shares(ROWS) == pytest.approx([rate / sum(rates) for rate in rates])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"large": 1, "smal": 1, "middle": 1}, "the name 'smal'; did you mean 'small'?"),
        ({"large": 1, "middle": 1}, "source 'small' has no weight, and would never be drawn"),
    ],
)
def test_weights_that_do_not_name_the_sources_are_refused(
    weights: dict[str, float], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        MixtureSettings(weights).shares(ROWS)
    assert words in str(refused.value)
