"""A run that moves between strategies and numbers of processes trains what one process would."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from resume_tools import (
    RECIPE,
    STEPS,
    Uninterrupted,
    copy_needed,
    directory,
    environment,
    run,
    saved_steps,
    values,
)
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
# Dropout is drawn for each process; validation and the export are those of the moving average.
CHANGES = ("stages.adapt.model.dropout=0", "stages.adapt.train.ema_decay=0.5")
Shape = tuple[str, int]
WORDS = {"auto": "one process", "ddp": "DDP", "zero1": "ZeRO-1", "zero2": "ZeRO-2",
         "zero3": "ZeRO-3"}  # fmt: skip

WAYS: dict[str, list[Shape]] = {
    "growing": [("auto", 1), ("zero2", 2), ("zero3", 2), ("zero1", 4), ("ddp", 2), ("auto", 1)],
    "shrinking": [("zero3", 4), ("zero2", 1), ("ddp", 4), ("zero3", 2), ("zero1", 2), ("zero2", 2)],
}


@pytest.fixture(scope="module")
def alone(
    chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Adapt in one process, to the end, without dropout."""
    uninterrupted("pretrain")
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    copy_needed(chain, run_dir, "adapt")
    assert run(run_dir, *CHANGES, only="adapt") == 0
    return run_dir


def attempt(
    run_dir: Path, shape: Shape, samples: Path, stop: int | None
) -> subprocess.CompletedProcess[str]:
    strategy, devices = shape
    samples.mkdir(exist_ok=True)
    words = [f"hardware.strategy={strategy}", f"hardware.devices={devices}", *CHANGES]
    script = Path(__file__).with_name("stop_at.py")
    set_for_it = {"DLM_TEST_SAMPLES": str(samples), "OMP_NUM_THREADS": "1"}
    if stop is not None:
        set_for_it["DLM_TEST_STOP_AT"] = str(stop)
    return subprocess.run(
        [sys.executable, str(script), "run", str(RECIPE), "--run-dir", str(run_dir), "--only",
         "adapt", *words],
        env=environment() | set_for_it, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def samples_of_steps(folder: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            step, samples = json.loads(line)
            found[step] += samples
    return {step: sorted(samples) for step, samples in found.items()}


def in_words(shape: Shape) -> str:
    strategy, devices = shape
    return WORDS[strategy] if strategy == "auto" else f"{WORDS[strategy]} on {devices} processes"


@pytest.mark.parametrize("way", WAYS)
def test_every_move_continues_losses_samples_and_weights(
    way: str, chain: Path, alone: Path, run_dir: Path, tmp_path: Path
) -> None:
    stage = copy_needed(chain, run_dir, "adapt")
    shapes = WAYS[way]
    for number, shape in enumerate(shapes):
        last = number == len(shapes) - 1
        stop = None if last else 4 * (number + 1)
        ended = attempt(run_dir, shape, tmp_path / "samples", stop)
        assert ended.returncode == (0 if last else 75), ended.stderr
        if number:
            move = f"written by {in_words(shapes[number - 1])}; continuing as {in_words(shape)}"
            assert ended.stdout.count(move) == 1, ended.stdout
        if stop is not None:
            assert saved_steps(stage)[-1] == stop
    theirs = directory(alone, "adapt")
    for metric in ("train/loss", "validation/loss", "validation/chrf"):
        assert values(stage, metric) == pytest.approx(values(theirs, metric), abs=1e-5)
    exported, expected = (
        load_file(place / "export" / "model.safetensors") for place in (stage, theirs)
    )
    assert exported.keys() == expected.keys()
    for name, tensor in exported.items():
        assert (tensor - expected[name]).abs().max() < 2e-5, name
    seen = samples_of_steps(tmp_path / "samples")
    assert seen == samples_of_one(chain, tmp_path) and sorted(seen) == list(range(STEPS))


def samples_of_one(chain: Path, tmp_path: Path) -> dict[int, list[int]]:
    """The samples of every step of one process that nobody stops."""
    run_dir = tmp_path / "for_samples"
    copy_needed(chain, run_dir, "adapt")
    ended = attempt(run_dir, ("auto", 1), tmp_path / "of_one", None)
    assert ended.returncode == 0, ended.stderr
    return samples_of_steps(tmp_path / "of_one")
