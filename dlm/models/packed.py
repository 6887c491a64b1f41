"""Several documents in one row of the network: where each lies, and the way there and back.

Noise, weights and normalisers stay with the padded rows [B, L]; only the network sees packed rows
[R, W], each document with attention to itself alone and positions from 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Packing:
    """Where each row of a padded batch lies in the packed one.

    Made on the host from lengths alone, so that no shape has to be asked of a device. Not frozen:
    under DeepSpeed Lightning sets the fields of a copy.
    """

    row_B: Tensor
    """Its packed row, int64."""
    start_B: Tensor
    """The column that it begins at, int64."""
    rows: int
    """Packed rows R."""
    width: int
    """Their width W in tokens."""
    longest: int | None = None
    """No row is longer; None: than W."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Packing":
        """The same with other tensors (on another device, say)."""
        return replace(self, row_B=function(self.row_B), start_B=function(self.start_B))

    def repeat(self, copies: int) -> "Packing":
        """Of a batch that holds its rows several times, one copy after the other."""
        rows_B = [self.row_B + number * self.rows for number in range(copies)]
        return Packing(
            torch.cat(rows_B), self.start_B.repeat(copies), copies * self.rows, self.width,
            self.longest,
        )  # fmt: skip

    def places(self, valid_BL: Tensor) -> "PackedPlaces":
        """Place by place, for rows of at most the lengths that were planned for."""
        token_index_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0)
        # Padding stands where its row's first or last token does.
        place_BL = (self.row_B * self.width + self.start_B)[:, None] + token_index_BL
        nowhere = self.rows * self.width
        target_P = torch.where(valid_BL, place_BL, nowhere).flatten()
        numbers_P = torch.arange(target_P.numel(), device=target_P.device)
        empty = torch.full((nowhere + 1,), -1, dtype=torch.int64, device=target_P.device)
        source_RW = empty.scatter(0, target_P, numbers_P)[:-1].view(self.rows, self.width)
        return PackedPlaces(source_RW, place_BL)


def one_row(lengths: list[int], valid_BL: Tensor) -> Packing:
    """All rows of a batch in one, without a gap; nothing is sent to their device."""
    length_B = valid_BL.sum(dim=1)
    start_B = length_B.cumsum(dim=0) - length_B
    return Packing(torch.zeros_like(start_B), start_B, 1, sum(lengths), max(lengths))


@dataclass(frozen=True)
class PackedPlaces:
    """From padded to packed places and back."""

    source_RW: Tensor
    """Number of the padded place (row x L + column) of each packed one, int64; -1: empty."""
    place_BL: Tensor
    """Number of the packed place (row x W + column) of each padded one; padding repeats one."""

    @property
    def valid_RW(self) -> Tensor:
        """Places that hold a token."""
        return self.source_RW >= 0

    @property
    def document_RW(self) -> Tensor:
        """The padded row that each place belongs to; -1: empty."""
        return self.source_RW.div(self.place_BL.shape[1], rounding_mode="floor")

    def gather(self, values_BL: Tensor) -> Tensor:
        """Integers or truth values of padded places at the packed ones, 0 at empty ones."""
        packed_RW = values_BL.flatten()[self.source_RW.clamp(min=0)]
        return torch.where(self.valid_RW, packed_RW, torch.zeros_like(packed_RW))

    def scatter(self, hidden_RWH: Tensor) -> Tensor:
        """Hidden states of packed places, back at the padded ones [B, L, H]."""
        # index_select as everywhere: its backward is deterministic on CPU.
        hidden_PH = hidden_RWH.flatten(0, 1).index_select(0, self.place_BL.flatten())
        return hidden_PH.view(*self.place_BL.shape, -1)
