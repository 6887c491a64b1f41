"""Prepared rows are the rows of the in-memory encoding, read from maps."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_tools import assert_same_rows, contents, in_memory, prepared, wanted, write_pairs
from small_vocabulary import tokenizer_of
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.blocks import encode_blocks
from dlm.data.rows.canvas import CanvasRows
from dlm.data.rows.encoding import EncodedRows, limit_length
from dlm.data.rows.shards import portions
from dlm.data.rows.shards.encoder import RowEncoder
from dlm.data.rows.shards.prepare import shard_key
from dlm.data.rows.shards.writer import ShardWriter
from dlm.data.sources import BadRows, Source
from dlm.errors import UserError


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_of()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_pairs(tmp_path / f"{n}.jsonl", rows, n) for n, rows in enumerate((60, 1, 40))]


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "PORTION_ROWS", 7)


@pytest.mark.parametrize("task", ["translation", "text"])
def test_the_rows_are_those_of_the_encoding_in_memory(
    task: str, files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = wanted(files, task)
    shards, _ = prepared(rows, tokenizer, tmp_path, shard_tokens=150)
    assert len(shards.index.shards) > 3
    expected = in_memory(rows, tokenizer)
    assert_same_rows(shards, expected)
    specials = set(tokenizer.all_special_ids)
    spelled = [row for row in shards.read(np.arange(101)) if specials & set(row[1:-1].tolist())]
    assert task == "translation" or not [r for r in spelled if {0, 2, 4} & set(r[1:-1].tolist())]
    assert shards.index.reached.unknown_tokens == (expected.tokens == 3).sum() > 0
    assert shards.index.reached.source_rows == (60, 1, 40)


def test_a_tokenizer_that_is_not_a_fast_one_gives_the_same_rows(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    shards, _ = prepared(wanted(files), tokenizer, tmp_path)
    assert_same_rows(shards, in_memory(wanted(files), tokenizer))


def test_a_large_vocabulary_is_kept_in_four_bytes(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    two, _ = prepared(wanted(files), tokenizer, tmp_path)
    monkeypatch.setattr(PreTrainedTokenizerFast, "__len__", lambda self: 2**16 + 1)
    four, _ = prepared(wanted(files), tokenizer, tmp_path)
    assert (two.row(0).dtype, four.row(0).dtype) == (np.dtype(np.uint16), np.dtype(np.int32))
    assert_same_rows(four, in_memory(wanted(files), tokenizer))


def test_rows_that_are_there_are_opened_and_nothing_is_said(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first, said = prepared(wanted(files), tokenizer, tmp_path)
    assert len(said) == 1 and said[0].startswith("101 rows (")
    before = contents(first.directory)
    files[0].touch()
    again, silence = prepared(wanted(files), tokenizer, tmp_path)
    assert (again.directory, silence, contents(first.directory)) == (first.directory, [], before)


def test_everything_that_decides_the_rows_is_in_their_key(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    other = tokenizer_of(lowercase=True)
    encoder = RowEncoder(tokenizer)
    keys = [
        shard_key(wanted(files), encoder),
        shard_key(wanted(files[:2]), encoder),
        shard_key(wanted(files, max_length=63), encoder),
        shard_key(wanted(files, too_long="drop"), encoder),
        shard_key(wanted(files, text_blocks=9), encoder),
        shard_key(wanted(files, canvas_length=9), encoder),
        shard_key(wanted(files, "instruction"), encoder),
        shard_key(wanted(files), RowEncoder(other)),
    ]
    assert len(set(keys)) == len(keys)
    tokenizer(["one two"], padding=True, truncation=True, max_length=8)
    assert shard_key(wanted(files), RowEncoder(tokenizer)) == keys[0]
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    assert shard_key(wanted(files), RowEncoder(loaded)) == keys[0]


def test_a_row_that_is_too_long_is_named_and_nothing_is_left(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    long = "seven " * 80
    with files[2].open("a", encoding="utf-8") as file:
        file.write(f'\n{{"src": "one", "tgt": "{long}"}}\n')
    with pytest.raises(UserError) as refused:
        prepared(wanted(files), tokenizer, tmp_path, shard_tokens=100)
    text = str(refused.value)
    assert text.startswith(f"{files[2]}, line 42: ") and "where at most 64 fit ('seven " in text
    assert "`dlm data stats` with data.too_long=drop counts them" in text
    for remedy in ("Shorten or remove", "data.too_long=drop", "raise data.max_length"):
        assert remedy in text
    assert not [path for path in (tmp_path / "shards").iterdir() if path.is_dir()]

    shards, _ = prepared(wanted(files, too_long="drop"), tokenizer, tmp_path)
    assert (len(shards), shards.index.reached.dropped) == (101, 1)


def test_no_row_left_is_an_error_even_when_dropping(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="every row is longer than 3 tokens"):
        prepared(wanted(files, max_length=3, too_long="drop"), tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("method", "words"),
    [("add", "was changed while it was read"), ("__init__", "a file changed while it was read")],
)
def test_a_file_that_changes_before_its_rows_are_all_read_is_refused(
    method: str, words: str, files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original = getattr(ShardWriter, method)

    def while_the_file_grows(*arguments: Any, **options: Any) -> None:
        with files[0].open("a", encoding="utf-8") as file:
            file.write('{"src": "one", "tgt": "two"}\n')
        original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, method, while_the_file_grows)
        with pytest.raises(UserError, match=words):
            prepared(wanted(files), tokenizer, tmp_path)
    shards, _ = prepared(wanted(files), tokenizer, tmp_path)
    assert_same_rows(shards, in_memory(wanted(files), tokenizer))


@pytest.mark.parametrize("block", [3, 16, 10_000])
def test_texts_are_joined_and_cut_into_blocks(
    block: int, files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = wanted(files, "text", text_blocks=block)
    shards, _ = prepared(rows, tokenizer, tmp_path, shard_tokens=200)
    plain = in_memory(wanted(files, "text"), tokenizer)
    begin, end = 0, 2
    position = 0
    for source, count in enumerate((60, 1, 40)):
        texts = [plain.row(position + i)[1:-1].tolist() for i in range(count)]
        position += count
        stream = [token for text in texts for token in (*text, end)][:-1]
        ours = [shards.row(i).tolist() for i in _rows_of(shards.index.reached.source_rows, source)]
        assert all(row[0] == begin and row[-1] == end for row in ours)
        assert {len(row) for row in ours[:-1]} <= {block} and 3 <= len(ours[-1]) <= block
        assert [token for row in ours for token in row[1:-1]] == stream
    texts = [[e.response for e in s.stream(0, Counter())] for s in rows.examples.sources]
    parts = [encode_blocks(tokenizer, each, block) for each in texts]
    assert_same_rows(shards, EncodedRows.joined(parts))


def _rows_of(source_rows: tuple[int, ...], source: int) -> range:
    start = sum(source_rows[:source])
    return range(start, start + source_rows[source])


@pytest.mark.parametrize("count_padding", [True, False])
def test_a_canvas_is_laid_over_the_rows_as_the_encoding_pads_them(
    count_padding: bool, files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = wanted(files, canvas_length=40, max_length=128)
    shards, _ = prepared(rows, tokenizer, tmp_path, shard_tokens=300)
    ours = CanvasRows(shards, 40, 2, count_padding=count_padding)
    expected = in_memory(rows, tokenizer, count_padding=count_padding)
    assert_same_rows(ours, expected)
    if count_padding:
        assert ours.answer_lengths is None
    else:
        every = np.arange(len(ours))
        np.testing.assert_array_equal(ours.answer_lengths[every], expected.answer_lengths)  # type: ignore[index]


@pytest.mark.parametrize(
    ("canvas", "message"),
    [(12, "its end token included, where the canvas has 12"), (60, "special tokens and a canvas")],
)
def test_rows_that_do_not_fit_with_their_canvas_are_those_of_the_encoding_in_memory(
    canvas: int, message: str, files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = wanted(files, canvas_length=canvas, too_long="drop")
    shards, _ = prepared(rows, tokenizer, tmp_path)
    expected, dropped = limit_length(
        in_memory(rows, tokenizer), 64, drop=True, place="", canvas_length=canvas
    )
    assert_same_rows(CanvasRows(shards, canvas, 2, count_padding=True), expected)
    assert shards.index.reached.dropped == dropped > 0
    with pytest.raises(UserError, match=message):
        prepared(wanted(files, canvas_length=canvas), tokenizer, tmp_path)


def test_a_killed_preparation_of_a_hub_data_set_outlives_a_hub_that_cannot_be_reached(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = wanted([Source(split="train", hub="owner/pairs")])

    def hub_of(count: int, *, then_fails: bool) -> Any:
        def load(*_: Any, **__: Any) -> Any:
            yield from [{"src": "one", "tgt": "two"}] * count
            if then_fails:
                raise KeyboardInterrupt

        return load

    def unreachable(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", hub_of(70, then_fails=True))
    with pytest.raises(KeyboardInterrupt):
        prepared(rows, tokenizer, tmp_path, shard_tokens=50)
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(UserError, match="cannot be loaded"):
        prepared(rows, tokenizer, tmp_path, shard_tokens=50)
    monkeypatch.setattr("datasets.load_dataset", hub_of(80, then_fails=False))
    shards, said = prepared(rows, tokenizer, tmp_path, shard_tokens=50)
    assert "going on behind them" in said[0] and len(shards) == 80


def test_a_copy_for_another_process_is_small_and_maps_the_files_itself(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shards, _ = prepared(wanted(files), tokenizer, tmp_path, shard_tokens=10**6)
    shards.row(3)
    copied = pickle.dumps(shards)
    assert len(copied) < 2000
    assert pickle.loads(copied).row(3).tolist() == shards.row(3).tolist()
    assert not shards.row(3).flags.owndata and not shards.row(3).flags.writeable


def test_there_is_no_row_behind_the_last(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shards, _ = prepared(wanted(files), tokenizer, tmp_path)
    for index in (101, -1):
        with pytest.raises(IndexError, match=r"numbered 0\.\.100"):
            shards.row(index)


def test_rows_of_a_hub_data_set_without_a_revision_are_said_to_be_earlier_ones(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"src": "one", "tgt": "two"}])
    rows = wanted([Source(split="train", hub="owner/pairs")])
    _, first = prepared(rows, tokenizer, tmp_path)
    _, second = prepared(rows, tokenizer, tmp_path)
    assert len(first) == 1 and "pins no `revision`, so delete this directory if" in second[0]


def test_progress_is_a_line_with_the_speed(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("dlm.data.rows.shards.prepare.PROGRESS_S", 0.0)
    _, said = prepared(wanted(files), tokenizer, tmp_path)
    assert said[0].startswith("tokenizing: 7 rows (") and said[0].endswith(" rows/s")


def test_rows_skipped_while_preparing_are_known_and_listed_by_whoever_finds_the_shards(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with files[0].open("a", encoding="utf-8") as file:
        file.write('{"src": "one"}\n')
    rows, seen = wanted(files, on_bad_row="skip"), []
    for number in range(2):
        listing = tmp_path / f"stage{number}" / "bad_rows.jsonl"
        bad_rows = BadRows("skip", listing)
        prepared(rows, tokenizer, tmp_path, bad_rows=bad_rows)
        list(rows.examples.stream(Counter(), bad_rows=bad_rows))  # validation, of the same file
        seen.append((bad_rows.count, bad_rows.first, listing.read_text()))
    assert seen[0] == seen[1] and seen[0][0] == 1
    assert "field 'tgt' is missing" in seen[0][2]
