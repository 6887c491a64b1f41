"""Training on two hosts whose line is cut: a clean end on both, and the same command goes on.

Measured beside others on two CPU cores: both hosts had ended 14 s after the cut (timeout_s=10).
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from namespaces import TwoHosts, two_hosts
from resume_tools import (
    RECIPE,
    copy_needed,
    directory,
    environment,
    last_step,
    run,
    saved_steps,
)
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
# As in test_launchers; long enough that the line is cut in the middle.
SETTINGS = ("model.dropout=0", "optim.eps=1e-6", "train.steps=60")
TOLERANCE = 1e-5
STRATEGIES = ("ddp", "zero2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training by one process."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(run_dir, *SETTINGS, stop="pretrain") == 0
    return run_dir


def start(hosts: TwoHosts, run_dir: Path, strategy: str) -> list[subprocess.Popen[str]]:
    """One rank on each host; the same command every time."""
    return [
        hosts.popen(
            host,
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node",
             "1", "--node-rank", str(host), "--master-addr", hosts.addresses[0],
             "--master-port", "29500", "-m", "dlm.cli", "run", str(RECIPE),
             "--run-dir", str(run_dir), "--only", "pretrain", *SETTINGS,
             "hardware.devices=1", "hardware.num_nodes=2", f"hardware.strategy={strategy}",
             "hardware.timeout_s=10"],
            environment() | {"OMP_NUM_THREADS": "1"},
        )
        for host in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_cut_line_ends_both_hosts_and_the_same_command_goes_on(
    undisturbed: Path, tmp_path: Path, strategy: str
) -> None:
    run_dir = tmp_path / "run"
    stage = copy_needed(undisturbed, run_dir, "pretrain")
    with two_hosts() as hosts:
        processes = start(hosts, run_dir, strategy)
        while last_step(stage) < 10 and all(process.poll() is None for process in processes):
            time.sleep(0.01)
        hosts.cut()
        cut = time.monotonic()
        ended = [process.communicate(timeout=90) for process in processes]
        seconds = time.monotonic() - cut
        assert [process.returncode for process in processes] == [1, 1], ended  # torchrun's own
        assert seconds < 60
        lost = "stage pretrain lost another rank, which was killed, failed, or was silent"
        assert f"error: {lost}" in ended[0][1] and f"rank 1: {lost}" in ended[1][1]
        assert (stage / "failure.json").exists() and not (stage / "manifest.json").exists()
        saved = saved_steps(stage)[-1]
        assert 4 <= saved < 60

        hosts.mend()
        processes = start(hosts, run_dir, strategy)
        ended = [process.communicate(timeout=180) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ended
    assert f"pretrain: resuming from step {saved}\n" in ended[0][0]
    assert not (stage / "failure.json").exists()
    ours, theirs = (
        load_file(place / "export" / "model.safetensors")
        for place in (stage, directory(undisturbed, "pretrain"))
    )
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=TOLERANCE)


def test_a_cut_line_ends_ranks_that_share_work(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("star_rank.py"))
    with two_hosts() as hosts:
        place = str(tmp_path / "meet")
        command = [sys.executable, script]
        processes = [
            hosts.popen(rank, [*command, str(rank), hosts.addresses[0], place], environment())
            for rank in range(2)
        ]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "connected\n"
        hosts.cut()
        for other, process in zip((1, 0), processes, strict=True):
            _, told = process.communicate(timeout=30)
            assert f"StageFailed: rank {other} has ended or cannot be reached" in told


def test_namespaces_are_gone_when_a_test_fails() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), two_hosts() as hosts:
        left = hosts.popen(0, ["sleep", "60"], environment())
        raise RuntimeError("on purpose")
    # Killed, or never begun in a namespace that was gone by then.
    assert left.wait(timeout=10) in (-9, 255)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not any(name in listed.stdout for name in hosts.names)
