import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlm.errors import RunInUse
from dlm.recipe.lock import STALE_AFTER_S, StageLock, live_holder, lock_path

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from dlm.errors import RunInUse
from dlm.recipe.lock import StageLock
path, begin = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0.0, begin - time.time()))
try:
    with StageLock(path, print, heartbeat_s=0.05):
        print("held", flush=True)
        sys.stdin.readline()
except RunInUse as error:
    print("refused", flush=True)
"""


def holding(path: Path, begin: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(begin)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def last_word(process: subprocess.Popen[str]) -> str:
    """Read until the process holds the lock or was refused."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() in ("held", "refused"):
            return line.strip()
    return "ended"


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.communicate("\n", timeout=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lock_path(tmp_path, "adapt")


def foreign_lock(path: Path, *, silent_s: float) -> None:
    """A lock of a process on another machine."""
    values = {"host": "node7", "pid": 1, "process_start": "1", "pid_space": "other/pid:[1]"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**values, "since": "2025-01-01T10:00:00+00:00", "token": "t"}))
    moment = time.time() - silent_s
    os.utime(path, (moment, moment))


def test_a_live_process_is_named_with_the_remedy(path: Path) -> None:
    process = holding(path)
    try:
        assert last_word(process) == "held"
        with pytest.raises(RunInUse) as refused, StageLock(path, print):
            pass
        text = str(refused.value)
        assert f"process {process.pid} on " in text and " since 20" in text
        assert "Wait until it ends" in text and str(path) in text
        assert refused.value.exit_code == 4
    finally:
        end(process)
    assert not path.exists()


def test_a_killed_process_leaves_a_lock_that_the_next_one_takes_over(path: Path) -> None:
    process = holding(path)
    assert last_word(process) == "held"
    process.send_signal(signal.SIGKILL)
    # It is a zombie until its parent asks for it, and counts as gone already.
    deadline = time.monotonic() + 30
    while live_holder(path) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    said: list[str] = []
    with StageLock(path, said.append):
        assert live_holder(path) is not None
    assert len(said) == 1 and f"took over the lock of process {process.pid}" in said[0]
    process.communicate(timeout=30)
    assert not path.exists()


@pytest.mark.parametrize("dead_holder", [False, True])
def test_of_racing_processes_exactly_one_wins(path: Path, dead_holder: bool) -> None:
    for _ in range(3):
        if dead_holder:
            foreign_lock(path, silent_s=STALE_AFTER_S + 5)
        begin = time.time() + 1.0
        racers = [holding(path, begin) for _ in range(4)]
        try:
            assert sorted(map(last_word, racers)) == ["held", "refused", "refused", "refused"]
        finally:
            end(*racers)


def test_a_reused_process_id_does_not_keep_a_lock_alive(path: Path) -> None:
    with StageLock(path, print):
        values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "process_start": "1"}))
    assert live_holder(path) is None


def test_another_host_is_trusted_while_its_heart_beats(path: Path) -> None:
    foreign_lock(path, silent_s=STALE_AFTER_S - 30)
    with pytest.raises(RunInUse, match="process 1 on node7"), StageLock(path, print):
        pass
    foreign_lock(path, silent_s=STALE_AFTER_S + 5)
    said: list[str] = []
    with StageLock(path, said.append):
        pass
    assert "node7" in said[0]


def test_the_holder_keeps_touching_its_lock(path: Path) -> None:
    with StageLock(path, print, heartbeat_s=0.02):
        os.utime(path, (1.0, 1.0))
        deadline = time.monotonic() + 30
        while path.stat().st_mtime == 1.0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1.0


def test_a_process_that_lost_its_lock_learns_it_and_leaves_the_new_one_alone(path: Path) -> None:
    with StageLock(path, print, heartbeat_s=0.02) as lock:
        lock.confirm()
        foreign_lock(path, silent_s=0)
        with pytest.raises(RunInUse, match="node7"):
            lock.confirm()
    assert "node7" in path.read_text()


def test_a_half_written_lock_is_somebodys_until_it_is_old(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(RunInUse), StageLock(path, print):
        pass
    os.utime(path, (1.0, 1.0))
    with StageLock(path, print):
        pass
