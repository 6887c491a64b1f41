"""Demonstrations before a prompt, chosen by a row's content: the same whatever the order."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from dlm.data.prompts import Example
from dlm.data.sources import Place
from dlm.errors import UserError

Pair = tuple[str, str]


@dataclass(frozen=True)
class FewShot:
    """How many demonstrations, and how they are written."""

    count: int
    separator: str = "\n\n"
    """Between demonstrations, and before the prompt itself."""
    joiner: str = "\n"
    """Between a demonstration's prompt and its response."""
    pool_rows: int = 1000
    """Demonstrations are drawn from this many first rows of their source, held in memory."""

    def pool(self, examples: Iterable[Example]) -> list[Example]:
        """The demonstrations to draw from; of equal prompts the first, and of the examples of one
        row (a conversation has several) the first.

        Raises:
            UserError: There are too few for every row to have ``count`` that are not itself.
        """
        shown: dict[str, Example] = {}
        places: set[Place] = set()
        needed = self.count + 1  # all but the one with the row's own prompt
        for example in islice(examples, self.pool_rows):
            if example.place in places:
                needed = self.count + 2  # nor the one of the row itself, under another prompt
            else:
                places.add(example.place)
                shown.setdefault(example.prompt, example)
        if len(shown) < needed:
            raise UserError(
                f"few_shot.count = {self.count} needs at least {needed} rows with "
                f"different prompts to draw from, and there are {len(shown)}: lower it, raise "
                "few_shot.pool_rows, or name another few_shot.source"
            )
        return list(shown.values())

    def prompt(self, shown: Sequence[Pair], prompt: str) -> str:
        """Demonstrations and the prompt as one text."""
        texts = [f"{asked}{self.joiner}{answer}" for asked, answer in shown]
        return self.separator.join([*texts, prompt])


def demonstrations(
    few_shot: FewShot, pool: Sequence[Example], example: Example, seed: int
) -> list[Pair]:
    """``count`` different ones, a function of (seed, the example's text), never of its own row and
    never with its own prompt."""
    text = f"{seed}\0{example.prompt}\0{example.response}".encode()
    chosen: dict[str, str] = {}
    number = 0
    while len(chosen) < few_shot.count:
        digest = hashlib.blake2b(number.to_bytes(8, "big") + text, digest_size=8).digest()
        drawn = pool[int.from_bytes(digest, "big") % len(pool)]
        if drawn.prompt != example.prompt and drawn.place != example.place:
            chosen.setdefault(drawn.prompt, drawn.response)
        number += 1
    return list(chosen.items())
