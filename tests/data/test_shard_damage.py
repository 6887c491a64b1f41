"""Prepared rows when something goes wrong: nothing half-written is read as whole."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from shard_tools import contents, prepared, wanted, write_pairs
from small_vocabulary import tokenizer_of
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.shards import portions
from dlm.data.rows.shards.format import ARRAYS, INDEX, PROGRESS, VERSION, DamagedShards
from dlm.data.rows.shards.place import shard_directory
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.shards.writer import ShardWriter
from dlm.data.rows.wanted import RowsWanted
from dlm.errors import StageFailed, UserError

SMALL = {"shard_tokens": 150}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_of()


@pytest.fixture
def rows(tmp_path: Path) -> RowsWanted:
    return wanted([write_pairs(tmp_path / f"{n}.jsonl", 60, n) for n in range(2)])


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "PORTION_ROWS", 7)


def cut_short(directory: Path) -> str:
    path = directory / "000001.tokens.npy"
    path.write_bytes(path.read_bytes()[:-2])
    return "000001.tokens.npy has "


def removed(directory: Path) -> str:
    (directory / "000000.offsets.npy").unlink()
    return "000000.offsets.npy cannot be read"


def of_another_version(directory: Path) -> str:
    index = json.loads((directory / INDEX).read_text())
    (directory / INDEX).write_text(json.dumps(index | {"version": 99}))
    return f"its format is version 99, and this dlm reads {VERSION}"


def half_an_index(directory: Path) -> str:
    text = (directory / INDEX).read_text()
    (directory / INDEX).write_text(text[: len(text) // 2])
    return "index.json cannot be read"


def of_other_rows(directory: Path) -> str:
    index = json.loads((directory / INDEX).read_text())
    (directory / INDEX).write_text(json.dumps(index | {"key": "0" * 32}))
    return "index.json is of another data set, 000"


DAMAGES = [cut_short, removed, of_another_version, half_an_index, of_other_rows]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_named_with_the_remedy_and_made_good(
    damage: Callable[[Path], str], rows: RowsWanted, tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:  # fmt: skip
    shards, _ = prepared(rows, tokenizer, tmp_path, **SMALL)
    before = contents(shards.directory)
    problem = damage(shards.directory)
    with pytest.raises(DamagedShards) as refused:
        TokenShards.open(shards.directory)
    assert f"{shards.directory}: {problem}" in str(refused.value)
    assert "Delete this directory; it is made again" in str(refused.value)
    again, said = prepared(rows, tokenizer, tmp_path, **SMALL)
    assert said[0].startswith("prepared data is made again: ") and problem in said[0]
    assert contents(again.directory) == before


@pytest.mark.parametrize("array", ARRAYS)
def test_a_changed_bit_is_found_by_its_checksum(
    array: str, rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shards, _ = prepared(rows, tokenizer, tmp_path, **SMALL)
    TokenShards.open(shards.directory)
    before = contents(shards.directory)
    path = shards.directory / f"000001.{array}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedShards, match=rf"000001\.{array}\.npy is not what was written"):
        TokenShards.open(shards.directory)
    again, said = prepared(rows, tokenizer, tmp_path, **SMALL)
    assert said[0].startswith("prepared data is made again: ")
    assert contents(again.directory) == before


def test_a_file_that_is_lost_while_it_is_in_use_is_named(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shards, _ = prepared(rows, tokenizer, tmp_path, **SMALL)
    (shards.directory / "000000.tokens.npy").unlink()
    with pytest.raises(DamagedShards, match=r"000000\.tokens\.npy cannot be read"):
        shards.row(0)


class Killed(BaseException):
    """Nothing of ours catches it."""


def kill_after(calls: int, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    original = getattr(ShardWriter, method)
    done = 0

    def counting(*args: object, **options: object) -> object:
        nonlocal done
        if done == calls:
            raise Killed
        done += 1
        return original(*args, **options)

    monkeypatch.setattr(ShardWriter, method, counting)


@pytest.mark.parametrize("blocks", [None, 16])
@pytest.mark.parametrize("portions_done", [1, 4, 9, 10, 17, 19])
def test_a_killed_preparation_goes_on_behind_its_last_shard_to_the_same_bytes(
    portions_done: int, blocks: int | None, rows: RowsWanted,
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    paths = [each.source.path for each in rows.examples.sources if each.source.path]
    rows = wanted(paths, "text", text_blocks=blocks) if blocks else rows
    whole, _ = prepared(rows, tokenizer, tmp_path / "whole", **SMALL)
    with monkeypatch.context() as patch:
        kill_after(portions_done, patch, "add")
        with pytest.raises(Killed):
            prepared(rows, tokenizer, tmp_path / "killed", **SMALL)
    directory = tmp_path / "killed" / "shards" / whole.directory.name
    assert TokenShards.open(directory) is None
    finished = [path.name for path in directory.glob("*.tokens.npy")]
    untouched = {name: (directory / name).stat().st_mtime_ns for name in finished}
    (directory / ".000009.tokens.npy.123").write_bytes(b"half")
    again, said = prepared(rows, tokenizer, tmp_path / "killed", **SMALL)
    assert bool(finished) == ("going on behind them" in said[0])
    assert contents(again.directory) == contents(whole.directory)
    assert untouched == {name: (directory / name).stat().st_mtime_ns for name in finished}


@pytest.mark.parametrize("lost", ["shard", "record"])
def test_a_shard_that_is_not_whole_after_a_kill_is_made_again(
    lost: str, rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole, _ = prepared(rows, tokenizer, tmp_path / "whole", **SMALL)
    with monkeypatch.context() as patch:
        kill_after(15, patch, "add")
        with pytest.raises(Killed):
            prepared(rows, tokenizer, tmp_path / "killed", **SMALL)
    directory = tmp_path / "killed" / "shards" / whole.directory.name
    path = directory / ("000001.tokens.npy" if lost == "shard" else PROGRESS)
    path.write_bytes(path.read_bytes()[:-20])
    again, _ = prepared(rows, tokenizer, tmp_path / "killed", **SMALL)
    assert contents(again.directory) == contents(whole.directory)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shard_tools import prepared, wanted
from transformers import PreTrainedTokenizerFast
from dlm.data.rows.shards import portions
from dlm.data.rows.shards.writer import ShardWriter
portions.PORTION_ROWS = 7
folder = Path(sys.argv[2])
add = ShardWriter.add
def slow(*args):
    import time; time.sleep(0.05); add(*args)
ShardWriter.add = slow
rows = wanted([folder / "0.jsonl", folder / "1.jsonl"])
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
print("ready", flush=True)
sys.stdin.readline()
shards, said = prepared(rows, tokenizer, folder / "shared", shard_tokens=150)
print(len(shards), *said, sep=" | ", flush=True)
"""


@pytest.mark.slow
def test_of_two_processes_one_works_the_other_waits_and_a_kill_hands_the_work_on(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    whole, _ = prepared(rows, tokenizer, tmp_path / "whole", **SMALL)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    progress = tmp_path / "shared" / "shards" / whole.directory.name / PROGRESS
    _go(children[0])
    while not (progress.exists() and progress.read_bytes().count(b"\n") >= 2):
        time.sleep(0.01)
    _go(children[1])
    time.sleep(0.2)
    children[0].send_signal(signal.SIGKILL)
    _go(children[2])
    told = [child.communicate(timeout=60)[0] for child in children]
    assert told[0] == ""
    working, waiting = sorted(told[1:], key=lambda text: "tokenized into" not in text)
    assert working.startswith("120 | ") and "going on behind them" in working
    assert waiting.startswith("120 | ") and "tokenized into" not in waiting
    assert sum("waiting for another process" in text for text in told[1:]) >= 1
    assert contents(progress.parent) == contents(whole.directory)


def _go(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_a_full_disk_is_one_error_and_the_finished_shards_are_kept(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    whole, _ = prepared(rows, tokenizer, tmp_path / "whole", shard_tokens=600)
    sizes = [sum(file.size for file in shard.files.values()) for shard in whole.index.shards]
    largest = max(file.size for shard in whole.index.shards for file in shard.files.values())
    assert len(sizes) >= 3
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, before[1]))
    try:
        with pytest.raises(StageFailed) as failed:
            prepared(rows, tokenizer, tmp_path / "full", shard_tokens=600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    directory = tmp_path / "full" / "shards" / whole.directory.name
    text = str(failed.value)
    assert f"prepared data cannot be written to {directory}: the disk, the quota" in text
    assert "Free space there, or set data.cache=DIR" in text
    assert not list(directory.glob(".*")) and TokenShards.open(directory) is None
    again, _ = prepared(rows, tokenizer, tmp_path / "full", shard_tokens=600)
    assert contents(again.directory) == contents(whole.directory)


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"set data\.cache=DIR or the variable DLM_CACHE to a dir"):
        prepared(rows, tokenizer, tmp_path / "file")


def test_a_place_without_file_locks_is_refused_with_the_remedy(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UserError, match=r"can be locked there \(No locks .*set data\.cache=DIR"):
        prepared(rows, tokenizer, tmp_path)


def test_the_place_is_the_variable_or_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLM_CACHE", str(tmp_path / "there"))
    assert shard_directory(None, "key") == tmp_path / "there" / "shards" / "key"
    assert shard_directory(Path("here"), "key") == Path("here/shards/key")
    monkeypatch.delenv("DLM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shard_directory(None, "key") == tmp_path / ".cache" / "dlm" / "shards" / "key"


def test_nothing_is_random_in_the_files(
    rows: RowsWanted, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    one, two = (prepared(rows, tokenizer, tmp_path / name, **SMALL)[0] for name in "ab")
    assert contents(one.directory) == contents(two.directory)
    assert np.load(one.directory / "000000.offsets.npy").dtype == np.int64
