"""Batches of so many tokens: within the budget, every sample once, the same however asked for."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_real_rows import pytestmark as needs_real_data

from dlm.data.batches.batching import StepSampler, TokenDataset
from dlm.data.batches.order import BatchOrder, GlobalBatches
from dlm.data.batches.token_budget import (
    TokenBudgetOrder,
    WindowPlace,
    cut_in_order,
    cut_padded,
    equal_areas,
    equal_sums,
    smallest_budget,
)
from dlm.data.prompts import Template, stream_examples
from dlm.data.rows.encoding import EncodedRows, encode_rows
from dlm.data.sources import Source

SHAPES = {
    "rows": st.integers(20, 200), "tokens": st.integers(30, 300), "grouping": st.integers(0, 8),
    "seed": st.integers(0, 3),
}  # fmt: skip


def lengths_of(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(4, 31, rows)


@dataclass
class InOrder:
    """A stream in the order of the rows, which are of random lengths: it costs nothing."""

    asked: list[int] = field(default_factory=list)

    def positions(self, start: int, count: int) -> np.ndarray:
        self.asked.append(start)
        return np.arange(start, start + count)

    def source_of(self, positions: np.ndarray) -> np.ndarray:
        return np.zeros_like(positions)

    def spread(self, apart: int, cut: int) -> "InOrder":
        return self


def in_order(lengths: np.ndarray, *settings: int, **options: Any) -> TokenBudgetOrder:
    return TokenBudgetOrder(lengths, *settings, stream=InOrder(), **options)


def encoded(lengths: np.ndarray) -> EncodedRows:
    rows = len(lengths)
    return EncodedRows(
        np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths], dtype=np.int64),
        np.full(rows, 2, dtype=np.int32), [""] * rows, [""] * rows,
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(**SHAPES)
def test_no_batch_is_over_the_budget_and_no_sample_is_lost(
    rows: int, tokens: int, grouping: int, seed: int
) -> None:
    lengths = lengths_of(rows)
    order = in_order(lengths, tokens, seed, grouping)
    samples, step = 0, 0
    for window in range(2):
        seen = []
        while order.window_of(step).window == window:
            assert order.samples_before(step) == samples
            batch = order.batch(step)
            own = lengths[batch % rows]
            size = len(own) * own.max() if grouping else own.sum()
            assert 0 < size <= tokens
            assert len(own) >= max(1, tokens // lengths.max() // 2)
            seen += batch.tolist()
            samples, step = samples + len(batch), step + 1
        assert (sorted(seen) if grouping else seen) == list(range(samples - len(seen), samples))


@settings(max_examples=8, deadline=None)
@given(**SHAPES, first=st.integers(0, 30))
def test_a_step_is_the_same_whatever_was_asked_before(
    rows: int, tokens: int, grouping: int, seed: int, first: int
) -> None:
    def order(*known: int) -> TokenBudgetOrder:
        place = WindowPlace(*known or (0, 0))
        return in_order(lengths_of(rows), tokens, seed, grouping, known=place)

    straight = order()
    batches = [straight.batch(step).tolist() for step in range(40)]
    assert order().batch(first).tolist() == batches[first]
    resumed = order(*straight.window_of(first))
    assert [resumed.batch(s).tolist() for s in range(first, 40)] == batches[first:]
    assert resumed.samples_before(first) == sum(map(len, batches[:first]))
    for step in (39, 0, 9, first):  # before the window that it began with, too
        assert resumed.batch(step).tolist() == batches[step]


def test_a_window_that_is_known_is_not_counted_again() -> None:
    known = in_order(lengths_of(50), 300, 0, 5).window_of(400)
    assert known.window > 40
    stream = InOrder()
    resumed = TokenBudgetOrder(lengths_of(50), 300, 0, 5, stream=stream, known=known)
    resumed.batch(400)
    # To measure the rows' mean length, and the window itself.
    assert stream.asked == [0, known.window * resumed.samples_per_window]


def test_samples_are_shuffled_anew_in_every_epoch_and_for_every_seed() -> None:
    lengths = lengths_of(40)
    first, other = (TokenBudgetOrder(lengths, 200, seed, 0) for seed in (0, 1))
    drawn = np.concatenate([first.batch(step) for step in range(20)])[:80]
    assert sorted(drawn[:40].tolist()) == list(range(40))
    assert (drawn[40:] - 40).tolist() != drawn[:40].tolist()
    assert first.batch(0).tolist() != other.batch(0).tolist()


def test_batches_are_of_like_length_and_their_order_is_not_by_length() -> None:
    lengths = lengths_of(2000)
    order = in_order(lengths, 400, 0, 20)
    steps = [lengths[order.batch(step) % 2000] for step in range(20)]
    assert np.mean([np.ptp(own) for own in steps]) < 4
    longest = [own.max() for own in steps]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    parts=st.integers(1, 8),
)
def test_parts_hold_every_row_once_and_are_nearly_equal(lengths: list[int], parts: int) -> None:
    if len(lengths) < parts:
        return
    own = np.array(lengths)
    for split in (equal_areas, equal_sums):
        places = split(own, parts)
        assert sorted(np.concatenate(places).tolist()) == list(range(len(own)))
        assert len(places) == parts and all(len(part) for part in places)
    sums = [own[part].sum() for part in equal_sums(own, parts)]
    assert max(sums) - min(sums) <= own.max()
    areas = [len(part) * own[part].max() for part in equal_areas(own, parts)]
    one = len(own) * own.max()
    assert max(areas) <= one / parts + own.max()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("devices", "accumulate"), [(1, 1), (2, 1), (1, 3), (4, 2)])
@pytest.mark.parametrize("grouping", [0, 6])
def test_devices_and_micro_batches_divide_the_same_global_batch(
    devices: int, accumulate: int, packed: bool, grouping: int
) -> None:
    lengths = lengths_of(300)
    rows, tokens = encoded(lengths), smallest_budget(30, devices * accumulate)
    whole = in_order(lengths, tokens, 3, grouping)
    samplers = [
        iter(StepSampler(
            rows, in_order(lengths, tokens, 3, grouping, packed=packed), first_step=5,
            accumulate=accumulate, rank=rank, world_size=devices,
        ))
        for rank in range(devices)
    ]  # fmt: skip
    for step in range(5, 15):
        parts = [next(sampler) for sampler in samplers for _ in range(accumulate)]
        expected = whole.batch(step)
        assert sorted(np.concatenate([p.positions for p in parts])) == sorted(expected)
        assert all(len(part.positions) for part in parts)
        assert {part.global_rows for part in parts} == {len(expected)}
        maskable = int(rows.maskable_lengths[expected % 300].sum())
        assert {part.global_maskable for part in parts} == {maskable}
        strata = np.concatenate([part.strata for part in parts])
        assert sorted(strata) == list(range(len(expected)))


# --- Multi30k ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def multi30k() -> EncodedRows:
    if "DLM_REAL_MODELS" not in os.environ:
        pytest.skip("DLM_REAL_MODELS does not name a folder of models")
    from dlm.models.build import load_tokenizer

    tokenizer = load_tokenizer(Path(os.environ["DLM_REAL_MODELS"]) / "bert-tiny-mlm")
    path = Path(os.environ["DLM_REAL_DATA"]) / "multi30k" / "de-en" / "train.jsonl"
    examples = stream_examples(Source(split="train", path=path), Template.of("translation"))
    prompts, responses = zip(*((e.prompt, e.response) for e in examples), strict=True)
    return encode_rows(tokenizer, list(prompts), list(responses), conditional=True)


def padding(rows: EncodedRows, order: GlobalBatches, width: int | None = None) -> float:
    """Mean over the micro-batches of 20 steps: of one device, of two that accumulate twice."""
    found, dataset = [], TokenDataset(rows, 0, width)
    for devices, accumulate in ((1, 1), (2, 2)):
        sampler = iter(StepSampler(
            rows, order, first_step=7, accumulate=accumulate, rank=0, world_size=devices
        ))  # fmt: skip
        found += [float(dataset.__getitems__(next(sampler)).padding_share) for _ in range(20)]
    return float(np.mean(found))


@pytest.mark.slow
@needs_real_data[0]
@needs_real_data[1]
def test_padding_of_multi30k_is_within_5_percent_padded_and_2_packed(multi30k: EncodedRows) -> None:
    lengths = multi30k.lengths
    tokens = 512 * int(lengths.mean())
    grouped = TokenBudgetOrder(lengths, tokens, 0)
    assert padding(multi30k, grouped) < 0.05
    unused = [1 - lengths[grouped.batch(s) % len(lengths)].sum() / tokens for s in range(100)]
    assert np.mean(unused) < 0.05
    for width in (256, 512):
        budget = TokenBudgetOrder(lengths, tokens, 0, 0, packed=True)
        assert padding(multi30k, budget, width) < 0.02
        assert padding(multi30k, BatchOrder(lengths, 512, 0, 0), width) < 0.02
        # Documents of like length leave the same room in every row.
        assert padding(multi30k, TokenBudgetOrder(lengths, tokens, 0, packed=True), width) < 0.04


def test_a_batch_may_fill_its_budget_to_the_last_token() -> None:
    assert cut_padded(np.array([4, 4, 4, 4, 4, 4]), 8) == [0, 2, 4, 6]
    assert cut_in_order(np.array([3, 5, 2, 6, 8]), 8, most=9) == [0, 2, 4, 5]


def test_the_last_batch_takes_rows_of_the_one_before_until_it_is_full() -> None:
    """Eight tokens at most: a row of five tokens has room for three of one, a row of seven for
    one."""
    assert cut_in_order(np.array([1] * 8 + [5]), 8, most=9) == [0, 5, 9]
    assert cut_in_order(np.array([1] * 8 + [7]), 8, most=9) == [0, 7, 9]
