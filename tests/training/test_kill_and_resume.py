"""A process is killed in mid-epoch; the same command goes on, and nobody could tell afterwards."""

import json
import signal
from pathlib import Path

import pytest
from resume_tools import (
    SAVED_EVERY,
    Uninterrupted,
    assert_same_result,
    copy_needed,
    run_process,
    saved_steps,
    signal_in_mid_epoch,
)

SLOW = [pytest.param(kind, marks=pytest.mark.slow)
        for kind in ("pretrain", "length", "instruct", "autoregressive")]  # fmt: skip


@pytest.mark.parametrize("kind", ["adapt", *SLOW])
def test_a_killed_stage_ends_with_the_weights_of_an_uninterrupted_one(
    kind: str, chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted(kind)
    stage = copy_needed(chain, run_dir, kind)
    code, _, step = signal_in_mid_epoch(run_dir, kind, signal.SIGKILL)
    newest = step // SAVED_EVERY * SAVED_EVERY
    assert code == -signal.SIGKILL and step % SAVED_EVERY and saved_steps(stage)[-1] == newest

    again = run_process(run_dir, "--only", kind)
    assert again.returncode == 0, again.stderr
    assert f"{kind}: resuming from step {newest}\n" in again.stdout
    assert f"{kind}: took over the lock of process" in again.stdout
    assert f"{kind} {newest}/" not in again.stderr
    assert_same_result(stage, whole)
    manifests = [json.loads((place / "manifest.json").read_text()) for place in (stage, whole)]
    for manifest in manifests:
        manifest["metrics"].pop("throughput", None)  # time is not repeated
    assert manifests[0]["metrics"] == manifests[1]["metrics"]
    assert manifests[0]["attempts"] == 2
    unexpected = [line for line in again.stderr.splitlines() if not line.startswith(f"{kind} ")]
    assert unexpected == []


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_command_that_continues(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    code, errors, _ = signal_in_mid_epoch(run_dir, "pretrain", signal.SIGINT)
    assert code == 130 and "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("continue with: dlm run ") and last.endswith("--only pretrain")
    assert not (stage / "failure.json").exists()

    again = run_process(run_dir, "--only", "pretrain")
    assert again.returncode == 0 and "pretrain: resuming from step " in again.stdout
    assert_same_result(stage, whole)


@pytest.mark.slow
def test_the_console_of_a_whole_run_holds_only_what_a_person_wants_to_read(
    run_dir: Path,
) -> None:
    ended = run_process(run_dir)
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout + ended.stderr
    for noise in ("Warning", "WARNING", "warn(", "site-packages", "deprecated", "GPU available",
                  "LOCAL_RANK", "Trainable params", "Loading weights"):  # fmt: skip
        assert noise not in told, told
    stages = ("pretrain", "adapt", "length", "instruct", "autoregressive")
    assert all(line.startswith(stages) for line in ended.stderr.splitlines()), ended.stderr
