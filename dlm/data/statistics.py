"""What a prepared data set is made of: lengths, duplicates, padding; in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, pairwise

import numpy as np

from dlm.data.batches.batching import StepSampler, TokenDataset
from dlm.data.rows.shards.reading import TokenShards

MOST_HASHES = 2**22
"""Rows whose hashes are compared; of more rows a sample is taken, by the hash itself."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Duplicates:
    """Rows with the same tokens as an earlier one."""

    rows: int
    of: int
    """Rows compared: all, or a sample."""
    sampled: bool

    @property
    def share(self) -> float:
        """Duplicates among the rows compared."""
        return self.rows / self.of if self.of else 0.0


def length_quantiles(shards: TokenShards) -> dict[float, int]:
    """Exact quantiles of the rows' lengths in tokens (of the next shorter length that occurs)."""
    counts = np.zeros(1, dtype=np.int64)
    for shard in shards.shards():
        found = np.bincount(np.diff(shard.offsets), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    ends = counts.cumsum()
    places = [round(quantile * (len(shards) - 1)) for quantile in QUANTILES]
    lengths = np.searchsorted(ends, places, side="right")
    return dict(zip(QUANTILES, lengths.tolist(), strict=True))


def duplicates(shards: TokenShards, most: int = MOST_HASHES) -> Duplicates:
    """Exact duplicates by a 64-bit hash of the tokens.

    A sample keeps the rows whose hash falls into a part of its range: copies are kept together, so
    the share is not biased.
    """
    parts = -(-len(shards) // most)
    hashes = np.fromiter((h for h in _hashes(shards) if h % parts == 0), dtype=np.uint64)
    return Duplicates(len(hashes) - len(np.unique(hashes)), len(hashes), parts > 1)


def _hashes(shards: TokenShards) -> Iterator[int]:
    for shard in shards.shards():
        bounds = shard.offsets.tolist()
        for start, stop in pairwise(bounds):
            digest = blake2b(shard.tokens[start:stop].tobytes(), digest_size=8).digest()
            yield int.from_bytes(digest, "big")


def padding_share(rows: TokenDataset, sampler: StepSampler, micro_batches: int) -> float:
    """The share of padding in the first micro-batches that a sampler asks for."""
    real, area = 0, 0.0
    for request in islice(sampler, micro_batches):
        batch = rows.__getitems__(request)
        tokens = int(batch.valid_BL.sum())
        real += tokens
        area += tokens / (1 - float(batch.padding_share))
    return 1 - real / area
