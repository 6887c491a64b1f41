"""Examples in portions, read and tokenized at the same time.

While the tokenizer's threads work on one portion (without the interpreter's lock), the caller's
thread reads the next one and does what it likes with the one before.
"""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from dlm.data.prompts import Example
from dlm.data.rows.shards.encoder import RowEncoder
from dlm.data.rows.shards.format import Reached
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import BadRows

PORTION_ROWS, PORTION_CHARACTERS = 4096, 2**20
"""A portion has at most this many examples, and ends behind the one that reaches this many
characters: enough for the threads of many cores, and 100 to 200 MB of the tokenizer's objects."""
AHEAD = 2
"""Portions that wait for the tokenizer or are with it."""


class Portion(NamedTuple):
    """Examples of one source; the last portion of a source is empty."""

    source: int
    examples: list[Example]
    ends: bool


def portions(
    wanted: RowsWanted, reached: Reached, counts: Counter[str], bad_rows: BadRows
) -> Iterator[Portion]:
    """What is behind the place that is reached. Where portions end depends on what lies before
    them in no way, so that a preparation that was killed goes on with the same ones.

    All is read from the beginning (not tokenized): an example may repeat one long before it, and
    ``counts`` and ``bad_rows`` are those of the whole set in the end.
    """
    numbered = wanted.examples.stream(counts, bad_rows=bad_rows)
    following = reached.source
    for number, group in groupby(_behind(numbered, reached), key=itemgetter(0)):
        yield from (Portion(empty, [], ends=True) for empty in range(following, number))
        examples = (example for _, example in group)
        while taken := _take(examples):
            yield Portion(number, taken, ends=False)
        yield Portion(number, [], ends=True)
        following = number + 1
    for empty in range(following, len(wanted.examples.sources)):
        yield Portion(empty, [], ends=True)


def _behind(
    numbered: Iterator[tuple[int, Example]], reached: Reached
) -> Iterator[tuple[int, Example]]:
    skipped = 0
    for number, example in numbered:
        if number == reached.source and skipped < reached.examples:
            skipped += 1
        elif number >= reached.source:
            yield number, example


def _take(examples: Iterator[Example]) -> list[Example]:
    taken: list[Example] = []
    characters = 0
    for example in examples:
        taken.append(example)
        characters += len(example.prompt) + len(example.response)
        if len(taken) == PORTION_ROWS or characters >= PORTION_CHARACTERS:
            break
    return taken


def encoded_portions(
    read: Iterator[Portion], wanted: RowsWanted, encoder: RowEncoder
) -> Iterator[tuple[Portion, list[Any]]]:
    """Each portion with what the tokenizer made of it, this many portions ahead."""
    waiting: deque[tuple[Portion, Future[list[Any]]]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize") as pool:
        try:
            for portion in read:
                conditional = wanted.has_prompts(portion.source)
                encoding = pool.submit(encoder.encode, portion.examples, conditional=conditional)
                waiting.append((portion, encoding))
                if len(waiting) > AHEAD:
                    first, encoded = waiting.popleft()
                    yield first, encoded.result()
            while waiting:
                first, encoded = waiting.popleft()
                yield first, encoded.result()
        finally:  # of a stop: the portion that is being tokenized ends, no other is begun
            pool.shutdown(wait=False, cancel_futures=True)
