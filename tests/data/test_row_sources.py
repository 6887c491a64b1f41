"""Rows from files, the hub and generators: renamed, limited, numbered as in the file."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest

from dlm.config.schema import SourceConfig
from dlm.data.sources import Row, Source, read_rows, source_identity, stream_rows
from dlm.errors import UserError
from dlm.training.sources import build_source


def numbered_rows(source: Source) -> list[tuple[int, Row]]:
    return [(place.number, row) for place, row in stream_rows(source)]


PAIRS = [{"src": "eins", "tgt": "one"}, {"src": "zwei", "tgt": "two"}]


def jsonl(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The ``datasets`` library replaced by one that has two rows; the calls are kept."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(*names: Any, **options: Any) -> list[dict[str, str]]:
        calls.append((*names, options))
        return [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_json_lines_are_read_in_order_with_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"src": "eins"}\r\n\n{"src": "zw\xc3\xb6lf"}')
    assert numbered_rows(Source(split="", path=path)) == [
        (1, {"src": "eins"}),
        (3, {"src": "zwölf"}),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"src": "eins"}\n')
    assert read_rows(Source(split="", path=path)) == [{"src": "eins"}]


def test_text_lines_become_rows_with_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Zwölf Boxkämpfer\r\n\n  jagen Viktor\n".encode())
    assert numbered_rows(Source(split="", path=path)) == [
        (1, {"text": "Zwölf Boxkämpfer"}),
        (3, {"text": "  jagen Viktor"}),
    ]


def test_fields_are_renamed_and_the_others_kept(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"de": "eins", "en": "one", "id": 7}])
    rows = read_rows(Source(split="", path=path, fields={"src": "de", "tgt": "en"}))
    assert rows == [{"de": "eins", "en": "one", "id": 7, "src": "eins", "tgt": "one"}]


def test_translations_nested_in_a_row_are_found(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"translation": {"de": "eins", "en": "one"}}])
    (row,) = read_rows(Source(split="", path=path, fields={"src": "de", "tgt": "en"}))
    assert (row["src"], row["tgt"]) == ("eins", "one")


@pytest.mark.parametrize("nested", [None, "eins", ["de"]])
def test_a_translation_that_is_no_mapping_is_refused(tmp_path: Path, nested: Any) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"translation": nested}])
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: no field 'de' \(the row has tran"):
        read_rows(Source(split="", path=path, fields={"src": "de"}))


def test_a_rename_of_a_field_that_is_not_there_names_line_and_nearest(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [*PAIRS, {"source": "drei"}])
    with pytest.raises(UserError) as refused:
        read_rows(Source(split="", path=path, fields={"text": "src"}))
    assert f"{path}, line 3: no field 'src' (the row has source" in str(refused.value)
    assert "set `fields` of this source" in str(refused.value)


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", PAIRS)
    path.write_text(path.read_text() + "broken\n")
    assert read_rows(Source(split="", path=path, limit=2)) == PAIRS
    with pytest.raises(UserError, match="line 3: not JSON"):
        read_rows(Source(split="", path=path, limit=3))


@pytest.mark.parametrize("read", [read_rows, source_identity])
@pytest.mark.parametrize("name", ["a", "a.gz", "a.de"])
def test_another_kind_of_file_is_named_with_those_that_are_read(
    tmp_path: Path, name: str, read: Any
) -> None:
    path = tmp_path / name
    path.write_text("src,tgt\n")
    with pytest.raises(UserError, match=rf"{name}: no kind of file .*files are \.txt, \.jsonl"):
        read(Source(split="", path=path))


def test_a_packed_parquet_file_says_why_not(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet.gz"
    path.touch()
    with pytest.raises(UserError, match=r"Parquet is compressed inside: unpack the \.gz"):
        read_rows(Source(split="", path=path))


@pytest.mark.parametrize("read", [read_rows, source_identity])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, read: Any) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nothere: No such file or directory"):
        read(Source(split="", path=tmp_path / "nothere"))
    circle = tmp_path / "circle.jsonl"
    circle.symlink_to(circle)
    with pytest.raises(UserError, match=r"cannot read .*circle\.jsonl: Too many levels"):
        read(Source(split="", path=circle))


def test_a_source_reads_its_file_under_the_root_and_else_the_hub(tmp_path: Path) -> None:
    config = SourceConfig(
        path="train.jsonl", hub="owner/pairs", hub_fields={"src": "de"}, fields={"src": "source"}
    )
    local = build_source(config, str(tmp_path), "train")
    assert (local.path, local.hub) == (tmp_path / "train.jsonl", None)
    assert local.fields == {"src": "source"}
    remote = build_source(config, None, "train")
    assert (remote.path, remote.hub, remote.split) == (None, "owner/pairs", "train")
    assert remote.fields == {"src": "de"}


def test_hub_rows_are_renamed_and_limited(hub: list[tuple[Any, ...]]) -> None:
    source = Source(
        split="train", hub="owner/pairs", hub_config="de-en", revision="v1",
        fields={"src": "de", "tgt": "en"}, limit=1,
    )  # fmt: skip
    assert read_rows(source) == [{"de": "eins", "en": "one", "src": "eins", "tgt": "one"}]
    assert hub == [("owner/pairs", "de-en", {"split": "train", "revision": "v1"})]


def test_numbers_of_the_hub_are_those_of_their_shortest_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Data(list[Row]):
        features = SimpleNamespace(arrow_schema=pyarrow.schema({"n": pyarrow.float32()}))

    data = Data([{"n": 2.299999952316284}, {"n": None}])
    library = SimpleNamespace(load_dataset=lambda *_, **__: data)
    monkeypatch.setitem(sys.modules, "datasets", library)
    rows = read_rows(Source(split="train", hub="owner/pairs"))
    assert rows == [{"n": 2.3}, {"n": None}]


def test_a_hub_row_without_the_field_is_named_by_its_number(hub: list[tuple[Any, ...]]) -> None:
    with pytest.raises(UserError, match=r"hub data set owner/pairs \(train\), row 1: no field"):
        read_rows(Source(split="train", hub="owner/pairs", fields={"src": "german"}))


def test_an_unreachable_hub_names_the_ways_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*names: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach 'owner/pairs' on the Hub")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UserError) as refused:
        read_rows(Source(split="train", hub="owner/pairs"))
    assert "hub data set owner/pairs (train) cannot be loaded: Couldn't reach" in str(refused.value)
    assert "set data.root=DIR to a folder with local files" in str(refused.value)


def test_the_identity_of_a_file_is_its_content_and_not_its_name(tmp_path: Path) -> None:
    first, second = jsonl(tmp_path / "a.jsonl", PAIRS), jsonl(tmp_path / "b.jsonl", PAIRS)
    identity = source_identity(Source(split="", path=first))
    assert source_identity(Source(split="", path=second)) == identity
    jsonl(second, PAIRS[:1])
    assert source_identity(Source(split="", path=second)) != identity
    assert source_identity(Source(split="", path=first, limit=1)) != identity
    assert source_identity(Source(split="", path=first, fields={"text": "src"})) != identity


def test_generated_rows_are_those_of_their_seed() -> None:
    source = Source(split="train", generator="number_pairs", count=5, seed=1)
    assert read_rows(source) == read_rows(source)
    assert read_rows(source) != read_rows(
        Source(split="train", generator="number_pairs", count=5, seed=2)
    )
