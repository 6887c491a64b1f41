"""Faults under DeepSpeed's ZeRO, whose checkpoints are a file a rank."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from resume_tools import (
    Uninterrupted,
    command,
    copy_needed,
    environment,
    last_step,
    run_process,
    saved_steps,
    weights,
)
from test_faults import PAUSED, rank_processes, wait_until
from test_resume_damaged import flip_a_bit

pytestmark = pytest.mark.slow
ALONE = ("--only", "pretrain", "hardware.strategy=zero2", "hardware.devices=1")
TWO = ("--only", "pretrain", "hardware.strategy=zero3", "hardware.devices=2")


def undisturbed(chain: Path, run_dir: Path, words: tuple[str, ...]) -> Path:
    stage = copy_needed(chain, run_dir, "pretrain")
    ended = run_process(run_dir, *words)
    assert ended.returncode == 0, ended.stderr
    return stage


def test_a_kill_in_the_consolidation_and_a_bit_flipped_in_a_shard(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, tmp_path: Path
) -> None:
    uninterrupted("tokenizer")
    whole = undisturbed(chain, tmp_path / "whole", ALONE)
    stage = copy_needed(chain, run_dir, "pretrain")
    mark = tmp_path / "there"
    # Called once for each parameter that is put together: killed in the middle.
    words = [str(mark), "dlm.distributed.portable", "whole", "5", *command(run_dir, *ALONE)[3:]]
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, *words], env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(mark.exists, process)
    process.kill()
    process.wait()
    assert saved_steps(stage) == [20, 24] and not (stage / "export").exists()
    flip_a_bit(stage / "checkpoints" / "step=00000024" / "shards" / "rank-00000.ckpt")
    again = run_process(run_dir, *ALONE)
    assert again.returncode == 0, again.stderr
    assert "step=00000024 is damaged (shards/rank-00000.ckpt does not match" in again.stdout
    assert "pretrain: resuming from step 20\n" in again.stdout
    assert weights(stage) == weights(whole)
    assert not list(stage.rglob(".partial-*"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_both_and_the_same_command_goes_on(
    rank: int, chain: Path, uninterrupted: Uninterrupted, run_dir: Path, tmp_path: Path
) -> None:
    uninterrupted("tokenizer")
    whole = undisturbed(chain, tmp_path / "whole", TWO)
    stage = copy_needed(chain, run_dir, "pretrain")
    process = subprocess.Popen(
        command(run_dir, *TWO), env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: last_step(stage) >= 9, process)
    os.kill(rank_processes(run_dir)[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "was killed" in errors, errors
    assert saved_steps(stage)[-1] >= 4
    again = run_process(run_dir, *TWO)
    assert again.returncode == 0, again.stderr
    assert "pretrain: resuming from step" in again.stdout
    # Two summands have one order: their sum is the same in every run.
    assert weights(stage) == weights(whole)
