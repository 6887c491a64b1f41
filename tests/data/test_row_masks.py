"""What of a row is the response, and what of it noise may hit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_tools import assert_same_rows, prepared, write_pairs
from small_vocabulary import tokenizer_of

from dlm.data.batches.batching import BatchRequest, TokenDataset
from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.prompts import Template
from dlm.data.rows.in_memory import rows_in_memory
from dlm.data.rows.masking import has_prompt, maskable_counts, row_masks
from dlm.data.rows.shards import portions
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import BadRows, Source

BEGIN, END = 0, 2
SIDE = st.integers(1, 5)


@given(
    st.lists(st.tuples(st.sampled_from(["text", "pair"]), SIDE, SIDE), min_size=1), st.booleans()
)
def test_masks_and_counts_equal_the_words_of_the_layout(
    rows: list[tuple[str, int, int]], both: bool
) -> None:
    """Each row spelt out token by token: b(egin), p(rompt), e(nd) of it, r(esponse), its E(nd)."""
    spelt = [
        "b" + "t" * first + "e" if kind == "text" else "b" + "p" * first + "e" + "r" * second + "E"
        for kind, first, second in rows
    ]
    lengths = np.array([len(row) for row in spelt])
    prompts = np.array([1 if row[1] == "t" else row.index("e") + 1 for row in spelt])
    width = int(lengths.max())
    masks = row_masks(lengths, prompts, width, prompts_maskable=both)
    for number, row in enumerate(spelt):
        noisy = "trEp" if both else "trE"
        expected = [token in noisy for token in row.ljust(width, ".")]
        assert masks.maskable_BL[number].tolist() == expected
        assert masks.response_BL[number].tolist() == [token in "rE" for token in row.ljust(width)]
    counts = maskable_counts(lengths, prompts, prompts_maskable=both)
    np.testing.assert_array_equal(counts, masks.maskable_BL.sum(axis=1))
    assert has_prompt(prompts).tolist() == [row[1] == "p" for row in spelt]


def texts_and_pairs(folder: Path, **changes: object) -> RowsWanted:
    """Texts, pairs, and texts again."""
    sources = tuple(
        TaskSource(task, Source("", write_pairs(folder / f"{n}.jsonl", 9 + n, n)), task,
                   (Template.of(task),))
        for n, task in enumerate(("text", "translation", "text"))
    )  # fmt: skip
    settings = {"max_length": 64, "prompts_maskable": True} | changes
    return RowsWanted(ExampleRecipe(sources), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("blocks", [None, 8])
@pytest.mark.parametrize("too_long", ["drop", "truncate_prompt"])
def test_shards_of_texts_and_pairs_are_the_rows_in_memory(
    blocks: int | None, too_long: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "PORTION_ROWS", 4)
    tokenizer = tokenizer_of()
    counts: Counter[str] = Counter()
    wanted = texts_and_pairs(tmp_path, text_blocks=blocks, too_long=too_long, max_length=12)
    shards, _ = prepared(wanted, tokenizer, tmp_path, shard_tokens=60)
    memory = rows_in_memory(wanted, tokenizer, counts=counts, bad_rows=BadRows())
    assert_same_rows(shards, memory)
    reached = shards.index.reached
    assert (reached.dropped, reached.cut_prompts) == (
        counts["dropped_rows"], counts["cut_prompts"],
    )  # fmt: skip
    assert reached.dropped or reached.cut_prompts
    first, pairs, last = reached.source_rows
    assert has_prompt(memory.prompt_lengths).tolist() == [
        *[False] * first, *[True] * pairs, *[False] * last,
    ]  # fmt: skip
    if blocks:
        assert set(memory.lengths[: first - 1].tolist()) == {blocks}
    every = BatchRequest(np.arange(len(memory)), np.arange(len(memory)), len(memory), 0)
    batch = TokenDataset(shards, 1).__getitems__(every)
    assert batch.maskable_BL.sum(dim=1).tolist() == memory.counted_lengths.tolist()
    assert (batch.counted_BL == batch.maskable_BL).all()
    assert batch.response_BL.any(dim=1).tolist() == has_prompt(memory.prompt_lengths).tolist()
    assert not (batch.tokens_BL == BEGIN)[batch.maskable_BL].any()


def test_pairs_are_the_shards_of_adaptation(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    both, _ = prepared(texts_and_pairs(tmp_path), tokenizer, tmp_path)
    responses, said = prepared(
        texts_and_pairs(tmp_path, prompts_maskable=False), tokenizer, tmp_path
    )
    assert responses.directory == both.directory and not said
    every = np.arange(len(both))
    inner = np.maximum(both.prompt_lengths[every] - 2, 0)
    np.testing.assert_array_equal(
        both.maskable_lengths[every] - responses.maskable_lengths[every], inner
    )
