"""Random numbers as a function of counters, the same on any device, layout and world size.

A draw belongs to its place (seed, epoch, sample, token), not to the order in which it was made, so
a resumed run or another number of devices sees the same noise.
"""

import torch
from torch import Tensor

_MASK32 = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def _scramble(x: Tensor | int) -> Tensor | int:
    """A bijection of 32-bit integers with good avalanche (held in int64, low 32 bits used)."""
    x = ((x >> 16) ^ x) * 0x21F0AAAD & _MASK32
    x = ((x >> 15) ^ x) * 0x735A2D97 & _MASK32
    return (x >> 15) ^ x


def counter_bits(*counters: Tensor | int) -> Tensor:
    """Hash integer counters (broadcast together) to 32 random bits, as int64 in [0, 2^32)."""
    # Integers stay Python's until they meet a tensor: one that is copied makes a GPU's host wait.
    device = next((c.device for c in counters if isinstance(c, Tensor)), None)
    state: Tensor | int = 0
    for counter in counters:
        value = counter.to(device, torch.int64) if isinstance(counter, Tensor) else counter
        for half in (value & _MASK32, (value >> 32) & _MASK32):
            # Cut twice: a Python integer of more than 64 bits meets no tensor.
            state = _scramble(((state * _GOLDEN + _GOLDEN & _MASK32) + half) & _MASK32)
    return state if isinstance(state, Tensor) else torch.tensor(state)


def counter_uniform(*counters: Tensor | int) -> Tensor:
    """Uniform draws in the open interval (0, 1), float32 with 23 random bits."""
    return ((counter_bits(*counters) >> 9).float() + 0.5) * 2.0**-23


def counter_gumbel(*counters: Tensor | int) -> Tensor:
    """Standard Gumbel draws, float32.

    From 32 bits, by the exponential's small values: large Gumbel values, which decide an argmax,
    come from numbers near 0, where float32 is fine-grained.
    """
    uniform = ((counter_bits(*counters).float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log(-torch.log1p(-uniform))


def counter_seed(*counters: int) -> int:
    """One integer seed from counters, for generators that want a number."""
    return int(counter_bits(*counters))
