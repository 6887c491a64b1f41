"""Small data sets on disk, and their prepared rows."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.prompts import Template
from dlm.data.rows.encoding import EncodedRows, encode_rows
from dlm.data.rows.protocol import TokenRows
from dlm.data.rows.shards.prepare import token_shards
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import Source

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "</s>", "<mask>", "日本", "<s>"]


def write_pairs(path: Path, rows: int, seed: int = 0) -> Path:
    """Rows of 1 to 6 words, some of which spell special tokens or are unknown."""
    draws = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            src, tgt = (" ".join(draws.choice(WORDS, draws.integers(1, 7))) for _ in "ab")
            file.write(json.dumps({"src": src, "tgt": tgt, "text": src}) + "\n")
    return path


def wanted(paths: Sequence[Path | Source], task: str = "translation", **changes: Any) -> RowsWanted:
    sources = tuple(
        TaskSource(str(number), source, task, (Template.of(task),))
        for number, source in enumerate(
            path if isinstance(path, Source) else Source(split="", path=path) for path in paths
        )
    )
    settings: dict[str, Any] = {"max_length": 64} | changes
    return RowsWanted(ExampleRecipe(sources), **settings)


def prepared(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerBase, cache: Path, **options: Any
) -> tuple[TokenShards, list[str]]:
    """The rows and what was said."""
    said: list[str] = []
    return token_shards(rows, tokenizer, cache=cache, say=said.append, **options), said


def in_memory(rows: RowsWanted, tokenizer: PreTrainedTokenizerBase, **options: bool) -> EncodedRows:
    examples = [example for _, example in rows.examples.stream(Counter())]
    prompts, responses = [e.prompt for e in examples], [e.response for e in examples]
    return encode_rows(
        tokenizer, prompts, responses, conditional=rows.conditional,
        canvas_length=rows.canvas_length, **options,
    )  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def assert_same_rows(ours: TokenRows, theirs: EncodedRows) -> None:
    every = np.arange(len(theirs))
    assert len(ours) == len(theirs) and ours.prompts_maskable == theirs.prompts_maskable
    for column in ("lengths", "prompt_lengths", "maskable_lengths", "counted_lengths"):
        np.testing.assert_array_equal(getattr(ours, column)[every], getattr(theirs, column))
    for mine, other in zip(ours.read(every), theirs.read(every), strict=True):
        np.testing.assert_array_equal(mine, other)
