"""Evaluation texts in training data: shared n-grams of words, counted for each evaluation set.

A training example overlaps with an evaluation row when its prompt or its response shares n words
in a row with one of the row's two texts (GPT-3, appendix C, takes n = 13). A row of which both are
shorter than n words is found where prompt and response are the whole example. Words are compared
in lower case without punctuation. Memory grows with the evaluation sets only (about 100 bytes a
word), and a training word that no evaluation set has costs one look-up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlm.data.prompts import Example
from dlm.errors import UserError

_WORD = re.compile(r"\w+")
_SHOWN = 3


@dataclass
class OverlapFound:
    """What was found for one evaluation set."""

    training_rows: int = 0
    """Training examples that share text with it."""
    evaluation_rows: set[int] = field(default_factory=set)
    """Its rows whose text occurs in training, by number from 0."""
    rows: int = 0
    """Its rows."""
    examples: list[str] = field(default_factory=list)
    """The first few, in words."""


class OverlapIndex:
    """The n-grams of the evaluation sets, and what training examples share with them."""

    def __init__(self, sets: Mapping[str, Iterable[tuple[str, str]]], words: int) -> None:
        """``sets``: name -> prompts and responses; ``words``: n."""
        self.words = words
        self.found = {name: OverlapFound() for name in sets}
        self._ids: dict[str, int] = {}
        self._rows: dict[int, tuple[tuple[str, int], ...]] = {}
        self._short: dict[tuple[tuple[str, ...], tuple[str, ...]], set[tuple[str, int]]] = {}
        random = np.random.default_rng(0)
        self._factors = random.integers(1, 2**63, size=words, dtype=np.uint64) | np.uint64(1)
        for name, pairs in sets.items():
            for number, pair in enumerate(pairs):
                self._add(name, number, pair)
                self.found[name].rows += 1

    def read(self, example: Example) -> None:
        """Count one training example."""
        hits: set[tuple[str, int]] = set()
        texts = [tuple(_words(text)) for text in (example.prompt, example.response)]
        for text in texts:
            hashes = self._ngrams([self._ids.get(word, 0) for word in text], known_only=True)
            for value in hashes.tolist():
                hits.update(self._rows.get(value, ()))
        hits |= self._short.get((texts[0], texts[1]), set())
        for name in {name for name, _ in hits}:
            found = self.found[name]
            found.training_rows += 1
            found.evaluation_rows |= {row for other, row in hits if other == name}
            if len(found.examples) < _SHOWN:
                row = min(row for other, row in hits if other == name)
                begins = " ".join(f"{example.prompt} {example.response}".split())[:80]
                found.examples.append(f"{example.place} and row {row + 1} of {name} ('{begins}')")

    def metrics(self) -> dict[str, Any]:
        """For the manifest: evaluation set -> counts."""
        return {
            name: {
                "training_rows": found.training_rows,
                "evaluation_rows": len(found.evaluation_rows),
                "of": found.rows,
            }
            for name, found in self.found.items()
        }

    def lines(self) -> list[str]:
        """One line for each set, for people."""
        return [
            f"{found.training_rows} training rows share {self.words} words or more with "
            f"{len(found.evaluation_rows)} of the {found.rows} rows of {name}"
            for name, found in self.found.items()
        ]

    def refuse(self) -> None:
        """Stop if anything was found.

        Raises:
            UserError: It names the sets and a few of the rows.
        """
        guilty = {name: found for name, found in self.found.items() if found.training_rows}
        if not guilty:
            return
        lines = [line for line in self.lines() if not line.startswith("0 ")]
        shown = [f"  {example}" for found in guilty.values() for example in found.examples]
        raise UserError(
            "training data holds text of the evaluation sets (data.overlap=refuse):\n"
            + "\n".join([*lines, "such as", *shown])
            + "\nRemove these rows, or set data.overlap=report to train all the same"
        )

    def _add(self, name: str, number: int, pair: tuple[str, str]) -> None:
        texts = [tuple(_words(text)) for text in pair]
        owner = (name, number)
        if all(len(text) < self.words for text in texts):
            self._short.setdefault((texts[0], texts[1]), set()).add(owner)
            return
        for words in texts:
            ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in words]
            for value in self._ngrams(ids).tolist():
                owners = self._rows.get(value, ())
                if owner not in owners:  # a tuple: most have one, and a set takes five times more
                    self._rows[value] = (*owners, owner)

    def _ngrams(self, ids: list[int], *, known_only: bool = False) -> npt.NDArray[np.uint64]:
        """A 64-bit hash of each n-gram (0 is the word that no evaluation set has)."""
        if len(ids) < self.words:
            return np.empty(0, dtype=np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.array(ids, dtype=np.uint64), self.words
        )
        if known_only:
            windows = windows[(windows > 0).all(axis=1)]
        # Multiply and scramble word by word: a plain sum of products would be linear in the ids.
        hashes = np.zeros(len(windows), dtype=np.uint64)
        for column, factor in zip(windows.T, self._factors, strict=True):
            hashes = (hashes ^ column) * factor
            hashes ^= hashes >> np.uint64(29)
        return hashes


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
