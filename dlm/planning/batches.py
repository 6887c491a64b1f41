"""How a global batch is shared by devices and micro-batches, and what the network then sees."""

import math
from dataclasses import dataclass

from dlm.data.batches.token_budget import smallest_budget
from dlm.errors import UserError
from dlm.planning.shapes import BatchShape

ENOUGH_TOKENS = 2048
"""Positions of a micro-batch with which a GPU is busy: smaller ones are a last resort."""
_RARE = 4.0
"""Standard deviations above the mean that some micro-batch of a long training reaches."""


@dataclass(frozen=True)
class Rows:
    """What is known of the rows without reading them."""

    longest: int
    """Tokens of the longest one that may come."""
    mean: float
    """Tokens of an average one."""
    response_share: float
    """Share of a row's tokens that noise may hit."""
    mean_rate: float = 1.0
    """Share of those that it hits, and whose logits are computed."""
    rate_deviation: float = 0.0
    """Standard deviation of that share from row to row."""
    copies: int = 1
    """Noisy rows of each clean one: 2 with coupled noise levels."""

    def masked(self, tokens: float, rows: float) -> int:
        """Masked positions of an unlucky micro-batch: mean rate and four standard deviations."""
        spread = _RARE * self.rate_deviation / math.sqrt(max(1.0, rows * self.copies))
        rate = min(1.0, self.mean_rate + spread)
        return math.ceil(tokens * self.response_share * rate * self.copies)


@dataclass(frozen=True)
class GlobalBatch:
    """Rows or tokens of an optimizer step, over all devices, as the recipe says."""

    rows: int | None
    tokens: int | None
    packed: bool = False
    grouped: bool = True
    """Rows of like length together: then a budget of tokens counts padded ones."""

    def tokens_per_step(self, rows: Rows) -> float:
        """Real tokens, of one copy."""
        if self.rows is not None:
            return self.rows * rows.mean
        assert self.tokens is not None
        return float(self.tokens)


@dataclass(frozen=True)
class Share:
    """One device's part of a step."""

    rows: int | None
    """Rows of a micro-batch; None where tokens are counted."""
    tokens: int | None
    accumulate: int

    @property
    def settings(self) -> dict[str, str]:
        """As settings of a stage, by key."""
        if self.rows is not None:
            return {"train.micro_batch_size": str(self.rows)}
        return {"train.micro_batch_tokens": str(self.tokens)}


def shares(
    batch: GlobalBatch, rows: Rows, gpus: int, *, micro_rows: int | None = None,
    micro_tokens: int | None = None,
) -> list[Share]:  # fmt: skip
    """Every way to accumulate, the largest micro-batch first; one where the recipe says which.

    Raises:
        UserError: The batch does not divide; the message says what would.
    """
    if batch.rows is not None:
        return _row_shares(batch.rows, gpus, micro_rows)
    assert batch.tokens is not None
    return _token_shares(batch.tokens, rows.longest, gpus, micro_tokens)


def _row_shares(total: int, gpus: int, micro: int | None) -> list[Share]:
    if total % gpus:
        near = [total // gpus * gpus, (total // gpus + 1) * gpus]
        fits = " or ".join(str(number) for number in near if number)
        counts = [number for number in range(1, gpus + 1) if total % number == 0]
        raise UserError(
            f"train.global_batch_size={total} is not divisible by {gpus} GPUs: use {fits} rows, or "
            f"{', '.join(map(str, counts[-3:]))} GPUs"
        )
    per_gpu = total // gpus
    sizes = [size for size in range(per_gpu, 0, -1) if per_gpu % size == 0]
    if micro is not None and micro not in sizes:
        raise UserError(
            f"train.micro_batch_size={micro} does not divide the {per_gpu} rows of each of {gpus} "
            f"GPUs (train.global_batch_size={total}): use one of {', '.join(map(str, sizes))}"
        )
    return [Share(size, None, per_gpu // size) for size in sizes if micro in (None, size)]


def _token_shares(total: int, longest: int, gpus: int, micro: int | None) -> list[Share]:
    most = next(
        (n for n in range(gpus * 64, 0, -1) if total >= smallest_budget(longest, n)), 0
    )  # fmt: skip
    if most < gpus:
        raise UserError(
            f"train.global_batch_tokens={total} is too little for {gpus} GPUs, where rows have up "
            f"to {longest} tokens and each GPU needs one: use at least "
            f"{smallest_budget(longest, gpus)} tokens, at most {most} GPUs, or a lower "
            "data.max_length"
        )
    if micro is not None:
        accumulate = -(-total // (gpus * micro))
        if gpus * accumulate > most:
            least = -(-total // (gpus * (most // gpus)))
            raise UserError(
                f"train.micro_batch_tokens={micro} makes {accumulate} micro-batches on each of "
                f"{gpus} GPUs, too many for train.global_batch_tokens={total} with rows of up to "
                f"{longest} tokens: use at least {least}"
            )
        return [Share(None, micro, accumulate)]
    return [Share(None, -(-total // (gpus * n)), n) for n in range(1, most // gpus + 1)]


def batch_shape(share: Share, batch: GlobalBatch, rows: Rows, width: int) -> BatchShape:
    """The largest micro-batch that may come. ``width``: of packed rows, in tokens."""
    if share.rows is not None:
        # By rows: all of them may be among the longest, where they are padded.
        count = float(share.rows)
        area = share.rows * rows.longest
        tokens = share.rows * rows.mean if batch.packed else float(area)
    else:
        assert share.tokens is not None
        tokens = float(share.tokens)
        count = tokens / rows.mean
        # A budget counts padded tokens where like lengths are together, else real ones.
        spread = 1.0 if batch.grouped else rows.longest / rows.mean
        area = math.ceil(tokens * spread)
    masked = rows.masked(tokens, count)
    if batch.packed:
        packed = math.ceil(tokens / width)
        return BatchShape(
            packed * rows.copies, width, masked, scattered=area * rows.copies
        )  # fmt: skip
    return BatchShape(math.ceil(area / rows.longest) * rows.copies, rows.longest, masked)
