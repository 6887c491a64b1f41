"""Where the documents of packed rows lie, as attention needs to know it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlm.models.attention.masks import AttentionPattern
from dlm.models.packed import Packing

LayerKeys = dict[int, list[Tensor]]
"""Keys and values of every layer [tokens, heads, D], by its attention module's ``id``."""


@dataclass(frozen=True)
class Group:
    """Documents of nearly equal length, next to each other in ``Documents.order_P``."""

    count: int
    width: int
    length_N: Tensor | None
    """Their lengths; None: all are ``width`` long."""
    keys: int | None = None
    """This many keys each, behind a cached prompt; None: as many as queries."""
    seen: Tensor | None = None
    """Which of these they see, bool [count, 1, 1, keys]; None: all."""
    near: Tensor | None = None
    """The same in sliding-window layers, [count, 1, width or 1, keys]."""


@dataclass(frozen=True)
class Documents:
    """Where the documents of packed rows [R, W] lie, and what their tokens see."""

    causal: bool
    window: int | None
    """How far sliding-window layers see to either side; None: there are none."""
    longest: int
    """No document is longer."""
    bounds_N: Tensor | None = None
    """CUDA: where documents and gaps begin in the rows laid end to end, int32, and the end."""
    groups: tuple[Group, ...] = ()
    """CPU: what is computed together."""
    order_P: Tensor | None = None
    """CPU: the packed place of every place of the groups, one after the other."""
    back_W: Tensor | None = None
    """CPU: the group place of every packed one [R x W]; anything where there is no token."""
    kept: LayerKeys | None = None
    """Where keys and values of every layer are kept; None: they are not."""
    known: LayerKeys | None = None
    """Keys and values of cached prompts, in front of those of the rows; None: there are none."""
    key_order_P: Tensor | None = None
    """With cached prompts: the places of the documents' keys among those and the rows'."""
    key_bounds_N: Tensor | None = None
    """CUDA, with cached prompts: where the documents begin among their keys, and the end."""
    prompts: "Documents | None" = None
    """The prompts, where they see themselves alone; None: they see what the rest does."""
    prompt_W: Tensor | None = None
    """Packed places that hold them, bool [R x W]."""


def documents_of(
    packing: Packing,
    valid_BL: Tensor,
    pattern: AttentionPattern,
    response_BL: Tensor | None = None,
    *,
    window: int | None,
) -> Documents:
    """The documents of a packed batch; on CUDA without waiting for the device.

    Args:
        packing: The layout.
        valid_BL: False on padding.
        pattern: Who sees whom.
        response_BL: The response, which ends its row; read by the patterns that begin with
            ``prefix``.
        window: How far sliding-window layers see; None: there are none.
    """
    lay_out = _sequences if valid_BL.is_cuda else _grouped
    length_B = valid_BL.sum(dim=1)
    whole = lay_out(packing, length_B, pattern in ("causal", "prefix_causal"), window)
    if not pattern.startswith("prefix"):
        return whole
    assert response_BL is not None, f"{pattern} needs to know the response"
    # Everything attends in its whole document, and prompts once more in themselves: a little
    # arithmetic twice, but neither a key nor a mask is copied, and nobody asks how many there are.
    prompt_B = length_B - (response_BL & valid_BL).sum(dim=1)
    start_B1 = (packing.row_B * packing.width + packing.start_B)[:, None]
    area = packing.rows * packing.width
    column_L = torch.arange(valid_BL.shape[1], device=valid_BL.device)
    place_BL = torch.where(column_L < prompt_B[:, None], start_B1 + column_L, area)
    prompt_W = torch.zeros(area + 1, dtype=torch.bool, device=valid_BL.device)
    prompt_W = prompt_W.index_fill(0, place_BL.flatten(), True)[:-1]
    prompts = lay_out(packing, prompt_B, False, window)
    if prompts.bounds_N is None and not prompts.groups:
        return whole
    return replace(whole, prompts=prompts, prompt_W=prompt_W)


def _sequences(packing: Packing, length_B: Tensor, causal: bool, window: int | None) -> Documents:
    """For the kernel of CUDA: this many tokens from each document's start."""
    start_B = packing.row_B * packing.width + packing.start_B
    begins = bounds(start_B, length_B, packing.rows * packing.width)
    # A gap, which is a sequence too, is no longer than a row.
    return Documents(causal, window, packing.longest or packing.width, begins)


def _grouped(packing: Packing, length_B: Tensor, causal: bool, window: int | None) -> Documents:
    """For a CPU: this many tokens from each document's start, those of near length together."""
    start_B = packing.row_B * packing.width + packing.start_B
    if not length_B.any():
        return Documents(causal, window, packing.width)
    made = group_queries(start_B, length_B, length_B, packing.rows * packing.width)
    groups = []
    for row_N, width in made.rows:
        length_N = length_B[row_N]
        equal = int(length_N[0]) == width
        groups.append(Group(len(row_N), width, None if equal else length_N))
    return Documents(
        causal, window, packing.width, groups=tuple(groups), order_P=made.order_P,
        back_W=made.back_W,
    )  # fmt: skip


@dataclass(frozen=True)
class QueryGroups:
    """Which documents are computed together, and where their queries lie."""

    rows: list[tuple[Tensor, int]]
    """Numbers of a group's documents, and the width that their queries are padded to."""
    order_P: Tensor
    """As in ``Documents``."""
    back_W: Tensor
    """As in ``Documents``."""


def group_queries(start_B: Tensor, length_B: Tensor, alike_B: Tensor, area: int) -> QueryGroups:
    """Group documents with this many queries from each start on, those of like length together."""
    order_B = alike_B.argsort(stable=True)
    order_B = order_B[length_B[order_B] > 0]
    back_W = torch.zeros(area, dtype=torch.int64)
    rows, order, first = [], [], 0
    for row_N in torch.split(order_B, near_lengths(alike_B[order_B].tolist())):
        width = int(length_B[row_N].max())
        column_C, last_N1 = torch.arange(width), length_B[row_N, None] - 1
        # Padding stands where its document's last token does.
        place_NC = start_B[row_N, None] + column_C.minimum(last_N1)
        filled_NC = column_C <= last_N1
        numbers_NC = first + torch.arange(place_NC.numel()).view(place_NC.shape)
        back_W[place_NC[filled_NC]] = numbers_NC[filled_NC]
        rows.append((row_N, width))
        order.append(place_NC.flatten())
        first += place_NC.numel()
    return QueryGroups(rows, torch.cat(order), back_W)


def bounds(start_B: Tensor, length_B: Tensor, area: int) -> Tensor:
    """Where documents begin and end in rows laid end to end, int32 [2 B + 2]: the gaps between
    them are sequences too, some of them empty."""
    # Filled on the device: a copy of a list would make the host wait.
    first, last = start_B.new_zeros(1), start_B.new_full((1,), area)
    return torch.cat([start_B, start_B + length_B, first, last]).sort().values.int()


def near_lengths(lengths: list[int]) -> list[int]:
    """How many of these documents, shortest first, to compute together each time: the longest has
    a quarter more tokens than the shortest at most."""
    runs, shortest = [0], lengths[0]
    for length in lengths:
        if length > shortest + max(4, shortest // 4):
            runs.append(0)
            shortest = length
        runs[-1] += 1
    return runs
