"""Padded batches, and the sampler that asks for them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dlm.data.batches.order import GlobalBatches
from dlm.data.batches.packing import plan_packing
from dlm.data.rows.encoding import EncodedRows
from dlm.data.rows.masking import Masking, row_masks
from dlm.data.rows.protocol import TokenRows
from dlm.data.shuffle import Positions
from dlm.diffusion.counter import counter_bits
from dlm.models.packed import Packing

_STRATA = 103


class TokenCounts(NamedTuple):
    """How much the network reads of a micro-batch; made on the host, so that no device is asked."""

    tokens: int
    pairs: int
    """Pairs of tokens of one row: the sum of its squared length."""
    positions: int
    """Computed by the network, padding too."""

    @classmethod
    def of(cls, lengths: Positions, packing: Packing | None = None) -> Self:
        """Of rows of this many tokens, int64 [B]."""
        area = packing.rows * packing.width if packing else len(lengths) * int(lengths.max())
        return cls(int(lengths.sum()), int((lengths**2).sum()), area)


@dataclass
class Predicted:
    """The tokens that a step predicts, found on the host before the batch goes to its device, so
    that no step waits to be told their number.

    Truth values and integers alone: DeepSpeed halves what floats.
    """

    seed: int
    """Of the noise."""
    masked_BL: Tensor
    """The positions that are noise; of all copies of the rows."""
    place_M: Tensor
    """Number (row x L + column) of each position whose token is predicted and counts, int64."""
    masked_in_step: int | None = None
    """How many there are in the whole step, over all devices and micro-batches, where the loss is
    divided by them; None: nobody asked."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Predicted":
        """The same with other tensors (on another device, say)."""
        masked_BL, place_M = function(self.masked_BL), function(self.place_M)
        return Predicted(self.seed, masked_BL, place_M, self.masked_in_step)


class StepRows(NamedTuple):
    """All rows of a step, over all devices and micro-batches: where noise may hit them, not what
    they say. Arrays of one number a row, on the host.

    DeepSpeed's plugin looks into what a batch holds, and refuses frozen dataclasses.
    """

    positions: Positions
    """Position of each row in the run (``TokenBatch.sample_B``)."""
    strata: Positions
    lengths: Positions
    prompt_lengths: Positions
    answer_lengths: Positions | None
    masking: Masking

    @classmethod
    def of(cls, rows: TokenRows, positions: Positions, strata: Positions) -> Self:
        """The rows at these positions."""
        index, answers = positions % len(rows), rows.answer_lengths
        return cls(
            positions, strata, rows.lengths[index], rows.prompt_lengths[index],
            None if answers is None else answers[index], rows.masking,
        )  # fmt: skip

    def parts(self, most: int = 2**18) -> Iterator[tuple[Positions, Tensor, Tensor]]:
        """Rows of like length together, of about ``most`` positions with their padding: their
        places in the arrays, what is maskable and what of it counts, bool [B, L]."""
        order = np.argsort(self.lengths, kind="stable")
        rows = max(1, most // int(self.lengths.max()))
        for start in range(0, len(order), rows):
            part = order[start : start + rows]
            lengths, first = self.lengths[part], self.prompt_lengths[part]
            answers = None if self.answer_lengths is None else self.answer_lengths[part]
            maskable, counted, _ = _masks(lengths, first, answers, self.masking)
            yield part, torch.from_numpy(maskable), torch.from_numpy(counted)


def _masks(
    lengths: Positions, first: Positions, answers: Positions | None, masking: Masking
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """What is maskable, what of it counts and what is a response, [B, L] of rows padded on the
    right to the longest."""
    width = int(lengths.max())
    maskable, response = row_masks(lengths, first, width, masking)
    if answers is None:
        return maskable, maskable, response
    return maskable, maskable & (np.arange(width) < (first + answers)[:, None]), response


@dataclass
class TokenBatch:
    """Rows of tokens, padded on the right."""

    tokens_BL: Tensor
    """Token ids, int64."""
    valid_BL: Tensor
    """False on padding."""
    maskable_BL: Tensor
    """Positions that noise may hit."""
    counted_BL: Tensor
    """Maskable positions that count in the loss: all of them, except where the padding of a canvas
    does not."""
    response_BL: Tensor
    """The response and its end token (nothing in plain text), on a canvas with the padding."""
    sample_B: Tensor
    """Position of each row in the run (epoch x rows + index), int64."""
    stratum_B: Tensor
    """A number for each row, int64: over all devices the rows of a step, or of a whole validation,
    have 0..global_rows-1, in an order that has nothing to do with their lengths."""
    global_rows: int
    """Rows of the whole step, over all devices and micro-batches; or of the whole validation."""
    global_maskable: int
    """Maskable tokens of the same rows, those that count in the loss."""
    counts: TokenCounts
    """Of this micro-batch's rows."""
    prompt_counts: TokenCounts
    """Of their prompts alone."""
    packing: Packing | None = None
    """How the rows share the network's rows; None: each has its own."""
    predicted: Predicted | None = None
    """What a step on these rows predicts, once it is drawn."""
    step: StepRows | None = None
    """Of training: all rows of the step that these are a part of, where they are asked for."""
    filler: bool = False
    """Whether the rows are validated elsewhere and read here so that every device calls the network
    equally often; nothing of them counts."""

    @property
    def padding_share(self) -> Tensor:
        """Share of the network's positions that hold no token, float32."""
        packing = self.packing
        area = packing.rows * packing.width if packing else self.valid_BL.numel()
        return 1 - self.valid_BL.sum() / area

    @property
    def token_index_BL(self) -> Tensor:
        """Number of each token in its row, from 0."""
        return (self.valid_BL.cumsum(dim=1) - 1).clamp(min=0)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "TokenBatch":
        """A copy on another device (Lightning's transfer calls this)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "TokenBatch":
        """A copy in pinned memory (the loader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> "TokenBatch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self, **{k: function(v) for k, v in tensors.items() if isinstance(v, Tensor)},
            packing=self.packing and self.packing.map(function),
            predicted=self.predicted and self.predicted.map(function),
        )  # fmt: skip


@dataclass(frozen=True)
class BatchRequest:
    """One micro-batch of one device."""

    positions: Positions
    strata: Positions
    """Each row's number among those of the whole step or validation, in random order."""
    global_rows: int
    global_maskable: int
    filler: bool = False
    """Whether the rows are another device's and do not count."""
    step: StepRows | None = None
    """Of training: all rows of the step, where they are asked for."""


class TokenDataset(Dataset[TokenBatch]):
    """Collates whole micro-batches from encoded rows."""

    def __init__(self, rows: TokenRows, pad_token_id: int, packed_width: int | None = None) -> None:
        """``packed_width``: rows may share the network's rows, of at most this many tokens."""
        self.rows = rows
        self.packed_width = packed_width
        self.pad_token_id = pad_token_id

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, request: BatchRequest) -> TokenBatch:
        indices = request.positions % len(self.rows)
        rows = self.rows.read(indices)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        first = self.rows.prompt_lengths[indices]
        width = int(lengths.max())
        column = np.arange(width)
        valid = column < lengths[:, None]
        tokens = np.full(valid.shape, self.pad_token_id, dtype=np.int64)
        tokens[valid] = np.concatenate(rows)
        answers = self.rows.answer_lengths
        maskable, counted, response = _masks(
            lengths, first, None if answers is None else answers[indices], self.rows.masking
        )
        packing = plan_packing(lengths, self.packed_width) if self.packed_width else None
        return TokenBatch(
            tokens_BL=torch.from_numpy(tokens),
            valid_BL=torch.from_numpy(valid),
            maskable_BL=torch.from_numpy(maskable),
            counted_BL=torch.from_numpy(counted),
            response_BL=torch.from_numpy(response),
            sample_B=torch.from_numpy(request.positions),
            stratum_B=torch.from_numpy(request.strata),
            global_rows=request.global_rows,
            global_maskable=request.global_maskable,
            counts=TokenCounts.of(lengths, packing),
            prompt_counts=TokenCounts.of(first.astype(np.int64)),
            packing=packing,
            filler=request.filler,
            step=request.step,
        )


class StepSampler(Sampler[BatchRequest]):
    """The micro-batches of one device, endless, from a given step on."""

    def __init__(
        self,
        rows: TokenRows,
        order: GlobalBatches,
        *,
        first_step: int,
        accumulate: int,
        rank: int,
        world_size: int,
        with_step: bool = False,
    ) -> None:
        """``with_step``: every request knows all rows of its step."""
        self.order = order
        self.rows = rows if with_step else None
        self.counted_lengths = rows.counted_lengths
        self.first_step = first_step
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[BatchRequest]:
        step = self.first_step
        while True:
            positions = self.order.batch(step)
            maskable = int(self.counted_lengths[positions % len(self.counted_lengths)].sum())
            strata = random_ranks(positions)
            whole = None if self.rows is None else StepRows.of(self.rows, positions, strata)
            for part in self.order.parts(positions, self.world_size, self.accumulate)[self.rank]:
                yield BatchRequest(
                    positions[part], strata[part], len(positions), maskable, step=whole
                )
            step += 1


def random_ranks(positions: Positions) -> Positions:
    """0..n-1 in an order that is a function of the positions alone: their numbers, shuffled."""
    keys = counter_bits(_STRATA, torch.from_numpy(positions)).numpy()
    ranks = np.empty(len(positions), dtype=np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(len(positions))
    return ranks


def validation_requests(
    rows: EncodedRows, batch_size: int, *, rank: int, world_size: int
) -> list[BatchRequest]:
    """Every row once, in batches of like length of at most ``batch_size`` rows a device.

    What a row is drawn with does not depend on its batch: its stratum is its own among all rows.
    Every device has an equal number of batches, for collectives need all of them: where there is no
    row left for one, it reads a row of another as a filler.
    """
    by_length = np.argsort(rows.lengths, kind="stable").astype(np.int64)
    strata = random_ranks(np.arange(len(by_length)))
    maskable = int(rows.counted_lengths.sum())
    requests = []
    for start in range(0, len(by_length), batch_size * world_size):
        part = by_length[start : start + batch_size * world_size]
        own = part[rank::world_size]
        filler = not len(own)
        own = part[:1] if filler else own
        requests.append(BatchRequest(own, strata[own], len(by_length), maskable, filler))
    return requests
