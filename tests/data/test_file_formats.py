"""Every format, plain and packed, gives the rows that were written, each with its place."""

import json
import os
from pathlib import Path

import packed_files
import pyarrow
import pyarrow.parquet
import pytest

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import Row, Source, read_rows, stream_rows
from dlm.data.sources import json_array as json_array_module
from dlm.data.sources import lines as lines_module
from dlm.errors import UserError

ROWS = [{"text": f"Zwölf {number} 🙂 Boxkämpfer " * 3} for number in range(1500)]
PAIRS = [{"src": 'say "hi"', "tgt": "two\nlines, \t one cell"}, {"src": "", "tgt": "\u2028"}]


def rows_of(path: Path, **options: object) -> list[Row]:
    return read_rows(Source(split="", path=path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", packed_files.KINDS)
def test_rows_come_back_as_written_and_in_order(kind: str, tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, kind, ROWS)
    found = list(stream_rows(Source(split="", path=path)))
    assert [row for _, row in found] == ROWS
    format_ = kind.partition(".")[0]
    first = 2 if format_ in ("csv", "tsv") else 1  # after the header
    unit = "row" if format_ in ("json", "parquet") else "line"
    assert found[0][0] == (str(path), first, unit)
    assert found[-1][0].number == len(ROWS) + first - 1


@pytest.mark.parametrize("kind", [kind for kind in packed_files.KINDS if "txt" not in kind])
def test_quotes_line_ends_and_empty_texts_survive(kind: str, tmp_path: Path) -> None:
    assert rows_of(packed_files.write(tmp_path, kind, PAIRS)) == PAIRS


def test_a_file_without_a_last_line_end_and_one_with_a_mark_are_whole(tmp_path: Path) -> None:
    texts = {
        "txt": "a\r\nb",
        "csv": "text\r\na\r\nb",
        "jsonl": '{"text":"a"}\n{"text":"b"}',
        "json": '[{"text":"a"},{"text":"b"}]',
    }
    for kind, text in texts.items():
        path = tmp_path / f"rows.{kind}"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert rows_of(path) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_where_blocks_end_makes_no_difference(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "_BLOCK_BYTES", size)
    monkeypatch.setattr(json_array_module, "_BLOCK_BYTES", size)
    rows = [{"text": "ö" * length, "n": "[{ 1"} for length in (1, 2, 3, 30)]
    for kind in ("jsonl", "json", "csv"):
        assert rows_of(packed_files.write(tmp_path, kind, rows)) == rows


def test_a_json_file_may_hold_json_lines_or_numbers_to_the_very_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert rows_of(path) == [{"a": 1}, {"a": 2}]
    path.write_text(' [ {"a": [1, {"b": 12}]} , {} ] \n')
    assert rows_of(path) == [{"a": [1, {"b": 12}]}, {}]


BROKEN_ARRAYS = {
    '[{"a": 1} {"a": 2}]': r"rows\.json, row 2: not JSON \(, or \] expected, not \{\)",
    '[{"a": 1}, {"a"': r"row 2: not JSON \(Expecting ':' delimiter\)",
    '[{"a": 1},': r"row 2: not JSON \(Expecting value\)",
    '[{"a": 1}': r"row 2: not JSON \(, or \] expected, not the end\)",
    '[{"a": 1}] x': r"row 2: not JSON \(there is more after the array\)",
}


@pytest.mark.parametrize("text", BROKEN_ARRAYS)
def test_an_array_that_is_none_is_named_with_the_element(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(UserError, match=BROKEN_ARRAYS[text]):
        rows_of(path)
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(UserError, match=r"row 1 or later: not UTF-8 \(invalid start byte\)"):
        rows_of(path)


def test_columns_name_the_cells_of_a_file_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("How many?\t3\n\nWhy?\t1\n")
    found = list(stream_rows(Source(split="", path=path, columns=("question", "answer"))))
    assert [(place.number, row) for place, row in found] == [
        (1, {"question": "How many?", "answer": "3"}),
        (3, {"question": "Why?", "answer": "1"}),
    ]


def test_quote_marks_are_text_where_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('src\ttgt\n"Hi," he said.\t"Hallo\n')
    with pytest.raises(UserError, match=r"line 2: not a record .*set `unquoted: true`"):
        rows_of(path)
    assert rows_of(path, unquoted=True) == [{"src": '"Hi," he said.', "tgt": '"Hallo'}]


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('src,tgt\na,b\n"c,d\ne,f\n')
    with pytest.raises(UserError, match=r"line 3: a quote mark that is opened .* never closed"):
        rows_of(path)


def test_a_header_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UserError, match=r"line 1: the header names 'a' twice: .*set `columns`"):
        rows_of(path)


@pytest.mark.parametrize("option", [{"columns": ("a",)}, {"unquoted": True}])
def test_options_of_tables_are_refused_for_other_files(
    option: dict[str, object], tmp_path: Path
) -> None:
    path = packed_files.write(tmp_path, "jsonl", PAIRS)
    with pytest.raises(UserError, match=f"`{next(iter(option))}` is read with CSV and TSV files"):
        rows_of(path, **option)


@pytest.mark.parametrize("kind", [k for k in packed_files.KINDS if "." in k or k == "parquet"])
def test_a_file_that_is_cut_short_is_named(kind: str, tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, kind, ROWS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"rows\.{kind} is cut short or damaged \("):
        rows_of(path)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"rows\.{kind} is cut short or damaged \("):
        rows_of(path)


@pytest.mark.parametrize("kind", ["txt", "jsonl.gz", "csv", "json", "parquet"])
def test_a_file_that_changes_while_it_is_read_is_an_error(kind: str, tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, kind, ROWS)
    rows = stream_rows(Source(split="", path=path))
    next(rows)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(UserError, match=rf"rows\.{kind} was changed while it was read: run again"):
        list(rows)
    rows = stream_rows(Source(split="", path=path))
    next(rows)
    path.unlink()
    with pytest.raises(UserError, match=rf"rows\.{kind} was removed while it was read"):
        list(rows)


def test_a_pipe_is_read_as_json_lines(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}\n')
    os.close(writer)
    assert rows_of(Path(f"/dev/fd/{reader}")) == [{"a": 1}]
    os.close(reader)


def test_parquet_columns_of_other_types_come_as_they_are(tmp_path: Path) -> None:
    rows = [{"id": 1, "refs": ["a", "b"], "nested": {"x": None}, "flag": True}]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert rows_of(path) == rows


@pytest.mark.parametrize("kind", [pyarrow.float16(), pyarrow.float32(), pyarrow.float64()])
def test_numbers_of_parquet_are_those_of_their_shortest_writing(
    kind: pyarrow.DataType, tmp_path: Path
) -> None:
    number, more = 2.3, [0.1, None]
    struct = pyarrow.struct([("x", kind), ("y", pyarrow.list_(kind))])
    columns = {
        "answer": pyarrow.array([number], kind),
        "coded": pyarrow.array([number], kind).dictionary_encode(),
        "list": pyarrow.array([more], pyarrow.list_(kind)),
        "fixed": pyarrow.array([more], pyarrow.list_(kind, 2)),
        "struct": pyarrow.array([{"x": number, "y": more}], struct),
        "map": pyarrow.array([[("k", number)]], pyarrow.map_(pyarrow.string(), kind)),
        "none": pyarrow.array([None], kind),
    }
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert rows_of(path) == [{
        "answer": number, "coded": number, "list": more, "fixed": more,
        "struct": {"x": number, "y": more}, "map": [("k", number)], "none": None,
    }]  # fmt: skip


def test_a_value_that_python_cannot_hold_matters_where_it_is_read(tmp_path: Path) -> None:
    late = pyarrow.array([1700000000000, 0], pyarrow.timestamp("s")).cast(pyarrow.timestamp("ms"))
    inner = pyarrow.StructArray.from_arrays([late, pyarrow.array(["a", "b"])], ["when", "tgt"])
    table = pyarrow.table({"src": ["one", "two"], "when": late, "inner": inner})
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    template = Template.of("translation")
    source = Source("", path=path, fields={"tgt": "inner.tgt"})
    assert [e.response for e in stream_examples(source, template)] == ["a", "b"]
    source = Source("", path=path, fields={"tgt": "inner.when"})
    with pytest.raises(UserError, match=r"row 1: field 'tgt' is timestamp\[ms\] 17\d+, which Pyth"):
        list(stream_examples(source, template))


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(texts, names=["src", "src"]), path)
    with pytest.raises(UserError, match=r"rows\.parquet: two columns are named 'src': rename or"):
        rows_of(path)
    inner = pyarrow.StructArray.from_arrays(texts, ["a", "a"])
    pyarrow.parquet.write_table(pyarrow.table({"pair": inner}), path)
    with pytest.raises(UserError, match="column 'pair': two columns are named 'a'"):
        rows_of(path)


def test_a_file_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "rows.jsonl"
    line = json.dumps({"text": "x" * 1000}) + "\n"
    with path.open("w") as file:
        file.writelines(line for _ in range(20_000))  # 20 MB
    tracemalloc.start()
    assert sum(1 for _ in stream_rows(Source(split="", path=path))) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
