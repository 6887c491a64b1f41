"""The plan of packed rows: every document once, no two in one place, little room lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm.data.batches.packing import _first_with_room, plan_packing
from dlm.models.packed import Packing


def taken(packing: Packing, lengths: list[int]) -> np.ndarray:
    """How many documents hold each place."""
    count = np.zeros((packing.rows, packing.width), dtype=int)
    for row, start, length in zip(packing.row_B, packing.start_B, lengths, strict=True):
        assert start + length <= packing.width
        count[row, start : start + length] += 1
    return count


@settings(max_examples=150, deadline=None)
@given(data=st.data(), width=st.integers(1, 40))
def test_every_document_has_places_of_its_own(data: st.DataObject, width: int) -> None:
    lengths = data.draw(st.lists(st.integers(1, width), min_size=1, max_size=40))
    packing = plan_packing(np.array(lengths), width)
    count = taken(packing, lengths)
    assert packing.width <= width
    assert count.max() == 1 and count.sum() == sum(lengths)
    assert count.sum(axis=1).min() > 0, "no packed row is empty"
    assert count.sum(axis=1).max() == packing.width, "rows are as narrow as the fullest one"
    assert packing.rows <= max(2 * -(-sum(lengths) // width) - 1, 1)
    again = plan_packing(np.array(lengths), width)
    assert again.row_B.tolist() == packing.row_B.tolist()


def test_documents_that_do_not_fit_evenly_go_where_there_is_room() -> None:
    lengths = [6, 6, 6, 4, 4, 4, 10]
    packing = plan_packing(np.array(lengths), 10)
    assert (packing.rows, packing.width) == (4, 10)
    assert (taken(packing, lengths) == 1).all()


@pytest.mark.parametrize("width", [128, 256, 512])
def test_many_short_documents_fill_their_rows(width: int) -> None:
    lengths = np.random.default_rng(0).integers(10, 60, 512)
    packing = plan_packing(lengths, width)
    assert lengths.sum() / (packing.rows * packing.width) > 0.98


def test_a_row_may_be_filled_to_the_last_place() -> None:
    """Longest first, each into the first row with room: 6 and 4, then 5 and 5."""
    assert _first_with_room([6, 4, 5, 5], [0, 2, 3, 1], 10) == [[0, 1], [2, 3]]
