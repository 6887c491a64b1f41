"""What every generator shares: how items are split, and how rows are drawn from them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

GENERATOR_VERSION = 1
"""Raised whenever the same arguments would give other rows."""

Split: TypeAlias = Literal["train", "validation", "test"]
Row: TypeAlias = dict[str, Any]


def split_of_key(key: str) -> Split:
    """The one split that an item of this name belongs to: 80 % train, 8 % validation, 12 % test."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    if bucket < 80:
        return "train"
    return "validation" if bucket < 88 else "test"


@dataclass(frozen=True)
class Request:
    """Checked arguments, without the count: rows must not depend on how many are asked for."""

    name: str
    split: Split
    seed: int
    options: Mapping[str, Any]

    def rng(self, label: str) -> random.Random:
        """Random numbers of a part of the rows."""
        return random.Random(f"{GENERATOR_VERSION}/{self.name}/{self.split}/{self.seed}/{label}")


@dataclass(frozen=True)
class Space:
    """All the rows of one kind by index, to be drawn without replacement."""

    size: int
    row: Callable[[int], Row]
    rng: random.Random

    def draw(self) -> Iterator[Row]:
        """Every row once, in random order (Fisher-Yates, keeping only the moved places)."""
        moved: dict[int, int] = {}
        for place in range(self.size):
            chosen = self.rng.randrange(place, self.size)
            index = moved.pop(chosen, chosen)
            if chosen != place:
                moved[chosen] = moved.pop(place, place)
            yield self.row(index)


@dataclass(frozen=True)
class Generator:
    """A kind of rows: what it is, its options with their defaults, and how it is built."""

    description: str
    options: Mapping[str, Any]
    spaces: Callable[[Request], list[Space]]
    libraries: tuple[str, ...] = ()
    """Packages whose version decides the rows too."""


def check_choice(what: str, value: object, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        ValueError: It is none; the message lists them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {what} {value!r}; valid: {', '.join(choices) or 'none'}")
    return value
