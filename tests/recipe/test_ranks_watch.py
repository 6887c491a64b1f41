"""Ranks that watch each other: the others end when one dies, and say which it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlm.config.schema import StageConfig
from dlm.errors import StageFailed
from dlm.recipe import ranks_watch
from dlm.recipe.ranks_watch import LaunchedRanks, RankLost, is_lost
from dlm.training.job import StageJob

REPOSITORY = Path(__file__).parents[2]
# Lightning's launcher, as far as the watch knows it; a rank 0 that waits for its ranks for ever.
LEADER = """
import subprocess, sys, threading, time, types
from pathlib import Path
launcher = types.ModuleType("launcher")
launcher._launch_process_observer = theirs = object()
sys.modules["lightning.pytorch.strategies.launchers.subprocess_script"] = launcher
from dlm.training.job import StageJob
from dlm.config.schema import StageConfig
from dlm.recipe import ranks_watch
from dlm.recipe.ranks_watch import LaunchedRanks
ranks_watch.POLL_S, ranks_watch.GRACE_S = 0.05, 1.5
job = StageJob("small", "adapt", StageConfig(), 0, "", Path(sys.argv[1]), {})
ranks = LaunchedRanks(lambda error: print(error, flush=True))
with ranks.watched(job):
    words = [[sys.executable, "-c", text] for text in sys.argv[2:]]
    launcher._launch_process_observer([subprocess.Popen(word) for word in words])
assert launcher._launch_process_observer is theirs
with ranks.watched(job):  # a later stage, with the ranks that an earlier one started
    time.sleep(60)
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
WAITING = "import time; time.sleep(60)"
FOLLOWER = """
import sys, time
from dlm.recipe import ranks_watch
ranks_watch.POLL_S, ranks_watch.GRACE_S = 0.05, 0.2
with ranks_watch.leader_watched(lambda error: print(error, flush=True)):
    print("watching", flush=True)
    time.sleep(60)
"""


def started(script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True,
        cwd=REPOSITORY, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ([KILLED, WAITING], "rank 1 of stage adapt was killed by SIGKILL, as"),
        ([WAITING, "raise SystemExit(2)"], "rank 2 of stage adapt ended with exit code 2; what"),
        # Rank 1 fails for want of the other one.
        (["raise SystemExit(3)", KILLED], "rank 2 of stage adapt was killed by SIGKILL, as"),
    ],
)
def test_rank_0_ends_though_it_is_stuck_and_names_the_rank(
    ranks: list[str], told: str, tmp_path: Path
) -> None:
    leader = started(LEADER, str(tmp_path), *ranks)
    output, _ = leader.communicate(timeout=60)
    assert leader.returncode == 3
    assert told in output and "run the same command again" in output
    assert '"StageFailed"' in (tmp_path / "failure.json").read_text()


def test_a_rank_that_is_stuck_ends_when_rank_0_is_killed() -> None:
    leader = started(
        "import os, subprocess, sys, time\n"
        "os.environ['DLM_LEADER'] = str(os.getpid())\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
        "time.sleep(60)",
        FOLLOWER,
    )
    assert leader.stdout is not None and leader.stdout.readline() == "watching\n"
    leader.send_signal(signal.SIGKILL)
    # The pipe closes when the follower has ended too.
    output, _ = leader.communicate(timeout=30)
    assert f"rank 0 (process {leader.pid}) was killed or ended; what was saved is kept" in output


def test_a_rank_that_ends_by_itself_is_left_alone() -> None:
    rank = started(FOLLOWER.replace("sleep(60)", "sleep(0.2)"), DLM_LEADER=str(os.getpid()))
    output, _ = rank.communicate(timeout=30)
    assert (rank.returncode, output) == (0, "watching\n")


@pytest.mark.parametrize("within_a_save", [False, True])
def test_a_rank_whose_launcher_is_another_says_that_it_lost_one(
    within_a_save: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "lightning.pytorch.strategies.launchers.subprocess_script"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(_launch_process_observer=None))
    monkeypatch.setattr(ranks_watch, "_REPORT_WAIT_S", 0.1)
    job = StageJob("small", "adapt", StageConfig(), 0, "", tmp_path, {})
    with pytest.raises(RankLost) as caught, LaunchedRanks(print).watched(job):
        broken = RuntimeError("[gloo/pair.cc] Connection closed by peer\nand more")
        if within_a_save:
            raise StageFailed("the checkpoint could not be written") from broken
        raise broken
    told = str(caught.value)
    assert "stage adapt lost another rank" in told and f"{tmp_path}/logs/failure-rank" in told
    assert told.endswith("([gloo/pair.cc] Connection closed by peer)")
    with pytest.raises(ValueError, match="ours"), LaunchedRanks(print).watched(job):
        raise ValueError("ours")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]"), True),
        (RuntimeError("[..gloo/..] Read error: Connection reset by peer"), True),
        (RuntimeError("[..gloo/..] Timed out waiting 1800000ms for recv operation"), True),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("CUDA out of memory"), False),
        (ConnectionResetError("Connection reset by peer"), False),
    ],
)
def test_a_broken_connection_between_ranks_is_told_from_other_errors(
    error: Exception, expected: bool
) -> None:
    assert is_lost(error) == expected
