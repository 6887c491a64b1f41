"""A resumed run sees the samples that an uninterrupted one would have seen, step by step."""

import shutil
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
    undisturbed_pretraining,
    values,
    weights,
    with_callbacks,
)
from safetensors.torch import load

NO_DROPOUT = ("model.dropout=0",)
"""Dropout is drawn for each micro-batch, so other micro-batches mean other dropout."""


@pytest.fixture(scope="module")
def whole(chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
          ) -> tuple[Path, Records]:  # fmt: skip
    """Pretraining without dropout, nobody disturbed it: its run directory and its batches."""
    uninterrupted("tokenizer")
    run_dir = tmp_path_factory.mktemp("batches") / "run"
    return undisturbed_pretraining(chain, run_dir, *NO_DROPOUT)


def test_the_batches_after_a_resume_with_worker_processes(
    chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    stage = copy_needed(chain, run_dir, "pretrain")
    before, after = RecordBatches(), RecordBatches()
    run_interrupted(run_dir, "pretrain", 10, *NO_DROPOUT, callbacks=(before,))
    with with_callbacks(after):
        assert run(run_dir, *NO_DROPOUT, "hardware.num_workers=2", only="pretrain") == 0
    assert sorted(before.seen) == list(range(10)) and sorted(after.seen) == list(range(8, STEPS))
    assert {**before.seen, **after.seen} == whole[1]
    # The one repeated stretch is what was trained after the checkpoint of step 8.
    assert before.seen[8] == after.seen[8] and before.seen[9] == after.seen[9]
    assert_same_result(stage, directory(whole[0], "pretrain"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(8, 8, id="always two", marks=pytest.mark.slow),
        pytest.param(16, 8, id="one, then two"),
        pytest.param(4, 16, id="four, then one", marks=pytest.mark.slow),
    ],
)
def test_micro_batches_change_neither_samples_nor_losses(
    before: int, after: int, chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    stage = copy_needed(chain, run_dir, "pretrain")
    first, second = RecordBatches(), RecordBatches()
    sizes = [f"train.micro_batch_size={size}" for size in (before, after)]
    # Saved every third step: a count of micro-batches would not be a multiple of both numbers.
    saving = "checkpoint.every_n_steps=3"
    run_interrupted(run_dir, "pretrain", 16, *NO_DROPOUT, sizes[0], saving, callbacks=(first,))
    with with_callbacks(second):
        assert run(run_dir, *NO_DROPOUT, sizes[1], saving, only="pretrain") == 0
    assert flat(first.seen) | flat(second.seen) == flat(whole[1])
    assert {len(parts) for parts in second.seen.values()} == {16 // after}
    reference = directory(whole[0], "pretrain")
    for metric in ("train/loss", "validation/loss"):
        expected = values(reference, metric)
        assert values(stage, metric) == pytest.approx(expected, abs=1e-5)
    ours, theirs = (load(weights(s)["model.safetensors"]) for s in (stage, reference))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=2e-4)


def test_dropout_is_not_off(
    chain: Path, whole: tuple[Path, Records], uninterrupted: Uninterrupted
) -> None:
    """Else the bit-identical weights elsewhere would say nothing about its randomness."""
    ours, theirs = uninterrupted("pretrain"), directory(whole[0], "pretrain")
    assert values(ours, "train/loss") != values(theirs, "train/loss")


def test_two_seeds_see_different_batches(
    chain: Path, whole: tuple[Path, Records], run_dir: Path
) -> None:
    shutil.copytree(directory(chain, "tokenizer"), directory(run_dir, "tokenizer"))
    record = RecordBatches()
    run_interrupted(run_dir, "pretrain", 2, "stages.pretrain.seed=1", callbacks=(record,))
    assert record.seen[0] != whole[1][0]
