"""How a global batch is shared, and which placement is chosen."""

from dataclasses import replace

import pytest

from dlm.errors import UserError
from dlm.planning.batches import GlobalBatch, Rows, Share, batch_shape, shares
from dlm.planning.flops import hours, training_work
from dlm.planning.gpus import gpu_named
from dlm.planning.memory import GIB, Load, checkpoint_bytes, export_bytes
from dlm.planning.parameters import Parameters
from dlm.planning.shapes import NetworkShape
from dlm.planning.stage_plan import Cluster, StageInputs, plan_stage
from dlm.planning.strategies import placements

ROWS = Rows(longest=512, mean=512, response_share=0.5, mean_rate=0.51, rate_deviation=0.29,
            copies=2)  # fmt: skip
XL = StageInputs(
    name="adapt", kind="adapt", model="xl",
    load=Load(
        Parameters(3_482_741_760, 643_571_200, 2_832_537_600, 3_400_000_000, 3_482_741_760,
                   642_252_800),
        NetworkShape("xlm-roberta-xl", 36, 2560, 10240, 32, 250_880), "bf16-mixed",
    ),
    rows=ROWS, batch=GlobalBatch(rows=512, tokens=None), width=512, steps=1000,
)  # fmt: skip


def cluster(gpus: int, gib: float) -> Cluster:
    return Cluster(1, gpus, int(gib * GIB), 989.0, 0.35)


@pytest.mark.parametrize(
    "gpus, gib, name",
    [
        (8, 90, "ddp"),
        (8, 32, "zero1"),
        (8, 27, "zero2"),
        (8, 23, "zero3"),
        (8, 20, "zero2 + activation checkpointing"),
        (8, 17, "zero3 + activation checkpointing"),
        (1, 80, "single"),
        (1, 69, "single + activation checkpointing"),
        (1, 30, "zero2 + activation checkpointing + offload of optimizer"),
        (1, 10, "zero3 + activation checkpointing + offload of parameters"),
    ],
)
def test_less_memory_asks_for_a_dearer_placement(gpus: int, gib: float, name: str) -> None:
    chosen = plan_stage(XL, cluster(gpus, gib)).chosen
    assert chosen is not None and chosen.placement.name == name
    assert chosen.memory.total <= gib * GIB


def test_nothing_fits_where_nothing_can() -> None:
    planned = plan_stage(XL, cluster(8, 4))
    assert planned.chosen is None and planned.hours is None
    assert not any(trial.fits for trial in planned.trials)


def test_the_micro_batch_is_the_largest_that_divides_and_fits() -> None:
    chosen = plan_stage(XL, cluster(8, 79.6)).chosen
    assert chosen is not None
    rows, accumulate = chosen.share.rows, chosen.share.accumulate
    assert rows is not None and rows * accumulate * 8 == 512
    larger = batch_shape(Share(2 * rows, None, 1), XL.batch, ROWS, 512)
    from dlm.planning.memory import memory

    assert memory(XL.load, larger, chosen.placement, 8).total > 79.6 * GIB


def test_a_placement_with_crumbs_for_batches_waits_behind_one_without() -> None:
    """68 GiB: without checkpointing one row at a time would fit, too small to keep a GPU busy."""
    planned = plan_stage(XL, cluster(1, 68))
    assert planned.chosen is not None and planned.chosen.placement.checkpointing
    assert planned.trials[0].fits and planned.trials[0].share.rows == 1


def test_a_micro_batch_of_the_recipe_is_kept() -> None:
    planned = plan_stage(replace(XL, micro_rows=2), cluster(8, 79.6))
    assert {trial.share for trial in planned.trials} == {Share(2, None, 32)}


def test_rows_that_do_not_divide_are_refused_with_those_that_would() -> None:
    with pytest.raises(UserError, match="by 24 GPUs: use 504 or 528 rows, or 4, 8, 1"):
        shares(GlobalBatch(512, None), ROWS, 24)
    with pytest.raises(UserError, match=r"micro_batch_size=24 does not divide the 64 rows.*32, 16"):
        shares(GlobalBatch(512, None), ROWS, 8, micro_rows=24)


def test_tokens_too_few_for_the_gpus_are_refused_with_what_would_do() -> None:
    with pytest.raises(UserError, match=r"use at least 65536 tokens, at most 32 GPUs"):
        shares(GlobalBatch(None, 32768), ROWS, 64)
    with pytest.raises(UserError, match=r"8 micro-batches on each of 8 GPUs.*use at least 1024"):
        shares(GlobalBatch(None, 32768), ROWS, 8, micro_tokens=512)


def test_tokens_are_shared_until_micro_batches_lack_rows() -> None:
    found = shares(GlobalBatch(None, 32768), ROWS, 8)
    assert [(share.tokens, share.accumulate) for share in found] == [
        (4096, 1), (2048, 2), (1366, 3), (1024, 4),
    ]  # fmt: skip


def test_packed_rows_hold_real_tokens_and_padded_ones_the_longest() -> None:
    rows = replace(ROWS, mean=64)
    padded = batch_shape(Share(32, None, 1), GlobalBatch(256, None), rows, 512)
    packed = batch_shape(Share(32, None, 1), GlobalBatch(256, None, packed=True), rows, 512)
    assert (padded.rows, padded.width) == (64, 512)  # two noisy copies of each
    assert (packed.rows, packed.width) == (8, 512)
    assert packed.scattered == 64 * 512


def test_more_rows_average_the_noise() -> None:
    few, many = ROWS.masked(1024, 2), ROWS.masked(1024 * 256, 512)
    assert few == 1024  # all that are maskable, of both copies
    assert 0.51 * 1024 * 256 < many < 0.55 * 1024 * 256


def test_useful_work_by_hand() -> None:
    work = training_work(
        body=100, layers=2, hidden=4, vocabulary=50, tokens=1000, length=10, masked=30
    )
    assert work.body == 6 * 100 * 1000 + 12 * 2 * 4 * 10 * 1000
    assert work.logits == 6 * 4 * 50 * 30
    plain = hours(work, 7, gpus=2, peak_tflops=1e-6, mfu=0.5, checkpointing=False)
    again = hours(work, 7, gpus=2, peak_tflops=1e-6, mfu=0.5, checkpointing=True)
    assert plain == pytest.approx(work.total * 7 / 1e6 / 3600)
    assert again - plain == pytest.approx(work.body / 3 * 7 / 1e6 / 3600)


def test_files_by_hand() -> None:
    parameters = Parameters(1000, 400, 500, 700, 1000, 400)
    assert checkpoint_bytes(parameters) == 12 * 1000
    assert export_bytes(parameters) == 4000
    frozen = replace(parameters, total=1100, trainable=100, predictor=100)
    assert checkpoint_bytes(frozen) == 1200


def test_on_one_gpu_zero_is_there_to_offload_alone() -> None:
    names = [placement.name for placement in placements(1)]
    assert names[:2] == ["single", "single + activation checkpointing"]
    assert all("offload" in name for name in names[2:])


def test_a_frozen_network_is_not_checkpointed() -> None:
    assert not any(placement.checkpointing for placement in placements(8, frozen=True))


def test_an_unknown_gpu_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--gpu h10: not known; did you mean.*h100, h200"):
        gpu_named("h10")
