"""Which documents share a row of the network: a plan from their lengths alone."""

import heapq

import numpy as np
import torch

from dlm.data.shuffle import Positions
from dlm.models.packed import Packing

Rows = list[list[int]]
"""The documents of each row."""


def plan_packing(lengths: Positions, max_width: int) -> Packing:
    """Every document once, in few rows as narrow as the fullest of them, at most ``max_width``.

    As few rows as the tokens need, or the next number with which rows of nearly equal fill are
    within ``max_width``. Where documents are so long that this takes many, first-fit decreasing:
    at most 11/9 of the fewest rows, and one.

    Args:
        lengths: tokens of each document, int64 [B], from 1 to ``max_width``.
        max_width: the longest sequence that the network may be given.
    """
    sizes: list[int] = lengths.tolist()
    longest_first = sorted(range(len(sizes)), key=lambda document: -sizes[document])
    fewest = -(-sum(sizes) // max_width)
    for count in range(fewest, fewest * 11 // 9 + 2):
        rows = _of_equal_fill(sizes, longest_first, min(count, len(sizes)))
        if _width(sizes, rows) <= max_width:
            break
    else:
        rows = _first_with_room(sizes, longest_first, max_width)
    row_B, start_B = np.empty_like(lengths), np.empty_like(lengths)
    for number, documents in enumerate(rows):
        row_B[documents] = number
        own = lengths[documents]
        start_B[documents] = np.cumsum(own) - own
    return Packing(
        torch.from_numpy(row_B), torch.from_numpy(start_B), len(rows), _width(sizes, rows)
    )


def _width(sizes: list[int], rows: Rows) -> int:
    return max(sum(sizes[document] for document in row) for row in rows)


def _of_equal_fill(sizes: list[int], order: list[int], count: int) -> Rows:
    """Each document into the emptiest row; then documents of the fullest and the emptiest row
    change places until this helps no more."""
    rows: Rows = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for document in order:
        fill, emptiest = heap[0]
        rows[emptiest].append(document)
        heapq.heapreplace(heap, (fill + sizes[document], emptiest))
    fills = [fill for fill, _ in sorted(heap, key=lambda item: item[1])]
    while True:
        fullest, emptiest = fills.index(max(fills)), fills.index(min(fills))
        gap = fills[fullest] - fills[emptiest]
        moves = [
            (abs(2 * (sizes[give] - sizes[take]) - gap), give, take)
            for give in rows[fullest]
            for take in rows[emptiest]
            if 0 < sizes[give] - sizes[take] < gap
        ]
        if not moves:
            return rows
        _, give, take = min(moves)
        rows[fullest][rows[fullest].index(give)] = take
        rows[emptiest][rows[emptiest].index(take)] = give
        fills[fullest] -= sizes[give] - sizes[take]
        fills[emptiest] += sizes[give] - sizes[take]


def _first_with_room(sizes: list[int], order: list[int], width: int) -> Rows:
    rows: Rows = []
    fills = np.zeros(len(sizes), dtype=np.int64)  # never more rows than documents
    for document in order:
        first = int(np.argmax(fills + sizes[document] <= width))
        if first == len(rows):
            rows.append([])
        rows[first].append(document)
        fills[first] += sizes[document]
    return rows
