"""A split by content: the same rows on each side whatever the order, the file or its format."""

import random
from pathlib import Path

import packed_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm.data.sources import Holdout, Place, Row, Source, read_rows, source_identity
from dlm.data.sources.holdout import content_position
from dlm.errors import UserError

QUICK = settings(max_examples=50, deadline=None)
HERE = Place("somewhere", 1)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONTENT = st.dictionaries(st.text(max_size=5), VALUES | st.lists(st.text()), max_size=4)
ROWS = [{"src": f"row {number}", "tgt": str(number * 7)} for number in range(2000)]


def part(path: Path, part: str, share: float, **options: object) -> list[Row]:
    by = options.pop("by", ())
    holdout = Holdout(part, share, by)  # type: ignore[arg-type]
    return read_rows(Source("", path=path, holdout=holdout, **options))  # type: ignore[arg-type]


@QUICK
@given(row=CONTENT, share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_the_side_is_a_function_of_the_content_alone(row: Row, share: float, seed: int) -> None:
    names = list(row)
    random.Random(seed).shuffle(names)
    again = {name: row[name] for name in names}
    elsewhere = Place("another file", 10 * seed + 2)
    held_out = Holdout("validation", share).has(row, HERE)
    assert Holdout("validation", share).has(again, elsewhere) == held_out
    assert Holdout("train", share).has(again, elsewhere) != held_out


@QUICK
@given(row=CONTENT, shares=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)))
def test_a_larger_share_holds_out_what_a_smaller_one_does(
    row: Row, shares: tuple[float, float]
) -> None:
    small, large = sorted(shares)
    if Holdout("validation", small).has(row, HERE):
        assert Holdout("validation", large).has(row, HERE)


@QUICK
@given(row=CONTENT, other=CONTENT)
def test_other_content_has_another_position(row: Row, other: Row) -> None:
    assert 0 <= content_position(row) < 1
    if repr(sorted(row.items())) != repr(sorted(other.items())):
        assert content_position(row) != content_position(other)


def test_both_parts_are_the_whole_and_the_share_is_kept(tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, "jsonl", ROWS)
    train, validation = part(path, "train", 0.1), part(path, "validation", 0.1)
    assert sorted(map(repr, train + validation)) == sorted(map(repr, ROWS))
    assert 160 < len(validation) < 240  # 200, standard deviation 13
    assert validation == [row for row in ROWS if row in validation]


def test_order_file_format_and_packing_do_not_matter_and_duplicates_stay_together(
    tmp_path: Path,
) -> None:
    held_out = part(packed_files.write(tmp_path, "jsonl", ROWS), "validation", 0.1)
    shuffled = ROWS * 2
    random.Random(0).shuffle(shuffled)
    for kind in ("csv.gz", "parquet"):
        found = part(packed_files.write(tmp_path, kind, shuffled), "validation", 0.1)
        assert sorted(map(repr, found)) == sorted(map(repr, held_out * 2))


def test_renaming_and_the_id_do_not_move_a_row(tmp_path: Path) -> None:
    held_out = part(packed_files.write(tmp_path, "jsonl", ROWS), "validation", 0.1)
    numbered = [{**row, "id": str(number)} for number, row in enumerate(ROWS)]
    path = packed_files.write(tmp_path, "jsonl", numbered, "numbered")
    found = part(path, "validation", 0.1, id_field="id", fields={"text": "src"})
    assert [row["text"] for row in found] == [row["src"] for row in held_out]


def test_rows_alike_in_the_named_fields_are_on_one_side(tmp_path: Path) -> None:
    rows = [{"src": f"row {n % 100}", "tgt": str(n)} for n in range(1000)]
    path = packed_files.write(tmp_path, "jsonl", rows)
    sides = [{row["src"] for row in part(path, side, 0.3, by=("src",))} for side in
             ("train", "validation")]  # fmt: skip
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    with pytest.raises(UserError, match=r"line 1: no field 'scr' to split by .*mean 'src'"):
        part(path, "train", 0.3, by=("scr",))


def test_composed_and_decomposed_spellings_are_on_one_side_once_normalised(tmp_path: Path) -> None:
    rows = [{"text": f"{number} {o}"} for number in range(200) for o in ("ö", "o\u0308")]
    path = packed_files.write(tmp_path, "jsonl", rows)
    held_out = [row["text"] for row in part(path, "validation", 0.3, normalise="nfc")]
    assert held_out and held_out[::2] == held_out[1::2]
    assert all("\u0308" not in text for text in held_out)


def test_a_part_without_rows_says_what_to_change(tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, "jsonl", ROWS[:2])
    with pytest.raises(UserError, match=r"no rows in its validation part: change holdout\.share ="):
        part(path, "validation", 1e-9)


def test_the_split_is_part_of_the_identity(tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, "jsonl", ROWS)
    splits = [None, Holdout("train", 0.1), Holdout("validation", 0.1), Holdout("train", 0.2),
              Holdout("train", 0.1, ("src",))]  # fmt: skip
    found = [repr(source_identity(Source("", path=path, holdout=split))) for split in splits]
    assert len(set(found)) == len(found)
