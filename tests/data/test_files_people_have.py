"""Files as Excel, pandas, translation tools and ``datasets`` write them: read by what they are, or
refused by their real name with a command that converts them."""

import bz2
import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import packed_files
import pyarrow
import pyarrow.parquet
import pytest

from dlm import saying
from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import (
    BadRows,
    Row,
    Source,
    read_rows,
    source_identity,
    stream_rows,
)
from dlm.errors import UserError

ROWS = [
    {"de": "Guten Morgen", "en": "Good morning"},
    {"de": "Danke, gut; ja", "en": 'Thanks, "fine"'},
    {"de": "Grüße\u2028zwei", "en": "Regards|x"},
]


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saying, "_SAID", set())


def rows_of(path: Path, **options: Any) -> list[Row]:
    return read_rows(Source("", path=path, **options))


def table(delimiter: str, rows: list[dict[str, str]] = ROWS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


READ: dict[str, tuple[str, bytes, str]] = {
    "Excel's CSV, German": ("a.csv", table(";").encode("utf-8-sig"), "with the delimiter ';'"),
    "a table of tabs called CSV": ("a.csv", table("\t").encode(), "with the delimiter tab"),
    "bars": ("a.psv", table("|").encode(), "with the delimiter '|'"),
    "commas called TSV": ("a.tsv", table(",").encode(), "with the delimiter ','"),
    "Excel's Unicode text": ("a.tsv", table("\t").encode("utf-16"), "as UTF-16, by its byte"),
    "UTF-16 the other way round": (
        "a.csv", b"\xfe\xff" + table(",").encode("utf-16-be"), "as UTF-16, by its byte"),
    "UTF-32": ("a.csv", table(",").encode("utf-32"), "as UTF-32, by its byte"),
    "sep= of a comma": ("a.csv", b"sep=,\r\n" + table(",").encode(), ""),
    "sep= of a semicolon": ("a.csv", b"sep=;\r\n" + table(";").encode(), "the delimiter ';'"),
    "old Macintosh": ("a.csv", table(",").replace("\r\n", "\r").encode(), "with carriage returns"),
    "tab": ("a.tab", table("\t").encode(), ""),
    "packed": ("a.csv.bz2", bz2.compress(table(";").encode()), "with the delimiter ';'"),
    "an array called jsonl": ("a.jsonl", json.dumps(ROWS).encode(), "as one JSON array"),
    "a written-out array called jsonl": (
        "a.jsonl", json.dumps(ROWS, indent=1).encode(), "as one JSON array"),
    "an empty first line": ("a.jsonl", b"\n" + json.dumps(ROWS).encode(), "as one JSON array"),
    "objects over lines": (
        "a.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
        "as JSON objects over several lines"),
    "objects over lines in json": (
        "a.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), "as JSON obj"),
    "UTF-16 JSON lines": (
        "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode("utf-16"),
        "as UTF-16"),
    "ndjson": ("a.ndjson", "\n".join(map(json.dumps, ROWS)).encode(), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_by_what_it_is_and_a_guess_is_said_once(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data, said = READ[name]
    path = tmp_path / file
    path.write_bytes(data)
    source_identity(Source("", path=path))
    assert rows_of(path) == ROWS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if said else 0)
    assert all(line.startswith(f"{path}: read ") and said in line for line in lines)


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("name", ["Excel's Unicode text", "old Macintosh", "objects over lines"])
def test_where_blocks_end_makes_no_difference_to_recoded_text(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlm.data.sources import json_array, lines

    monkeypatch.setattr(lines, "_BLOCK_BYTES", size)
    monkeypatch.setattr(json_array, "_BLOCK_BYTES", size)
    file, data, _ = READ[name]
    (tmp_path / file).write_bytes(data)
    assert rows_of(tmp_path / file) == ROWS


def test_text_with_carriage_returns_alone_has_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Zwölf\rBoxkämpfer\r".encode())
    assert rows_of(path) == [{"text": "Zwölf"}, {"text": "Boxkämpfer"}]
    path.write_bytes(b"one\r\ntwo\r with a return\n")
    assert rows_of(path) == [{"text": "one"}, {"text": "two\r with a return"}]


def test_what_a_source_says_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(table(";").encode("cp1252", errors="replace"))
    with pytest.raises(UserError, match=r"pairs: no kind of file .* set `format` on the source"):
        rows_of(path)
    found = rows_of(path, format="csv", delimiter=";", encoding="cp1252")
    assert found[2]["de"].startswith("Grüße")
    one = tmp_path / "a.csv"
    one.write_text("a;b\n1;2\n")
    assert rows_of(one, delimiter=",") == [{"a;b": "1;2"}]
    assert rows_of(one, columns=("x", "y")) == [{"x": "a", "y": "b"}, {"x": "1", "y": "2"}]
    array = tmp_path / "a.jsonl"
    array.write_text("[{}]")
    with pytest.raises(UserError, match="line 1: a list, not an object"):
        rows_of(array, format="jsonl")


@pytest.mark.parametrize("text", ["one; two\nthree\n", "one\ntwo\n", "a,b;c\n1,2;3\n"])
def test_a_table_that_its_usual_delimiter_or_none_splits_stays_as_it_is(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    header, *records = csv.reader(io.StringIO(text))
    assert rows_of(path) == [dict(zip(header, record, strict=True)) for record in records]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json"])
def test_a_legacy_encoding_is_named_as_what_to_set_and_never_guessed(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    rows = [{"text": "Schöne Grüße"}]
    content = {"a.txt": "Schöne Grüße\n", "a.csv": "text\nSchöne Grüße\n"}
    path.write_bytes(content.get(name, json.dumps(rows[0], ensure_ascii=False)).encode("cp1252"))
    with pytest.raises(UserError, match=r"not UTF-8 .*`encoding: cp1252`"):
        rows_of(path)
    assert rows_of(path, encoding="cp1252") == rows
    with pytest.raises(UserError, match=r"not shift_jis \(.*about byte .*correct `encoding`"):
        rows_of(path, encoding="shift_jis")


def test_utf_16_without_a_mark_is_named_as_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    (tmp_path / "b.txt").write_bytes("ab\nc".encode("utf-16-le"))
    with pytest.raises(UserError, match="`encoding: utf-16-le`"):
        rows_of(tmp_path / "b.txt")
    path.write_bytes(table(",").encode("utf-16-be"))
    with pytest.raises(UserError, match=r"UTF-16 without .* `encoding: utf-16-be`"):
        rows_of(path)
    assert rows_of(path, encoding="utf-16-be") == ROWS


def test_blanks_around_names_and_before_every_cell_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('de , en\nHallo, hello\nNein, "no, never"\n')
    assert rows_of(path) == [{"de": "Hallo", "en": "hello"}, {"de": "Nein", "en": "no, never"}]
    path.write_text("de, en\nHallo, hello\nNein,no\n")
    assert rows_of(path) == [{"de": "Hallo", "en": " hello"}, {"de": "Nein", "en": "no"}]
    path.write_text("de,en,,\nHallo,hello,,\n")
    with pytest.raises(UserError, match="line 1: the header has 2 columns without a name"):
        rows_of(path)


def test_stray_quote_marks_of_a_tsv_do_not_make_one_row_of_many(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('src\ttgt\na\t"b\nc\td\ne\tf"\ng\th\n')
    with pytest.raises(UserError, match=r"line 2: .*closed only in line 4, .*`unquoted: true`"):
        rows_of(path)
    found = [row["src"] for row in rows_of(path, unquoted=True)]
    assert found == ["a", "c", "e", "g"]
    path.write_text('src\ttgt\na\t"b\n\nc, with a\ttab\nf"\n')
    assert len(rows_of(path)) == 1


def test_a_row_of_another_width_says_by_which_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1;2\n")
    with pytest.raises(UserError, match=r"1 cell where the header has 2: .*`delimiter`.* as ','"):
        rows_of(path)


WRAPPED: dict[str, tuple[str, Any, str]] = {
    "a list under a key": ("a.json", {"version": 1, "data": ROWS}, "in a list under 'data'"),
    "beside a longer list": (
        "a.json", {"features": [{"name": n} for n in "abcdef"], "rows": ROWS},
        r"under 'rows' (or under 'features')"),
    "beside a shorter list": (
        "a.json", {"meta": [{"by": "x"}], "pairs": ROWS}, r"under 'pairs' (or under 'meta')"),
    "rows by key": (
        "a.json", {f"id{n}": {"id": n, **row} for n, row in enumerate(ROWS)},
        "a row under each of its keys"),
    "pandas' columns": (
        "a.json", {k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ("de", "en")},
        "pandas' JSON, a column of rows by number"),
    "pandas' columns called jsonl": (
        "a.jsonl", {k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ("de", "en")},
        "pandas' JSON, a column of rows by number"),
    "pandas' split": (
        "a.json",
        {"columns": ["de", "en"], "index": [0, 1, 2], "data": [list(r.values()) for r in ROWS]},
        "pandas' JSON of orient='split'"),
    "lists by field": (
        "a.json", {k: [r[k] for r in ROWS] for k in ("de", "en")}, "a list of values for each"),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", WRAPPED)
def test_json_that_wraps_its_rows_is_named_and_its_command_converts_it(
    name: str, indent: int | None, tmp_path: Path
) -> None:
    file, value, words = WRAPPED[name]
    path = tmp_path / "my data" / file
    path.parent.mkdir()
    path.write_text(json.dumps(value, indent=indent))
    with pytest.raises(UserError) as refused:
        rows_of(path)
    assert words in str(refused.value)
    found = rows_of(converted(refused.value, path))
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", packed_files.PACKERS)
def test_the_command_reads_the_file_as_it_is_packed_and_encoded(
    suffix: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.json{suffix}"
    data = json.dumps({"data": ROWS}, ensure_ascii=False).encode(encoding)
    path.write_bytes(packed_files.PACKERS[suffix](data))
    with pytest.raises(UserError, match="in a list under 'data'") as refused:
        rows_of(path)
    assert rows_of(converted(refused.value, tmp_path / "a.json")) == ROWS


def test_an_object_of_few_objects_is_a_row_and_many_keys_are_not_all_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"src": {"text": "a"}, "tgt": {"text": "b"}}))
    assert len(rows_of(path, fields={"src": "src.text"})) == 1
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({f"id{n}": {"src": "a"} for n in range(90)}))
    with pytest.raises(UserError, match=r"\(the row has id0.src, .* and 70 more\)"):
        rows_of(lines, fields={"tgt": "target"})


LONG = [{"de": str(n), "en": "x" * 200} for n in range(3000)]
LONG_WRAPPED: dict[str, tuple[str, Any, str]] = {
    "rows by key": ("a.json", {f"id{n}": row for n, row in enumerate(LONG)}, "under each of its"),
    "rows by key called jsonl": (
        "a.jsonl", {f"id{n}": row for n, row in enumerate(LONG)}, "under each of its keys"),
    "a list under a key": ("a.json", {"features": [{"n": 1}] * 9, "rows": LONG}, "under 'rows' ("),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", LONG_WRAPPED)
def test_json_that_is_longer_than_its_beginning_is_named_too(
    name: str, indent: int | None, tmp_path: Path
) -> None:
    file, value, words = LONG_WRAPPED[name]
    path = tmp_path / file
    path.write_text(json.dumps(value, indent=indent))
    with pytest.raises(UserError) as refused:
        rows_of(path)
    assert words in str(refused.value)
    assert len(rows_of(converted(refused.value, path))) == len(LONG)


def converted(error: UserError, path: Path, kind: str = "jsonl") -> Path:
    """Carry out the command of the message; the file that it writes."""
    command = str(error).split("`")[1]
    subprocess.run(
        ["/bin/sh", "-c", command.replace("python ", f"{sys.executable} ", 1)], check=True
    )
    return path.parent / f"{path.stem}.rows.{kind}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_bars_between_cells_are_named_and_the_command_writes_tabs(
    suffix: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(packed_files.PACKERS[suffix]("de ||| en\nü ||| |\n".encode(encoding)))
    with pytest.raises(UserError, match=r"fast_align's.*write tabs") as refused:
        rows_of(path)
    assert rows_of(converted(refused.value, tmp_path / "a.csv", "tsv")) == [{"de": "ü", "en": "|"}]


ESCAPED = {
    "between quote marks": 'src,tgt\n"say \\"hi\\", now",b\n',
    "at the end of a cell": 'src,tgt\n"\\"say\\", now\\"",b\nx,y\n',
    "of another width": 'src,tgt\n"a\\",b",c\n',
    "with tabs": 'src\ttgt\n"a \\"b\\", c"\tb\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ESCAPED)
def test_quote_marks_behind_backslashes_are_named_and_the_command_doubles_them(
    name: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / ("a.tsv" if "tabs" in name else "a.csv")
    path.write_text(ESCAPED[name], encoding=encoding)
    with pytest.raises(UserError, match=r"are written .*, where CSV doubles") as refused:
        rows_of(path)
    found = rows_of(converted(refused.value, path, "csv"))
    texts = csv.reader(
        io.StringIO(ESCAPED[name]), delimiter="\t" if "tabs" in name else ",",
        escapechar="\\", doublequote=False,
    )  # fmt: skip
    assert [list(row.values()) for row in found] == list(texts)[1:]


@pytest.mark.parametrize("again", ["src,tgt", "\ufeffsrc,tgt", '\ufeff"src", tgt '])
def test_a_header_once_more_is_a_bad_row(again: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"src,tgt\na,b\n{again}\nc,d\n")
    bad_rows = BadRows("skip")
    rows = [row["src"] for _, row in stream_rows(Source("", path=path), bad_rows=bad_rows)]
    assert rows == ["a", "c"]
    (reason,) = bad_rows.first
    assert reason.startswith(f"{path}, line 3: the header once more, as in files that were joined")
    path.write_text("src,tgt\nsrc,tgt\n")
    assert len(rows_of(path, columns=("a", "b"))) == 2


@pytest.mark.parametrize("filler", [0, 400_000])
def test_squad_is_named_and_its_command_converts_it(filler: int, tmp_path: Path) -> None:
    answers = [{"text": "Paris", "answer_start": 3}, {"text": "in Paris", "answer_start": 0}]
    asked = [{"id": "1", "question": "Where?", "answers": answers}]
    paragraphs = [{"context": "in Paris" + "x" * filler, "qas": asked}]
    path = tmp_path / "dev-v1.1.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    with pytest.raises(UserError, match="is SQuAD's JSON") as refused:
        rows_of(path)
    (row,) = rows_of(converted(refused.value, path))
    assert row["question"] == "Where?" and row["answers"] == ["Paris", "in Paris"]


def test_lines_with_commas_behind_them_are_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1},\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"line 1: not JSON \(Extra data at column 9\)"):
        rows_of(path)


def test_one_row_that_holds_lists_is_a_row(tmp_path: Path) -> None:
    for name, row in {
        "a.jsonl": {"document": ["a", "b"], "summary": ["c", "d"]},
        "b.jsonl": {"messages": [{"role": "user", "content": "Hi"}]},
        "b.json": {"messages": [{"role": "user", "content": "Hi"}]},
        "c.jsonl": {"sections": [{"text": "x" * 300_000}]},
        "c.json": {"sections": [{"text": "x" * 300_000}]},
    }.items():
        path = tmp_path / name
        path.write_text(json.dumps(row) + "\n" + (json.dumps(row) if name == "c.json" else ""))
        assert rows_of(path)[0] == row


KNOWN: dict[str, tuple[str, bytes, str]] = {
    "a workbook": ("a.xlsx", b"PK\x03\x04", "is an Excel workbook: save the sheet as CSV"),
    "an archive": ("a.txt.zip", b"PK\x03\x04", "is a zip archive: unpack it, `unzip"),
    "a packed archive": ("a.tar.gz", b"\x1f\x8b", "is a tar archive: unpack it"),
    "a workbook called CSV": (
        "a.csv", b"PK\x03\x04[Content_Types].xml xl/workbook.xml",
        r"is an Excel workbook: .* csv \S*a\.xlsx`; .* real name, `mv \S*a\.csv \S*a\.xlsx`"),
    "a workbook packed": (
        "a.csv.gz", gzip.compress(b"PK\x03\x04[Content_Types].xml xl/workbook.xml"),
        r"is packed: unpack it, `gunzip \S*a\.csv\.gz`; inside is an Excel .* csv \S*a\.xlsx"),
    "an old workbook called CSV": (
        "a.csv", b"\xd0\xcf\x11\xe0", r"real name, `mv \S*a\.csv \S*a\.xls`"),
    "packed twice": (
        "a.jsonl.gz", gzip.compress(gzip.compress(b"{}")),
        r"is packed twice: unpack it once, `gunzip \S*\.gz && mv \S*a\.jsonl \S*a\.jsonl\.gz`"),
    "an archive in a packed file": (
        "a.jsonl.gz", gzip.compress(b"a.txt".ljust(257, b"\0") + b"ustar\0"), "is a tar archive"),
    "an archive called CSV": ("a.csv", b"PK\x03\x04a.txt", "is a zip archive"),
    "gzip without its name": ("a.jsonl", b"\x1f\x8b\x08", "rename it to a.jsonl.gz"),
    "Parquet called JSON": ("a.json", b"PAR1xx", "is Parquet: set `format: parquet`"),
    "a pointer": ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a pointer to lines": ("a.txt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    "a web page": ("a.csv", b"\n<!DOCTYPE html>\n<html>", "is a web page: download the file"),
    "other XML": ("a.tmx", b"<?xml version='1.0'?><xliff/>", "the root <xliff>, where TMX has"),
    "broken XML": ("a.tmx", b"<tmx><body><tu>", "not XML .*no element found"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_not_read_is_refused_by_its_real_name(name: str, tmp_path: Path) -> None:
    file, data, words = KNOWN[name]
    path = tmp_path / file
    path.write_bytes(data)
    with pytest.raises(UserError, match=words.replace("|||", r"\|\|\|")):
        rows_of(path)


def test_bytes_are_refused_with_the_command_that_makes_them_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    column = pyarrow.array([b"eins"], pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"src": column, "tgt": ["one"]}), path)
    with pytest.raises(UserError, match="field 'src' is bytes, not text") as refused:
        list(stream_examples(Source("", path=path), Template.of("translation")))
    command = re.findall("`(python .*?)`", str(refused.value))[0]
    command = command.replace("python", sys.executable, 1).replace("IN.parquet", str(path))
    out = tmp_path / "b.parquet"
    subprocess.run(["/bin/sh", "-c", command.replace("OUT.parquet", str(out))], check=True)
    assert rows_of(out) == [{"src": "eins", "tgt": "one"}]


def test_nested_columns_are_reached_by_a_dotted_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"translation": {"de": "eins", "en": "one"}, "meta": {"a": {"b": "x"}}, "c.d": "y"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    fields = {"src": "translation.de", "tgt": "en", "deep": "meta.a.b", "dot": "c.d"}
    (row,) = rows_of(path, fields=fields)
    assert [row[name] for name in fields] == ["eins", "one", "x", "y"]
    with pytest.raises(UserError, match=r"no field 'translation\.fr' .*the row has de, en"):
        rows_of(path, fields={"src": "translation.fr"})


TMX = """<?xml version="1.0" encoding="{0}"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="de"/><body>
<tu><tuv xml:lang="de"><seg>Hallo <bpt i="1">&lt;b></bpt>Welt<ept i="1">&lt;/b></ept>!</seg></tuv>
<tuv xml:lang="en-GB"><seg>Hello <hi>world</hi>!</seg></tuv></tu>
<tu><tuv lang="de"><seg>für</seg></tuv><tuv lang="en-GB"><seg/></tuv></tu>
<tu><tuv xml:lang="de"><seg>a</seg></tuv><tuv xml:lang="de"><seg>b</seg></tuv></tu>
</body></tmx>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_tmx_is_a_row_a_unit_by_language_without_codes(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    path.write_bytes(TMX.format(encoding).encode(encoding))
    bad_rows = BadRows("skip")
    found = list(stream_rows(Source("", path=path), bad_rows=bad_rows))
    assert [(place.number, row) for place, row in found] == [
        (1, {"de": "Hallo Welt!", "en-GB": "Hello world!"}),
        (2, {"de": "für", "en-GB": ""}),
    ]
    assert bad_rows.first == [f"{path}, row 3: two texts of 'de': keep one of them"]


def test_tmx_may_have_a_namespace(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    named = TMX.format("utf-8").replace("<tmx ", '<tmx xmlns="http://www.lisa.org/tmx14" ')
    path.write_text(named, encoding="utf-8")
    found = [row for _, row in stream_rows(Source("", path=path), bad_rows=BadRows("skip"))]
    assert found[0] == {"de": "Hallo Welt!", "en-GB": "Hello world!"}


def test_tmx_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "a.tmx"
    unit = f"<tu><tuv lang='a'><seg>{'x' * 2000}</seg></tuv></tu>"
    path.write_text(f"<tmx><body>{unit * 5000}</body></tmx>")  # 10 MB
    tracemalloc.start()
    assert sum(1 for _ in stream_rows(Source("", path=path))) == 5000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


def test_parallel_files_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes(b"eins\r\n\n\nvier\n")
    (tmp_path / "train.en.bz2").write_bytes(bz2.compress(b"one\n\ntwo\nfour"))
    texts = {"src": tmp_path / "train.de", "tgt": tmp_path / "train.en.bz2"}
    source = Source("", parallel=texts)
    assert [(place.number, row) for place, row in stream_rows(source)] == [
        (1, {"src": "eins", "tgt": "one"}),
        (3, {"src": "", "tgt": "two"}),
        (4, {"src": "vier", "tgt": "four"}),
    ]
    identity = source_identity(source)
    swapped = Source("", parallel={"src": texts["tgt"], "tgt": texts["src"]})
    assert source_identity(swapped) != identity


@pytest.mark.parametrize("german, english", [(3, 5), (5, 3), (0, 2)])
def test_parallel_files_of_other_lengths_are_refused_with_both(
    german: int, english: int, tmp_path: Path
) -> None:
    texts = {"src": tmp_path / "a.de", "tgt": tmp_path / "a.en"}
    for path, lines in zip(texts.values(), (german, english), strict=True):
        path.write_text("x\n" * lines)
    with pytest.raises(UserError, match=rf"a\.de has {german}, .*a\.en has {english}: give files"):
        read_rows(Source("", parallel=texts))


def test_a_bad_line_of_parallel_files_names_its_file(tmp_path: Path) -> None:
    texts = {"src": tmp_path / "a.de", "tgt": tmp_path / "a.en"}
    texts["src"].write_bytes(b"eins\nzwei\n")
    texts["tgt"].write_bytes(b"one\ntw\xff\n")
    with pytest.raises(UserError, match=r"line 2: .*a\.en: not UTF-8"):
        read_rows(Source("", parallel=texts))


@pytest.mark.slow  # the library takes seconds to load
def test_folders_of_save_to_disk_are_read_without_the_caches_beside_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "two")
    source = Source("", path=tmp_path / "one")
    assert [(p.number, row) for p, row in stream_rows(source)] == list(enumerate(ROWS, start=1))
    before = source_identity(source)
    datasets.load_from_disk(tmp_path / "one").map(lambda row: {"de": "x", "en": row["en"]})
    assert any(file.name.startswith("cache-") for file in (tmp_path / "one").iterdir())
    assert rows_of(tmp_path / "one") == ROWS and source_identity(source) == before
    with pytest.raises(UserError, match=r"several splits .*two/test \(there are test, train\)"):
        rows_of(tmp_path / "two")
    assert rows_of(tmp_path / "two" / "train") == ROWS
    narrow = pyarrow.table({"a": pyarrow.array([2.3], pyarrow.float32())})
    datasets.Dataset(narrow).save_to_disk(tmp_path / "narrow")
    assert rows_of(tmp_path / "narrow") == [{"a": 2.3}]
    twice = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["a", "a"])
    with pyarrow.ipc.new_stream(next((tmp_path / "narrow").glob("*.arrow")), twice.schema) as file:
        file.write_table(twice)
    with pytest.raises(UserError, match=r"\.arrow: two columns are named 'a'"):
        rows_of(tmp_path / "narrow")
    arrow = next((tmp_path / "one").glob("data-*.arrow"))
    with pytest.raises(UserError, match="is an Arrow file: of a folder that save_to_disk wrote"):
        rows_of(arrow)
    os.remove(arrow)
    with pytest.raises(UserError, match=r"cannot (read|be loaded)"):
        rows_of(tmp_path / "one")


REPEATED = {
    "a.jsonl": '{"a": 1}\n{"a": 1, "b": {"c": 1, "c" : 2}}\n{"a": "\\"x\\": y", "b": {"a": 2}}\n',
    "a.json": '[{"a": 1}, {"a": 1, "b": {"c": 1, "c" : 2}}, {"a": "\\"x\\": y", "b": {"a": 2}}]',
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_json_key_given_twice_is_a_bad_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(REPEATED[name])
    bad_rows = BadRows("skip")
    found = [row for _, row in stream_rows(Source("", path=path), bad_rows=bad_rows)]
    assert found == [{"a": 1}, {"a": '"x": y', "b": {"a": 2}}]
    (reason,) = bad_rows.first
    assert re.fullmatch(r".*, (row|line) 2: the key 'c' is given twice: keep one of them", reason)


@pytest.mark.parametrize("good", [0, 1])
def test_skipping_is_not_offered_where_no_row_of_a_file_is_good(good: int, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    (tmp_path / "b.jsonl").write_text("x\ny\n" + '{"src": "a", "tgt": "b"}\n' * good)
    bad_rows = BadRows("error")
    list(stream_rows(Source("", path=tmp_path), bad_rows=bad_rows))
    with pytest.raises(UserError) as refused:
        bad_rows.finish()
    assert ("on_bad_row=skip" in str(refused.value)) == bool(good)
    assert (f"Every row of {tmp_path / 'b.jsonl'} is bad" in str(refused.value)) != bool(good)


def test_skipping_is_not_offered_where_no_row_fits_the_template(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"de": "a", "en": "b"}\n' * 3)
    bad_rows = BadRows("error")
    template = Template.of("translation")
    assert not list(stream_examples(Source("", path=path), template, bad_rows=bad_rows))
    with pytest.raises(UserError, match=r"3 bad rows(.|\n)*Every row of .*a\.jsonl is bad"):
        bad_rows.finish()


def test_the_identity_of_files_read_as_usual_is_their_bytes_and_format(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(","))
    plain = source_identity(Source("", path=path))
    assert plain.keys() == {"sha256", "format", "fields", "limit"}
    assert source_identity(Source("", path=path, delimiter=",", encoding="UTF8")) == plain
    assert source_identity(Source("", path=path, delimiter=";")) == plain | {"delimiter": ";"}
    path.write_text("de, en\nHallo, hello\n")
    assert source_identity(Source("", path=path))["blanks"] == "cells"


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path: Path) -> None:
    from dlm.config.schema import SourceConfig
    from dlm.training.sources import build_source

    root = tmp_path / "d[1] x"
    root.mkdir()
    (root / "a.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    for path in (".", "a.jsonl", "*.jsonl", "[a].jsonl"):
        source = build_source(SourceConfig(path=path), str(root), "train")
        assert len(read_rows(source)) == 1
