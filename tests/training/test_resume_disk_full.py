"""The disk fills up while a checkpoint is written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from resume_tools import Uninterrupted, assert_same_result, copy_needed, run, saved_steps

from dlm.callbacks.checkpoint import newest_checkpoint

Output = pytest.CaptureFixture[str]


def mount(place: Path, options: str) -> None:
    ended = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True
    )
    if ended.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {ended.stderr.strip()}")


def allocated(folder: Path) -> int:
    """Bytes in whole pages, as tmpfs counts them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum((path.stat().st_size + 4095) // 4096 * 4096 for path in files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "size=64m")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_costs_only_the_steps_since_the_last_checkpoint(
    chain: Path, uninterrupted: Uninterrupted, small_disk: Path, capsys: Output
) -> None:
    whole = uninterrupted("pretrain")
    run_dir = small_disk / "run"
    stage = copy_needed(chain, run_dir, "pretrain")
    checkpoint = allocated(whole / "checkpoints") // 2
    # Room for the checkpoints of steps 4 and 8 and half of a third.
    size = allocated(run_dir) + 2 * checkpoint + checkpoint // 2 + 64 * 1024
    mount(small_disk, f"remount,size={size}")
    assert run(run_dir, only="pretrain") == 3
    told = capsys.readouterr().err
    assert "could not be written: the disk or your quota is full; " in told
    assert "the last complete one is of step 8. Free some space" in told
    assert "Traceback" not in told and told.splitlines()[-1].startswith("continue with: dlm")
    assert not list(stage.rglob(".partial-*")), "what was half written takes no room"
    newest, notes = newest_checkpoint(stage / "checkpoints")
    assert newest is not None and newest.step == 8 and not notes and saved_steps(stage) == [4, 8]

    mount(small_disk, "remount,size=64m")
    assert run(run_dir, only="pretrain") == 0
    assert "pretrain: resuming from step 8\n" in capsys.readouterr().out
    assert_same_result(stage, whole)


@pytest.mark.slow
def test_a_disk_that_is_full_before_anything_is_saved(
    chain: Path, uninterrupted: Uninterrupted, small_disk: Path, capsys: Output
) -> None:
    whole = uninterrupted("pretrain")
    run_dir = small_disk / "run"
    stage = copy_needed(chain, run_dir, "pretrain")
    mount(small_disk, f"remount,size={allocated(run_dir) + 24 * 1024}")
    assert run(run_dir, only="pretrain") == 3
    told = capsys.readouterr().err
    assert "the disk or your quota is full" in told
    assert told.splitlines()[-1].startswith("continue with: dlm")
    mount(small_disk, "remount,size=64m")
    assert run(run_dir, only="pretrain") == 0
    assert_same_result(stage, whole)
