"""Demonstrations before a prompt, chosen by a row's content: the same whatever the order."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlm.data.prompts import Example
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
    """Demonstrations are drawn from so many first rows of their source, held in memory."""

    def pool(self, examples: Iterable[Example]) -> list[Pair]:
        """The demonstrations to draw from; of equal prompts the first.

        Raises:
            UserError: There are too few for every row to have ``count`` that are not itself.
        """
        pairs: dict[str, str] = {}
        for number, example in enumerate(examples):
            if number == self.pool_rows:
                break
            pairs.setdefault(example.prompt, example.response)
        if len(pairs) <= self.count:
            raise UserError(
                f"few_shot.count = {self.count} needs at least {self.count + 1} rows with "
                f"different prompts to draw from, and there are {len(pairs)}: lower it, raise "
                "few_shot.pool_rows, or name another few_shot.source"
            )
        return list(pairs.items())

    def prompt(self, shown: Sequence[Pair], prompt: str) -> str:
        """Demonstrations and the prompt as one text."""
        texts = [f"{asked}{self.joiner}{answer}" for asked, answer in shown]
        return self.separator.join([*texts, prompt])


def demonstrations(
    few_shot: FewShot, pool: Sequence[Pair], example: Example, seed: int
) -> list[Pair]:
    """``count`` different ones, a function of (seed, the example's text), never its own prompt."""
    text = f"{seed}\0{example.prompt}\0{example.response}".encode()
    chosen: dict[str, str] = {}
    number = 0
    while len(chosen) < few_shot.count:
        digest = hashlib.blake2b(number.to_bytes(8, "big") + text, digest_size=8).digest()
        prompt, response = pool[int.from_bytes(digest, "big") % len(pool)]
        if prompt != example.prompt:
            chosen.setdefault(prompt, response)
        number += 1
    return list(chosen.items())
