"""Faults from outside, on real processes: kill -9 at chosen points, a clock that is set back, two
runs at once. docs/survival.md lists all faults with their tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from resume_tools import (
    Uninterrupted,
    assert_same_result,
    command,
    copy_needed,
    environment,
    last_step,
    run_process,
    saved_steps,
    signal_in_mid_epoch,
    weights,
)

pytestmark = pytest.mark.slow
TWO = ("--only", "pretrain", "hardware.devices=2", "hardware.strategy=ddp")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
PAUSED = """
import sys, time
from importlib import import_module
from pathlib import Path
mark, module, name, call, *words = sys.argv[1:]
owner, calls = import_module(module), 0
original = getattr(owner, name)
def paused(*arguments, **options):
    global calls
    calls += 1
    if calls == int(call):
        Path(mark).touch()
        time.sleep(600)
    return original(*arguments, **options)
setattr(owner, name, paused)
sys.argv = ["dlm", *words]
from dlm.cli import main
sys.exit(main(words))
"""


def wait_until(found: object, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not found():  # type: ignore[operator]
        assert process.poll() is None and time.monotonic() < deadline, "it never got there"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def by_two(
    chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Stage pretrain by two processes that nobody disturbed."""
    uninterrupted("tokenizer")
    run_dir = tmp_path_factory.mktemp("two") / "run"
    stage = copy_needed(chain, run_dir, "pretrain")
    assert run_process(run_dir, *TWO).returncode == 0
    return stage


def rank_processes(run_dir: Path) -> dict[int, int]:
    """Rank -> process id, of the ranks that work in this directory."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().split("\0")
            variables = dict(
                entry.partition("=")[::2] for entry in (place / "environ").read_text().split("\0")
            )
        except OSError:
            continue
        if str(run_dir) in words and "torch.distributed.run" not in words:
            found[int(variables.get("LOCAL_RANK") or 0)] = int(place.name)
    return found


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_a_killed_rank_takes_the_others_down_at_once_and_the_same_command_goes_on(
    launcher: str, rank: int, by_two: Path, chain: Path, run_dir: Path
) -> None:
    stage = copy_needed(chain, run_dir, "pretrain")
    words = command(run_dir, *TWO)
    if launcher == "torchrun":
        words = [words[0], *TORCHRUN, *words[1:]]
    process = subprocess.Popen(
        words, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: last_step(stage) >= 9, process)
    ranks = rank_processes(run_dir)
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[rank], signal.SIGKILL)
    killed = time.monotonic()
    # The pipes close when the last one has ended.
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    if launcher == "torchrun":
        assert process.returncode == 1 and "lost another rank, which was killed, failed" in errors
    elif rank:
        assert process.returncode == 3
        assert "error: rank 1 of stage pretrain was killed by SIGKILL" in errors
    else:
        assert process.returncode == -signal.SIGKILL
        assert f"error: rank 0 (process {ranks[0]}) was killed or ended" in errors
    if launcher == "lightning":
        assert errors.splitlines()[-1].startswith("continue with: dlm run")
        assert "Traceback" not in errors and not list(stage.rglob("failure-rank*"))
    assert saved_steps(stage)[-1] >= 4  # that of step 8 may still be under way

    again = subprocess.run(
        words, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert again.returncode == 0, again.stderr
    # Two summands have one order: their sum is the same in every run.
    assert weights(stage) == weights(by_two)


@pytest.mark.parametrize(
    ("module", "name", "call", "kept"),
    [
        pytest.param("dlm.callbacks.checkpoint", "mark_complete", 3, [4, 8], id="a checkpoint"),
        pytest.param("dlm.training.export", "write_kind", 1, [20, 24], id="the export"),
        pytest.param("dlm.recipe.runner", "build_manifest", 1, [20, 24], id="export and manifest"),
    ],
)
def test_a_kill_while_something_is_written(
    module: str, name: str, call: int, kept: list[int], chain: Path, uninterrupted: Uninterrupted,
    run_dir: Path, tmp_path: Path,
) -> None:  # fmt: skip
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    mark = tmp_path / "there"
    words = [str(mark), module, name, str(call), *command(run_dir, "--only", "pretrain")[3:]]
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, *words], env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(mark.exists, process)
    process.kill()
    process.wait()
    assert saved_steps(stage) == kept and not (stage / "manifest.json").exists()
    assert (stage / "export").exists() == (name == "build_manifest")
    again = run_process(run_dir, "--only", "pretrain")
    assert again.returncode == 0, again.stderr
    assert f"pretrain: resuming from step {kept[-1]}\n" in again.stdout
    assert_same_result(stage, whole)
    assert not list(stage.rglob(".partial-*"))


def libfaketime() -> str:
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    if not found:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    return str(found[0])


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Processes that are started take the time from this file: an offset to the real one."""
    place = tmp_path / "clock"
    place.write_text("+0d\n")
    monkeypatch.setenv("LD_PRELOAD", libfaketime())
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(place))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    # Setting a machine's clock does not move its monotonic one.
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    yield place


def test_a_clock_that_is_set_back_between_two_attempts_and_during_the_second(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, set_clock: Path
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    signal_in_mid_epoch(run_dir, "pretrain", signal.SIGKILL)
    before = last_step(stage)
    set_clock.write_text("-10d\n")
    process = subprocess.Popen(
        command(run_dir, "--only", "pretrain"), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: last_step(stage) > before, process)
    set_clock.write_text("-20d\n")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "pretrain: resuming from step" in output
    assert_same_result(stage, whole)
    manifest = json.loads((stage / "manifest.json").read_text())
    age = datetime.now().astimezone() - datetime.fromisoformat(manifest["started"])
    assert age > timedelta(days=9), "the clock was not set back"
    assert 0 < manifest["seconds"] < 300


def test_a_second_run_in_the_same_directory_is_refused_and_the_first_ends_well(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    first = subprocess.Popen(
        command(run_dir, "--only", "pretrain"), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: last_step(stage) >= 2, first)
    first.send_signal(signal.SIGSTOP)
    second = run_process(run_dir, "--only", "pretrain")
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 4
    assert f"stage pretrain is in use by process {first.pid} on " in second.stderr
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert_same_result(stage, whole)
    assert not list((run_dir / ".locks").glob("*.json"))
