"""A limit takes from every file of a folder or a pattern alike."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dlm.data.sources import BadRows, Source, source_identity, stream_rows
from dlm.data.sources.even import rows_of_each, shares
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task


def files(folder: Path, sizes: Sequence[int], row: Callable[[int, int], str] | None = None) -> Path:
    """a.jsonl, b.jsonl, ... with so many rows."""
    folder.mkdir(exist_ok=True)
    row = row or (lambda file, number: json.dumps({"text": f"{'abcdefgh'[file]}{number}"}))
    for file, size in enumerate(sizes):
        lines = [row(file, number) for number in range(size)]
        (folder / f"{'abcdefgh'[file]}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def taken(path: Path, limit: int | None, **settings: object) -> list[str]:
    source = Source(split="train", path=path, limit=limit, **settings)  # type: ignore[arg-type]
    return [row["text"] for _, row in stream_rows(source)]


@pytest.mark.parametrize("pattern", ["", "*.jsonl"])
def test_every_file_gives_as_many_as_the_others_in_the_order_of_names(
    tmp_path: Path, pattern: str
) -> None:
    path = files(tmp_path / "rows", [9, 9, 9]) / pattern
    assert taken(path, 6) == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert taken(path, 6) == taken(path, 6)
    assert len(taken(path, 7)) == 7 and len(taken(path, 100)) == len(taken(path, None)) == 27


def test_files_that_are_short_are_made_up_for_by_the_others(tmp_path: Path) -> None:
    path = files(tmp_path / "rows", [1, 40, 2, 40])
    assert Counter(text[0] for text in taken(path, 43)) == {"a": 1, "b": 20, "c": 2, "d": 20}
    assert Counter(text[0] for text in taken(path, 80)) == {"a": 1, "b": 38, "c": 2, "d": 39}


def test_fewer_rows_than_files_come_from_files_at_even_distances(tmp_path: Path) -> None:
    assert taken(files(tmp_path / "rows", [5] * 8), 2) == ["d0", "h0"]


def test_one_file_gives_its_first_rows(tmp_path: Path) -> None:
    assert taken(files(tmp_path / "rows", [5]) / "a.jsonl", 2) == ["a0", "a1"]


def test_only_rows_that_can_be_used_count_and_a_bad_one_is_told_once(tmp_path: Path) -> None:
    def row(file: int, number: int) -> str:
        return "{" if (file, number) == (0, 1) else json.dumps({"text": f"{file}.{number}"})

    path = files(tmp_path / "rows", [3, 9], row)
    bad = BadRows("skip")
    source = Source(split="train", path=path, limit=8)
    assert Counter(r["text"][0] for _, r in stream_rows(source, bad_rows=bad)) == {"0": 2, "1": 6}
    assert bad.met == bad.count == 1


def test_an_id_that_another_file_has_is_a_bad_row_still(tmp_path: Path) -> None:
    path = files(tmp_path / "rows", [2, 2], lambda file, number: json.dumps({"id": number}))
    bad = BadRows("skip")
    source = Source(split="train", path=path, limit=4, id_field="id")
    assert len(list(stream_rows(source, bad_rows=bad))) == 2 and bad.count == 2


def test_the_identity_of_such_rows_says_so_and_that_of_others_is_as_before(tmp_path: Path) -> None:
    folder = Source(split="train", path=files(tmp_path / "rows", [3, 3]), limit=2)
    assert source_identity(folder)["limit"] == {"rows": 2, "of": "every file alike"}
    assert source_identity(replace(folder, limit=None))["limit"] is None
    assert source_identity(replace(folder, path=tmp_path / "rows" / "a.jsonl"))["limit"] == 2


@pytest.mark.parametrize(
    ("counts", "limit", "given"),
    [
        ([5, 5, 5], 6, [2, 2, 2]), ([5, 5, 5], 7, [2, 2, 3]), ([5, 5, 5], 8, [2, 3, 3]),
        ([0, 5, 1], 4, [0, 3, 1]), ([1, 1], 9, [1, 1]), ([3], 2, [2]), ([0, 0], 3, [0, 0]),
        ([7, 0, 7], 7, [3, 0, 4]),
    ],
)  # fmt: skip
def test_a_limit_is_dealt_out(counts: list[int], limit: int, given: list[int]) -> None:
    assert shares(counts, limit) == given
    assert sum(given) == min(limit, sum(counts))


def test_no_more_rows_are_counted_than_may_be_needed() -> None:
    read: Counter[str] = Counter()

    def rows_of(path: Path) -> object:
        for number in range(10_000):
            read[path.name] += 1
            yield number

    assert rows_of_each([Path("a"), Path("b")], 10, rows_of) == [5, 5]  # type: ignore[arg-type]
    assert max(read.values()) <= 10


def test_a_limited_evaluation_has_rows_of_every_file(tmp_path: Path) -> None:
    files(
        tmp_path / "rows", [6, 6],
        lambda file, number: json.dumps({"text": f"{file}.{number}" if number % 2 else " "}),
    )  # fmt: skip
    task = tmp_path / "texts.yaml"
    task.write_text("version: 1\nkind: perplexity\nsource: {path: rows}\nmetrics: [perplexity]\n")
    rows = read_task(load_task(str(task)), root=str(tmp_path), limit=4)
    assert rows.references == ["0.1", "0.3", "1.1", "1.3"]
