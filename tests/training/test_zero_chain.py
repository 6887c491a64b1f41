"""Every stage kind under DeepSpeed's ZeRO on two CPU processes trains what one process would."""

from pathlib import Path

import pytest
from resume_tools import (
    STAGES,
    Uninterrupted,
    assert_same_values,
    copy_needed,
    directory,
    run,
    run_process,
)
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
# Dropout is drawn for each process, so it is off where one is compared with two.
NO_DROPOUT = ("model.dropout=0", "length.dropout=0")
TRAINED = STAGES[1:-1]
METRICS = ("train/loss", "validation/loss", "validation/chrf")
TOLERANCE = 1e-5
"""Of losses of about 1; the sums over two processes are rounded otherwise than those of one."""


@pytest.fixture(scope="module")
def alone(
    chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The whole chain in one process, without dropout."""
    uninterrupted("tokenizer")
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    copy_needed(chain, run_dir, "pretrain")
    assert run(run_dir, *NO_DROPOUT) == 0
    return run_dir


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_a_chain_follows_the_losses_of_one_process(
    strategy: str, chain: Path, alone: Path, run_dir: Path
) -> None:
    copy_needed(chain, run_dir, "pretrain")
    two = ("hardware.devices=2", f"hardware.strategy={strategy}")
    ended = run_process(run_dir, *NO_DROPOUT, *two)
    assert ended.returncode == 0, ended.stderr
    for stage in TRAINED:
        assert_same_values(directory(run_dir, stage), directory(alone, stage), METRICS, TOLERANCE)
    assert len(list(run_dir.rglob("manifest.json"))) == len(STAGES)
    told = ended.stdout + ended.stderr
    for noise in ("Warning", "WARNING", "warn(", "site-packages", "Gloo", "deepspeed"):
        assert noise not in told, told


# Everything that lies between a weight and the optimizer at once.
MIXED = ("lora.rank=4", "train.ema_decay=0.5", "hardware.activation_checkpointing=true")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        (("hardware.strategy=zero3", "hardware.offload=parameters", *MIXED), TOLERANCE),
        (("hardware.strategy=zero2", "hardware.offload=optimizer", *MIXED), TOLERANCE),
        # Weights of bf16 with masters of float32 against float32 alone.
        (("hardware.strategy=zero1", "train.precision=bf16-mixed"), 5e-3),
        (("hardware.strategy=zero3", "train.precision=bf16-mixed"), 5e-3),
    ],
    ids=["zero3-offload-lora", "zero2-offload-lora", "zero1-bf16", "zero3-bf16"],
)
def test_options_of_zero_train_what_one_process_trains(
    words: tuple[str, ...], tolerance: float, chain: Path, uninterrupted: Uninterrupted,
    run_dir: Path, tmp_path: Path,
) -> None:  # fmt: skip
    uninterrupted("pretrain")
    changes = [f"stages.adapt.{word}" for word in words if not word.startswith("hardware")]
    changes = ["stages.adapt.model.dropout=0", *changes]
    one, ours = copy_needed(chain, tmp_path / "one", "adapt"), copy_needed(chain, run_dir, "adapt")
    in_float32 = [word for word in changes if "bf16" not in word]
    assert run(tmp_path / "one", *in_float32, only="adapt") == 0
    hardware = [word for word in words if word.startswith("hardware")]
    ended = run_process(run_dir, *changes, *hardware, "hardware.devices=2", "--only", "adapt")
    assert ended.returncode == 0, ended.stderr
    assert_same_values(ours, one, METRICS[:2], tolerance)
    exported, expected = (load_file(d / "export" / "model.safetensors") for d in (ours, one))
    assert exported.keys() == expected.keys()
    if tolerance == TOLERANCE:
        for name, tensor in exported.items():
            assert (tensor - expected[name]).abs().max() < 1e-4, name
