"""Steps of so many tokens: the same samples after a resume, in every layout and micro-batch."""

from pathlib import Path

import pytest
import torch
from resume_tools import (
    STEPS,
    RecordBatches,
    Records,
    Uninterrupted,
    assert_same_result,
    copy_needed,
    directory,
    flat,
    run,
    run_interrupted,
    run_process,
    undisturbed_pretraining,
    values,
    with_callbacks,
)

TOKENS = 700
BUDGET = (
    "model.dropout=0", "train.global_batch_size=null", f"train.global_batch_tokens={TOKENS}",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
          ) -> tuple[Path, Records]:  # fmt: skip
    """Pretraining that nobody disturbed: its run directory and its batches."""
    uninterrupted("tokenizer")
    run_dir = tmp_path_factory.mktemp("budget") / "run"
    return undisturbed_pretraining(chain, run_dir, *BUDGET)


def test_a_resume_goes_on_with_the_next_batch_and_knows_how_many_samples_it_read(
    chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    stage, after = copy_needed(chain, run_dir, "pretrain"), RecordBatches()
    run_interrupted(run_dir, "pretrain", 18, *BUDGET)
    state = torch.load(stage / "checkpoints" / "step=00000016" / "state.ckpt", weights_only=True)
    consumed = sum(len(part) for step in range(16) for part in whole[1][step])
    assert state["TextDataModule"]["samples_consumed"] == consumed
    assert state["TextDataModule"]["window"][0] > 0, "it resumes beyond the first window"
    with with_callbacks(after):
        assert run(run_dir, *BUDGET, only="pretrain") == 0
    assert after.seen == {step: whole[1][step] for step in range(16, STEPS)}
    assert_same_result(stage, directory(whole[0], "pretrain"))


def test_layout_and_micro_batches_change_neither_samples_nor_losses(
    chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    stage, record = copy_needed(chain, run_dir, "pretrain"), RecordBatches()
    other = ("train.layout=packed", f"train.micro_batch_tokens={TOKENS // 3}")
    with with_callbacks(record):
        assert run(run_dir, *BUDGET, *other, only="pretrain") == 0
    assert {len(parts) for parts in record.seen.values()} == {4}
    assert flat(record.seen) == flat(whole[1])
    reference = directory(whole[0], "pretrain")
    for metric in ("train/loss", "validation/loss"):
        assert values(stage, metric) == pytest.approx(values(reference, metric), abs=1e-4)
    assert max(values(stage, "train/padding_share")) < 0.5


@pytest.mark.slow
def test_two_processes_follow_the_losses_of_one(
    chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    stage = copy_needed(chain, run_dir, "pretrain")
    two = ("hardware.devices=2", "hardware.strategy=ddp", "train.layout=packed")
    ended = run_process(run_dir, *BUDGET, *two, "--only", "pretrain")
    assert ended.returncode == 0, ended.stderr
    reference = directory(whole[0], "pretrain")
    for metric in ("train/loss", "validation/loss"):
        assert values(stage, metric) == pytest.approx(values(reference, metric), abs=1e-4)
