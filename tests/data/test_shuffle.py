"""Shuffles that are computed place by place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm.data.shuffle import shuffled_places


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), seed=st.integers(0, 9), number=st.integers(-3, 9))
def test_every_item_stands_at_one_place(size: int, seed: int, number: int) -> None:
    items = shuffled_places(np.arange(size), size, seed=seed, number=number)
    assert sorted(items.tolist()) == list(range(size))


def test_a_part_is_the_part_of_the_whole() -> None:
    whole = shuffled_places(np.arange(1000), 1000, seed=3, number=2)
    part = np.array([[999, 0], [17, 500]])
    assert shuffled_places(part, 1000, seed=3, number=2).tolist() == whole[part].tolist()


def test_a_set_too_large_for_a_list_is_shuffled() -> None:
    size = 10**12 + 7
    places = np.arange(size - 1000, size)
    items = shuffled_places(places, size, seed=0, number=0)
    assert len(set(items.tolist())) == 1000
    assert 0 <= items.min() < 0.1 * size < 0.9 * size < items.max() < size


def test_shuffles_of_one_seed_are_unlike() -> None:
    places = np.arange(2000)
    first, second = (shuffled_places(places, 2000, seed=0, number=n) for n in (0, 1))
    assert (first == second).sum() < 10
    assert (first == places).sum() < 10


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_an_item_is_found_at_every_place_equally_often(size: int) -> None:
    """Chi-square of where item 0 goes over many shuffles, in 7 bins."""
    at = [
        int(np.flatnonzero(shuffled_places(np.arange(size), size, seed=1, number=n) == 0)[0])
        for n in range(280)
    ]
    counts = np.histogram(at, bins=7, range=(0, size))[0]
    widths = np.histogram(np.arange(size), bins=7, range=(0, size))[0] / size
    assert ((counts - 280 * widths) ** 2 / (280 * widths)).sum() < 22.5  # 0.1 % at 6 degrees
