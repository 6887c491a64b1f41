"""Batches from prepared rows: the same samples whatever reads them."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_tools import in_memory, prepared, wanted, write_pairs
from small_vocabulary import tokenizer_of
from torch.utils.data import DataLoader

from dlm.data.batches.batching import BatchRequest, StepSampler, TokenBatch, TokenDataset
from dlm.data.batches.order import BatchOrder
from dlm.data.rows.encoding import EncodedRows
from dlm.data.rows.protocol import TokenRows
from dlm.data.rows.shards.format import Reached
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.shards.writer import ShardWriter

PAD = 1


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenShards, EncodedRows]:
    """The same rows in seven shards and in memory."""
    folder = tmp_path_factory.mktemp("rows")
    rows = wanted([write_pairs(folder / "pairs.jsonl", 97)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlm.data.rows.shards.portions.PORTION_ROWS", 14)
        shards, _ = prepared(rows, tokenizer_of(), folder, shard_tokens=100)
    assert len(shards.index.shards) == 7
    return shards, in_memory(rows, tokenizer_of())


def sampler(
    rows: TokenRows,
    *,
    batch: int,
    grouping: int,
    rank: int = 0,
    world_size: int = 1,
    first: int = 0,
) -> StepSampler:
    order = BatchOrder(rows.lengths, batch, 3, grouping)
    return StepSampler(
        rows, order, first_step=first, accumulate=1, rank=rank, world_size=world_size,
        with_step=True,
    )  # fmt: skip


def loaded(
    rows: TokenRows, requests: Iterator[BatchRequest], count: int, workers: int = 0
) -> list[TokenBatch]:
    loader = DataLoader(
        TokenDataset(rows, PAD), batch_sampler=list(islice(requests, count)),  # type: ignore[arg-type]
        collate_fn=lambda batch: batch, num_workers=workers,
    )  # fmt: skip
    return list(loader)


@settings(max_examples=10, deadline=None)
@given(
    half=st.integers(1, 20), grouping=st.integers(0, 5), steps=st.integers(1, 8),
    first=st.integers(0, 9),
)  # fmt: skip
def test_the_samples_of_k_steps_are_those_of_the_rows_in_memory_on_one_and_two_devices(
    both: tuple[TokenShards, EncodedRows], half: int, grouping: int, steps: int, first: int
) -> None:
    shards, memory = both

    def samples(rows: TokenRows, world_size: int) -> Counter[int]:
        return Counter(
            position
            for rank in range(world_size)
            for request in islice(
                sampler(rows, batch=2 * half, grouping=grouping, rank=rank, first=first,
                        world_size=world_size), steps)
            for position in request.positions.tolist()
        )  # fmt: skip

    expected = samples(memory, 1)
    assert samples(shards, 1) == samples(shards, 2) == expected
    assert expected.total() == 2 * half * steps


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("world_size", [1, 2])
def test_worker_processes_give_the_batches_of_the_parent(
    workers: int, world_size: int, both: tuple[TokenShards, EncodedRows]
) -> None:
    shards, _ = both
    for rank in range(world_size):
        options = {"batch": 8, "grouping": 3, "rank": rank, "world_size": world_size}
        alone = loaded(shards, iter(sampler(shards, **options)), 9)
        ours = loaded(shards, iter(sampler(shards, **options)), 9, workers)
        for mine, theirs in zip(ours, alone, strict=True):
            for name, value in vars(theirs).items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(getattr(mine, name), value), name


def test_batches_are_those_of_the_rows_in_memory(both: tuple[TokenShards, EncodedRows]) -> None:
    batches = [loaded(rows, iter(sampler(rows, batch=16, grouping=4)), 12) for rows in both]
    for mine, theirs in zip(*batches, strict=True):
        for name, value in vars(theirs).items():
            mine_value = getattr(mine, name)
            if name == "step":
                for field, whole in value._asdict().items():
                    np.testing.assert_array_equal(getattr(mine_value, field), whole)
            else:
                same = (
                    torch.equal(mine_value, value)
                    if torch.is_tensor(value)
                    else mine_value == value
                )
                assert same, name


def test_order_and_batches_of_a_million_rows_take_no_memory_for_each_row(tmp_path: Path) -> None:
    count, length = 10**6, 6
    writer = ShardWriter(tmp_path / "key")
    for _ in range(4):
        rows = count // 4
        writer.add(
            np.zeros(rows * length, dtype=np.uint16), np.full(rows, length),
            np.ones(rows, dtype=np.int32), Reached(),
        )  # fmt: skip
    shards = TokenShards(tmp_path / "key", writer.finish("key", {}))
    requests = iter(sampler(shards, batch=64, grouping=10))
    tracemalloc.start()
    try:
        for _ in range(20):
            batch = TokenDataset(shards, PAD).__getitems__(next(requests))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch.tokens_BL.shape == (64, length)
    assert peak < count, "a byte a row would be too much already"


def test_a_column_answers_in_the_shape_of_the_question(
    both: tuple[TokenShards, EncodedRows], tmp_path: Path
) -> None:
    shards, memory = both
    question = np.array([[96, 0, 50], [1, 1, 14]])
    np.testing.assert_array_equal(shards.lengths[question], memory.lengths[question])
    assert len(shards.maskable_lengths) == 97
    assert shards.read(np.array([], dtype=np.int64)) == []
