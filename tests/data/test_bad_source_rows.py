"""Rows that cannot be used: refused together with their places, or skipped, counted and listed."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import BadRows, Source
from dlm.data.sources.lines import MAX_LINE_BYTES
from dlm.errors import UserError

GOOD = b'{"src": "one", "tgt": "eins", "id": 1}\n'
LAST = b'{"src": "six", "tgt": "sechs", "id": 6}'


def bad_lines() -> dict[str, tuple[bytes, str]]:
    """Name -> a bad third line, and words of the reason."""
    return {
        "broken JSON": (b'{"src": "two", "tgt": "zw', "not JSON (Unterminated string"),
        "no object": (b'["two", "zwei"]', "a list, not an object"),
        "a huge number": (b'{"n": ' + b"1" * 5000 + b"}", "not JSON that can be read (Exceeds"),
        "nested too deep": (b"[" * 200_000, "not JSON that can be read"),
        "not UTF-8": (b'{"src": "two", "tgt": "zw\xf6lf"}', "not UTF-8 (byte 26 of the line"),
        "half a surrogate pair": (b'{"src": "two", "tgt": "\\ud800"}', "surrogates not allowed"),
        "a NUL byte": (b'{"src": "two", "tgt": "zw\x00"}', "it holds a NUL character"),
        "a NUL escape": (b'{"src": "two", "tgt": "zw\\u0000"}', "it holds a NUL character"),
        "a field missing": (b'{"src": "two", "id": 2}', "field 'tgt' is missing"),
        "a null field": (b'{"src": "two", "tgt": null, "id": 2}', "field 'tgt' is null, not text"),
        "a number": (b'{"src": 2, "tgt": "zwei", "id": 2}', "field 'src' is a number, not text"),
        "an empty target": (b'{"src": "two", "tgt": " ", "id": 2}', "text to learn is empty"),
        "an empty prompt": (b'{"src": "", "tgt": "zwei", "id": 2}', "the prompt is empty"),
        "an endless line": (
            b'{"src": "' + b"x" * MAX_LINE_BYTES + b'"}',
            "longer than 10,000,000 bytes",
        ),
        "an id twice": (b'{"src": "two", "tgt": "zwei", "id": 1}', "has the id '1' too"),
        "no id": (b'{"src": "two", "tgt": "zwei"}', "no id in field 'id'"),
    }


def read(path: Path, bad_rows: BadRows | None = None, **options: object) -> list[tuple[str, str]]:
    source = Source(split="", path=path, **options)  # type: ignore[arg-type]
    template = Template.of("translation")
    return [(e.prompt, e.response) for e in stream_examples(source, template, bad_rows=bad_rows)]


@pytest.mark.parametrize("name", bad_lines())
def test_a_bad_row_is_refused_at_the_end_or_skipped_and_listed(name: str, tmp_path: Path) -> None:
    bad, words = bad_lines()[name]
    path, listing = tmp_path / "pairs.jsonl", tmp_path / "logs" / "bad_rows.jsonl"
    path.write_bytes(GOOD + b"\n" + bad + b"\n" + LAST)
    id_field = "id" if " id" in name else None

    with pytest.raises(UserError) as refused:
        read(path, id_field=id_field)
    assert str(refused.value).startswith(f"{path}, line 3: ")
    assert words in str(refused.value)

    collected = BadRows("error")
    good = read(path, collected, id_field=id_field)
    assert good == [("one", "eins"), ("six", "sechs")]
    with pytest.raises(UserError) as together:
        collected.finish()
    assert str(together.value).startswith(f"1 bad row:\n  {path}, line 3: ")
    assert words in str(together.value)
    assert str(together.value).endswith("data.on_bad_row=skip counts and lists them")

    skipped = BadRows("skip", listing)
    assert read(path, skipped, id_field=id_field) == good
    skipped.finish()
    assert skipped.count == 1
    (line,) = listing.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["place"] == f"{path}, line 3" and words in entry["reason"]
    assert skipped.note().startswith(f"1 bad row skipped, listed in {listing}; the first: {path}")


def test_the_first_ten_of_many_are_named_over_all_sources(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(GOOD + b"x\n" * 8)
    second.write_bytes(b"y\n" * 8 + GOOD)
    bad_rows = BadRows("error")
    assert read(first, bad_rows) == read(second, bad_rows) == [("one", "eins")]
    with pytest.raises(UserError) as refused:
        bad_rows.finish()
    lines = str(refused.value).splitlines()
    assert lines[0] == "16 bad rows:" and lines[11] == "  and 6 more"
    assert lines[1].startswith(f"  {first}, line 2: not JSON")
    assert lines[10].startswith(f"  {second}, line 2: not JSON")


def test_a_row_that_is_read_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD + b"x\n")
    bad_rows = BadRows("skip", tmp_path / "bad.jsonl")
    for _ in range(2):
        read(path, bad_rows)
        bad_rows.finish()
    assert bad_rows.count == len((tmp_path / "bad.jsonl").read_text().splitlines()) == 1


def test_the_list_of_an_earlier_attempt_is_not_kept(tmp_path: Path) -> None:
    listing = tmp_path / "bad.jsonl"
    listing.write_text("old\n")
    BadRows("skip", listing).finish()
    assert not listing.exists()


@pytest.mark.parametrize("line", [b"x\n", b'{"src": "two"}\n'])
def test_a_source_of_bad_rows_alone_is_an_error_under_either_policy(
    line: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(line * 3)
    with pytest.raises(UserError, match=r"has no row that can be used: 3 bad rows skipped; the f"):
        read(path, BadRows("skip"))
    bad_rows = BadRows("error")
    assert read(path, bad_rows) == []
    with pytest.raises(UserError, match=r"3 bad rows:"):
        bad_rows.finish()


@pytest.mark.parametrize("policy", ["first", "error", "skip"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.json"])
def test_an_empty_source_is_an_error_under_every_policy(
    policy: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text({"a.csv": "src,tgt\n", "a.json": "[]"}.get(name, "\n \n"))
    with pytest.raises(UserError, match=r"a\.\w+ has no rows: give a source with at least one"):
        read(path, BadRows(policy))  # type: ignore[arg-type]


def test_a_limit_counts_rows_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"x\n" + GOOD + b"y\n" + LAST + b"\nz\n")
    bad_rows = BadRows("skip")
    assert read(path, bad_rows, limit=2) == [("one", "eins"), ("six", "sechs")]
    assert bad_rows.count == 2


def test_lines_of_text_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"src\nb\xffd\nn\x00l\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\nlast\n")
    bad_rows = BadRows("skip")
    found = list(stream_examples(Source("", path=path), Template.of("text"), bad_rows=bad_rows))
    assert [(e.place.number, e.response) for e in found] == [(1, "src"), (5, "last")]
    assert [text.split(", ")[1].split(":")[0] for text in bad_rows.first] == [
        "line 2", "line 3", "line 4",
    ]  # fmt: skip


@pytest.mark.parametrize("length", [0, 1, 300_000])
def test_the_limit_of_a_line_is_exact_wherever_it_begins(length: int, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    text = Template.of("text")
    for extra, bad in ((0, 0), (1, 1)):
        path.write_bytes(b"a" * length + b"\n" + b"x" * (MAX_LINE_BYTES + extra) + b"\nlast\n")
        bad_rows = BadRows("skip")
        rows = list(stream_examples(Source("", path=path), text, bad_rows=bad_rows))
        assert (rows[-1].place.number, rows[-1].response, bad_rows.count) == (3, "last", bad)
    path.write_bytes(b"last\n" + b"x" * (2 * MAX_LINE_BYTES))
    bad_rows = BadRows("skip")
    assert len(list(stream_examples(Source("", path=path), text, bad_rows=bad_rows))) == 1
    assert bad_rows.count == 1


def test_records_that_are_none_are_named_by_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(
        b'src,tgt\none,eins\ntwo\nth\xffree,drei\n"four\nfor","vier\xff"\n"five"x,y\nsi\x00x,s\n'
        b'a,b,c\n"se\nven",sieben\n'
    )
    bad_rows = BadRows("skip")
    assert read(path, bad_rows) == [("one", "eins"), ("se\nven", "sieben")]
    expected = {
        3: "1 cell where the header has 2",
        4: "not UTF-8 (byte 3",
        5: "not UTF-8 (byte 11",
        7: "not a record",
        8: "it holds a NUL",
        9: "3 cells",
    }
    assert len(bad_rows.first) == len(expected)
    for text, (line, words) in zip(bad_rows.first, expected.items(), strict=True):
        assert text.startswith(f"{path}, line {line}: {words}")


def test_elements_and_records_of_files_without_lines_are_named_by_number(tmp_path: Path) -> None:
    array = tmp_path / "pairs.json"
    array.write_text('[{"src": "one", "tgt": "eins"}, 2, {"src": "x\\u0000", "tgt": "y"}]')
    table = pyarrow.table(
        {"src": ["one", "x\0", "three"], "tgt": pyarrow.array([b"eins", b"y", b"\xff"])}
    )
    table = table.set_column(1, "tgt", table["tgt"].combine_chunks().view(pyarrow.string()))
    parquet = tmp_path / "pairs.parquet"
    pyarrow.parquet.write_table(table, parquet)
    reasons: dict[Path, Callable[[str], bool]] = {
        array: lambda text: "row 2: a number, not an object" in text,
        parquet: lambda text: "row 3: not UTF-8 (invalid start byte)" in text,
    }
    for path, named in reasons.items():
        bad_rows = BadRows("skip")
        assert read(path, bad_rows) == [("one", "eins")]
        assert bad_rows.count == 2 and any(map(named, bad_rows.first))
        assert any("NUL character" in text for text in bad_rows.first)
