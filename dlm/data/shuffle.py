"""Shuffling without a list: where an item goes is computed from its number alone.

A Feistel network is a bijection of the numbers below a power of four, whatever its round function
(Luby and Rackoff 1988); numbers that fall outside the set are sent through again until they fall
inside (cycle walking, Black and Rogaway 2002). So an epoch of a billion rows is shuffled in no
memory, and any part of it can be asked for.
"""

import numpy as np
import numpy.typing as npt
import torch

from dlm.diffusion.counter import counter_bits

Positions = npt.NDArray[np.int64]

_ROUNDS = 6
_STREAM = 101


def shuffled_places(
    places: Positions, size: int, *, seed: int, number: int | Positions
) -> Positions:
    """The items at these places of shuffle ``number`` of 0..size-1, int64 in the same shape.

    Every item stands at exactly one place; ``seed`` and ``number`` (the epoch, say; one for all
    places or one for each) decide where.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    values = torch.from_numpy(np.ascontiguousarray(places)).flatten()
    numbers = torch.from_numpy(np.broadcast_to(number, places.shape).astype(np.int64)).flatten()
    keys = counter_bits(seed, _STREAM, numbers)
    walking = torch.arange(len(values))
    result = torch.empty_like(values)
    while len(walking):
        values = _feistel(values, half_bits, keys)
        inside = values < size
        result[walking[inside]] = values[inside]
        walking, values, keys = walking[~inside], values[~inside], keys[~inside]
    items: Positions = result.numpy().reshape(places.shape)
    return items


def _feistel(values: torch.Tensor, half_bits: int, keys: torch.Tensor) -> torch.Tensor:
    mask = (1 << half_bits) - 1
    left, right = values >> half_bits, values & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (counter_bits(keys, number, right) & mask)
    return (left << half_bits) | right
