"""torchrun, srun and a plain start: the same results as one process, and no rank left behind."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_tools import RECIPE, STAGES, directory, environment, run_process
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
# Dropout is drawn for each process. Where a gradient is about 0, Adam divides rounding errors by
# their own size, unless eps is larger than they are. Small batches, so that there are several.
SAME = ("model.dropout=0", "length.dropout=0", "optim.eps=1e-6", "generation.batch_tokens=64")
TWO = ("hardware.devices=2", "hardware.strategy=ddp")
TOLERANCE = 1e-5
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SCRIPT = Path(sys.executable).with_name("dlm")
TASKS = "numbers_en_de,choose_number_de,perplexity_counting"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain by one process."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    ended = run_process(run_dir, *SAME)
    assert ended.returncode == 0, ended.stderr
    return run_dir


def finish(*command: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), env=environment() | changes, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def scores(place: Path) -> tuple[dict[str, Any], str]:
    """metrics.json without the time it took, and samples.jsonl as it is."""
    metrics = json.loads((place / "metrics.json").read_text())
    assert metrics.pop("seconds") and metrics.pop("rows_per_second")
    return metrics, (place / "samples.jsonl").read_text()


def test_torchrun_brings_every_kind_of_stage_to_what_one_process_does(
    alone: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    ended = finish(
        *TORCHRUN, "-m", "dlm.cli", "run", RECIPE, "--run-dir", run_dir, *SAME, *TWO
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("[7/7] evaluate: done in") == 1
    assert ended.stdout.count("plan: resume_chain") == 1
    for stage in STAGES[1:-1]:
        for file in (directory(alone, stage) / "export").glob("*.safetensors"):
            ours = load_file(directory(run_dir, stage) / "export" / file.name)
            theirs = load_file(file)
            assert ours.keys() == theirs.keys()
            for name, weight in theirs.items():
                torch.testing.assert_close(ours[name], weight, rtol=0, atol=TOLERANCE)
    for system in ("diffusion", "twin"):
        place = Path("07_evaluate/export") / system / "numbers_en_de"
        assert scores(run_dir / place)[0] == scores(alone / place)[0]


def evaluate_words(alone: Path, output: Path) -> list[str | Path]:
    """Drawn at random, so that a draw that is keyed by the batch or the rank would show."""
    return [
        "evaluate", directory(alone, "length"), "--tasks", TASKS, "--limit", "9",
        "--likelihood-samples", "16", "--temperature", "1", "--output", output,
    ]  # fmt: skip


@pytest.mark.skipif(not SCRIPT.exists(), reason="dlm is not installed as a command here")
def test_evaluate_and_generate_give_the_same_by_torchrun_and_by_themselves(
    alone: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ended = [
        finish(sys.executable, "-m", "dlm", *evaluate_words(alone, one)),
        finish(*TORCHRUN, SCRIPT, *evaluate_words(alone, two)),
    ]
    for task in TASKS.split(","):
        assert scores(one / task) == scores(two / task)
    rows = [json.loads(row) for row in scores(one / "numbers_en_de")[1].splitlines()]
    assert len({row["hypothesis"] for row in rows}) > 3
    tables = [outcome.stdout.partition("results: ")[0] for outcome in ended]
    assert tables[0] == tables[1] and "numbers_en_de" in tables[0]
    given = tmp_path / "prompts.jsonl"
    given.write_text("".join(json.dumps({"prompt": row["source"]}) + "\n" for row in rows))
    words: list[str | Path] = [
        "generate", directory(alone, "length"), "--temperature", "1", "--input", given,
    ]  # fmt: skip
    answers = tmp_path / "answers.jsonl"
    shared = finish(sys.executable, "-m", "dlm", *words, "--output", answers, "--devices", "2")
    assert shared.stdout == f"9 answers in {answers}\n", shared.stderr
    texts = [json.loads(line)["text"] for line in answers.read_text().splitlines()]
    assert texts == [row["hypothesis"] for row in rows]


def by_srun(rank: int, port: int, **changes: str) -> dict[str, str]:
    """What srun sets for one of two tasks on one node."""
    return environment() | {
        "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "scores",
        "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost",
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0",
        "MASTER_PORT": str(port), **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "said"),
    [("error", "RuntimeError: out of memory"), ("killed", "has ended or cannot be reached")],
)
def test_a_rank_that_fails_ends_the_other_although_its_launcher_does_not(
    alone: Path, tmp_path: Path, fault: str, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    at = tmp_path / "fault"
    script = Path(__file__).with_name("faulty_rank.py")
    command = [sys.executable, script, *evaluate_words(alone, tmp_path / "scores")]
    processes = [
        subprocess.Popen(
            list(map(str, command)), env=by_srun(rank, port, FAULT=fault, FAULT_TIME=str(at)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    (_, told), (_, crash) = [process.communicate(timeout=120) for process in processes]
    assert time.time() - at.stat().st_mtime < 60
    assert processes[0].returncode == 3, told
    last = told.strip().splitlines()[-1]
    assert last.startswith("error: rank 1 ") and said in last
    assert processes[1].returncode == (-9 if fault == "killed" else 3), crash
    # What was computed is kept to go on from; no score is written.
    assert not list((tmp_path / "scores").rglob("metrics.json"))


def test_a_plain_run_starts_the_ranks_of_an_evaluation_itself(alone: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for stage in STAGES[:-1]:
        os.symlink(directory(alone, stage), directory(run_dir, stage))
    ended = run_process(run_dir, *SAME, *TWO)
    assert ended.returncode == 0, ended.stderr
    for system in ("diffusion", "twin"):
        place = Path("07_evaluate/export") / system / "numbers_en_de"
        assert scores(run_dir / place) == scores(alone / place)
    compared = "07_evaluate/export/comparisons.json"
    assert (run_dir / compared).read_text() == (alone / compared).read_text()
