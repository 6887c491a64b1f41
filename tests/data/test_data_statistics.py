"""What is counted of prepared rows, against the same counted by hand."""

from collections import Counter

import numpy as np
import pytest
from shard_tools import prepared, wanted, write_pairs
from small_vocabulary import tokenizer_of

from dlm.data.batches.batching import StepSampler, TokenDataset
from dlm.data.batches.order import BatchOrder
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.statistics import duplicates, length_quantiles, padding_share


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    folder = tmp_path_factory.mktemp("counted")
    path = write_pairs(folder / "pairs.jsonl", 300)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, *lines[:40], lines[0]]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlm.data.rows.shards.portions.PORTION_ROWS", 50)
        return prepared(wanted([path]), tokenizer_of(), folder, shard_tokens=500)[0]


def test_quantiles_are_lengths_that_occur(shards: TokenShards) -> None:
    lengths = np.sort(shards.lengths[np.arange(len(shards))])
    expected = {q: int(lengths[round(q * (len(lengths) - 1))]) for q in (0, 0.5, 0.95, 1)}
    found = length_quantiles(shards)
    assert {q: found[q] for q in expected} == expected


def test_duplicates_are_counted_once_for_each_further_copy(shards: TokenShards) -> None:
    rows = Counter(row.tobytes() for row in shards.read(np.arange(len(shards))))
    expected = sum(count - 1 for count in rows.values())
    found = duplicates(shards)
    assert (found.rows, found.of, found.sampled) == (expected, 341, False)
    assert expected >= 41


def test_of_many_rows_a_sample_is_compared_that_keeps_copies_together(shards: TokenShards) -> None:
    found = duplicates(shards, most=200)
    assert found.sampled and 100 < found.of < 240
    assert found.share == pytest.approx(duplicates(shards).share, abs=0.08)


def test_padding_is_what_the_batches_hold_besides_their_rows(shards: TokenShards) -> None:
    def share(grouping: int) -> float:
        order = BatchOrder(shards.lengths, 16, 0, grouping)
        sampler = StepSampler(shards, order, first_step=0, accumulate=2, rank=0, world_size=1)
        return padding_share(TokenDataset(shards, 0), sampler, 40)

    lengths = shards.lengths[np.arange(len(shards))]
    order = BatchOrder(shards.lengths, 16, 0, 0)
    parts = [p % len(shards) for s in range(20) for p in np.array_split(order.batch(s), 2)]
    real = sum(int(lengths[part].sum()) for part in parts)
    padded = sum(int(lengths[part].max()) * len(part) for part in parts)
    assert share(0) == pytest.approx(1 - real / padded)
    assert share(20) < share(0) / 2
