"""Which documents share a row of the network: a plan from their lengths alone."""

import heapq
from dataclasses import dataclass

import numpy as np
import torch

from dlm.data.shuffle import Positions
from dlm.models.packed import Packing


@dataclass(frozen=True)
class _Placed:
    row: Positions
    start: Positions
    fill: Positions
    """Tokens in each row."""


def plan_packing(lengths: Positions, max_width: int) -> Packing:
    """Every document once, in few rows as narrow as the fullest of them, at most ``max_width``.

    As many rows as the tokens need at least, if the documents, the longest first, fit when each
    goes into the emptiest row; else each goes into the first row that has room (first-fit
    decreasing, at most 11/9 of the fewest rows).

    Args:
        lengths: tokens of each document, int64 [B], from 1 to ``max_width``.
        max_width: the longest sequence that the network may be given.
    """
    longest_first = np.argsort(-lengths, kind="stable").tolist()
    placed = _into_the_emptiest(lengths, longest_first, -(-int(lengths.sum()) // max_width))
    if placed.fill.max() > max_width:
        placed = _into_the_first_with_room(lengths, longest_first, max_width)
    return Packing(
        torch.from_numpy(placed.row), torch.from_numpy(placed.start),
        rows=len(placed.fill), width=int(placed.fill.max()),
    )  # fmt: skip


def _into_the_emptiest(lengths: Positions, order: list[int], rows: int) -> _Placed:
    row, start = np.empty_like(lengths), np.empty_like(lengths)
    fills = [(0, number) for number in range(rows)]
    for document in order:
        fill, emptiest = fills[0]
        row[document], start[document] = emptiest, fill
        heapq.heapreplace(fills, (fill + int(lengths[document]), emptiest))
    return _Placed(row, start, np.array([fill for fill, _ in sorted(fills, key=lambda f: f[1])]))


def _into_the_first_with_room(lengths: Positions, order: list[int], width: int) -> _Placed:
    row, start = np.empty_like(lengths), np.empty_like(lengths)
    fill = np.zeros_like(lengths)  # never more rows than documents
    for document in order:
        first = int(np.argmax(fill + lengths[document] <= width))
        row[document], start[document] = first, fill[first]
        fill[first] += lengths[document]
    return _Placed(row, start, fill[fill > 0])
