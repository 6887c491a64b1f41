"""How devices and micro-batches share a batch whose rows are of different lengths."""

import heapq

import numpy as np

from dlm.data.shuffle import Positions


def equal_areas(lengths: Positions, parts: int) -> list[Positions]:
    """Places of ``lengths`` in so many parts of like length, the greatest rows x longest as small
    as it can be."""
    longest_first = np.argsort(-lengths, kind="stable")
    fallen = lengths[longest_first]
    low, high = int(fallen[0]), int(fallen[0]) * len(lengths)
    while low < high:
        middle = (low + high) // 2
        if len(_areas_within(fallen, middle)) - 1 <= parts:
            high = middle
        else:
            low = middle + 1
    bounds = _areas_within(fallen, low)
    while len(bounds) - 1 < min(parts, len(lengths)):
        widest = int(np.argmax(np.diff(bounds)))
        bounds.insert(widest + 1, (bounds[widest] + bounds[widest + 1]) // 2)
    return np.split(longest_first, bounds[1:-1])


def _areas_within(fallen: Positions, tokens: int) -> list[int]:
    bounds = [0]
    while bounds[-1] < len(fallen):
        bounds.append(min(len(fallen), bounds[-1] + tokens // int(fallen[bounds[-1]])))
    return bounds


def equal_sums(lengths: Positions, parts: int) -> list[Positions]:
    """Places of ``lengths`` in so many parts of nearly equal sums: the longest first, each where
    there is least so far."""
    sums = [(0, number) for number in range(parts)]
    members: list[list[int]] = [[] for _ in range(parts)]
    for place in np.argsort(-lengths, kind="stable").tolist():
        total, least = sums[0]
        members[least].append(place)
        heapq.heapreplace(sums, (total + int(lengths[place]), least))
    return [np.array(part, dtype=np.int64) for part in members]
