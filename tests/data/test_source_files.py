"""Folders and patterns: the files that are read, in which order, and what is refused."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import packed_files
import pytest

from dlm import saying
from dlm.data.sources import (
    BadRows,
    Source,
    read_rows,
    source_files,
    source_identity,
    stream_rows,
)
from dlm.errors import UserError


def texts(path: Path) -> list[str]:
    return [row["text"] for row in read_rows(Source("", path=path))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.csv.gz, a.csv and c.csv with the texts a1, a2, b1, ..., beside a hidden file."""
    data = tmp_path / "data"
    data.mkdir()
    for kind, stem in (("csv.gz", "b"), ("csv", "a"), ("csv", "c")):
        packed_files.write(data, kind, [{"text": f"{stem}{n}"} for n in (1, 2)], stem)
    (data / ".gitattributes").write_text("x")
    return data


def test_a_folder_is_read_by_name_and_every_row_names_its_file(folder: Path) -> None:
    assert texts(folder) == ["a1", "a2", "b1", "b2", "c1", "c2"]
    places = [str(place) for place, _ in stream_rows(Source("", path=folder))]
    assert places[1] == f"{folder / 'a.csv'}, line 3"
    assert places[-1] == f"{folder / 'c.csv'}, line 3"


def test_a_pattern_is_read_by_name_at_any_depth(folder: Path, tmp_path: Path) -> None:
    (folder / "deep").mkdir()
    packed_files.write(folder / "deep", "csv", [{"text": "d"}], "d")
    assert texts(folder / "[ab].*") == ["a1", "a2", "b1", "b2"]
    assert texts(tmp_path / "**" / "[ad].csv") == ["a1", "a2", "d"]


def test_a_file_that_is_really_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    packed_files.write(tmp_path, "txt", [{"text": "one"}], "a[1]")
    assert texts(tmp_path / "a[1].txt") == ["one"]


@pytest.mark.parametrize("read", [texts, lambda path: source_identity(Source("", path=path))])
def test_what_is_not_read_in_a_folder_is_refused_and_not_passed_over(
    read: Any, folder: Path, tmp_path: Path
) -> None:
    (folder / "d.csv.part").touch()
    (folder / "sub").mkdir()
    with pytest.raises(UserError, match=r"data also holds d\.csv\.part, sub, which is") as refused:
        read(folder)
    assert f"name what is with a pattern, such as {folder / '*.csv'} (" in str(refused.value)
    with pytest.raises(UserError, match=r"d\.csv\.part: no kind of file that is read: rename"):
        read(folder / "*")
    with pytest.raises(UserError, match=r"no file matches .*\*\.xml: correct the pattern"):
        read(folder / "*.xml")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match=r"other is an empty folder: give a folder with files"):
        read(other)
    (other / "README.md").touch()
    with pytest.raises(UserError, match=r"other holds only README\.md: give a folder with files"):
        read(other)


@pytest.mark.parametrize("pattern", ["", "*"])
@pytest.mark.parametrize("name", ["notes.txt", "more.json", "more.tsv"])
def test_files_of_several_kinds_are_refused_by_name(name: str, pattern: str, folder: Path) -> None:
    (folder / name).write_text("text\nx\n")
    for other in "bc":  # of as many of each kind those that are no text are offered
        next(folder.glob(f"{other}.csv*")).unlink()
    with pytest.raises(UserError, match=rf"has files of several kinds \(.*{name}") as refused:
        texts(folder / pattern)
    assert f"such as {folder / '*.csv'}, and others in a source of" in str(refused.value)


@pytest.mark.parametrize("pattern", ["", "*"])
@pytest.mark.parametrize("name", ["README.md", "README.txt", "LICENSE", "dataset_infos.json"])
def test_what_says_something_of_the_data_is_left_out_and_that_is_said(
    name: str, pattern: str, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(saying, "_SAID", set())
    (folder / name).write_text("{}\n")
    for _ in range(2):
        assert texts(folder / pattern) == ["a1", "a2", "b1", "b2", "c1", "c2"]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name} left out, by name no data" in line
    assert source_files(folder / name) == [folder / name]


@pytest.mark.parametrize("pattern", ["", "*"])
def test_a_file_met_twice_is_refused(pattern: str, folder: Path) -> None:
    (folder / "c2.csv").symlink_to(folder / "c.csv")
    with pytest.raises(UserError, match=r"c\.csv and .*c2\.csv look like one file with two names"):
        texts(folder / pattern)
    (folder / "c2.csv").unlink()
    packed_files.write(folder, "csv.bz2", [{"text": "c1"}], "c")
    with pytest.raises(UserError, match=r"c\.csv and .*c\.csv\.bz2 look like packed and unpacked"):
        texts(folder / pattern)


def test_an_empty_file_among_others_is_named(folder: Path) -> None:
    (folder / "b2.csv").write_text("text\n")
    with pytest.raises(UserError, match=r"b2\.csv has no rows: give a source with at least one"):
        texts(folder)


def test_bad_rows_of_a_folder_are_named_with_their_files(folder: Path) -> None:
    (folder / "d.csv").write_text("text\nx,y\n")
    bad_rows = BadRows("skip")
    assert len(list(stream_rows(Source("", path=folder), bad_rows=bad_rows))) == 6
    assert bad_rows.first[0].startswith(f"{folder / 'd.csv'}, line 2: 2 cells")


def test_the_identity_of_a_folder_is_its_contents_in_the_order_of_the_names(folder: Path) -> None:
    def identity(path: Path, **options: Any) -> str:
        return json.dumps(source_identity(Source("", path=path, **options)))

    before = identity(folder)
    assert identity(folder / "*") == before
    moved = folder.rename(folder.with_name("moved"))
    assert identity(moved) == before
    (moved / "a.csv").rename(moved / "z.csv")
    assert identity(moved) != before
    (moved / "z.csv").rename(moved / "a.csv")
    (moved / "a.csv").write_text("text\nother\n")
    assert identity(moved) != before
    one = moved / "c.csv"
    assert identity(one) == identity(moved / "c.*")
    options: list[dict[str, Any]] = [
        {"columns": ("x",)}, {"unquoted": True}, {"id_field": "text"}, {"normalise": "nfc"},
    ]  # fmt: skip
    assert len({identity(one), *(identity(one, **option) for option in options)}) == 5


def test_the_same_bytes_read_in_another_way_are_other_rows(tmp_path: Path) -> None:
    path = packed_files.write(tmp_path, "jsonl", [{"text": "a"}])
    other = tmp_path / "rows.txt"
    other.write_bytes(path.read_bytes())
    assert source_identity(Source("", path=path)) != source_identity(Source("", path=other))


def test_text_is_as_it_is_or_composed_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"text": "o\u0308", "refs": ["a\u030a", {"x": "e\u0301"}], "n": 1}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_rows(Source("", path=path)) == [row]
    composed = {"text": "ö", "refs": ["å", {"x": "é"}], "n": 1}
    assert read_rows(Source("", path=path, normalise="nfc")) == [composed]
    assert unicodedata.is_normalized("NFC", json.dumps(composed, ensure_ascii=False))


@pytest.mark.slow  # the library takes seconds to load
@pytest.mark.parametrize("streaming", [False, True])
def test_the_datasets_library_reads_a_set_with_or_without_streaming(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    data = tmp_path / "set"
    data.mkdir()
    packed_files.write(data, "jsonl", [{"text": "one"}, {"text": "n\0l"}, {"text": "two"}], "train")
    source = Source("train", hub=str(data), streaming=streaming)
    bad_rows = BadRows("skip")
    found = list(stream_rows(source, bad_rows=bad_rows))
    assert [(place.number, row["text"]) for place, row in found] == [(1, "one"), (3, "two")]
    assert bad_rows.first[0].startswith(f"hub data set {data} (train), row 2: it holds a NUL")
    with pytest.raises(UserError, match=r"hub data set .*nowhere \(train\) cannot be loaded"):
        read_rows(Source("train", hub=str(tmp_path / "nowhere"), streaming=streaming))
