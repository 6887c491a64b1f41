"""The meter of a training run against a run whose clock and tokens are known."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from resume_tools import (
    STEPS,
    RecordBatches,
    Uninterrupted,
    copy_needed,
    run,
    run_interrupted,
    run_process,
    with_callbacks,
)
from transformers import AutoModelForMaskedLM

from dlm.callbacks import stopwatch
from dlm.callbacks.stopwatch import Stopwatch
from dlm.callbacks.throughput import Figures, Throughput, earlier_figures, rate_text
from dlm.config.loading import load_recipe
from dlm.config.schema import StageConfig
from dlm.data.batches.batching import TokenBatch, TokenDataset
from dlm.planning.gpus import gpu_of_driver, gpus
from dlm.training import device, train

Output = pytest.CaptureFixture[str]
BATCH_S, FETCH_S, VALIDATION_S, SAVE_S = 1.0, 0.25, 100.0, 1000.0
# The first step, and those that follow a save or a validation, are not measured.
MEASURED = [step for step in range(1, STEPS + 1) if step % 4 != 1]


class KnownClock(Callback):
    """Time passes where this says, and what the network reads is counted again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.batches: dict[int, list[TokenBatch]] = {}
        make = TokenDataset.__getitems__

        def slowly(data: TokenDataset, request: Any) -> TokenBatch:
            self.now += FETCH_S
            return make(data, request)

        monkeypatch.setattr(TokenDataset, "__getitems__", slowly)
        monkeypatch.setattr(stopwatch, "clock", lambda: self.now)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.setdefault(trainer.global_step + 1, []).append(batch)

    def on_before_backward(self, *args: Any) -> None:
        self.now += BATCH_S

    def on_validation_end(self, *args: Any) -> None:
        self.now += VALIDATION_S

    def on_save_checkpoint(self, *args: Any) -> None:
        self.now += SAVE_S

    def measured(self) -> list[TokenBatch]:
        return [batch for step in MEASURED for batch in self.batches[step]]


def metrics(stage: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stage / "manifest.json").read_text())["metrics"]
    return found["throughput"]


def logged(stage: Path) -> dict[tuple[int, str], float]:
    with (stage / "logs" / "throughput.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found = {(int(step), name): float(value) for step, name, value, _ in rows}
    assert len(found) == len(rows), "no step is there twice"
    return found


def real(batches: list[TokenBatch]) -> int:
    return sum(int(batch.valid_BL.sum()) for batch in batches)


def test_the_figures_of_a_run_that_is_counted_by_hand(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:  # fmt: skip
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    monkeypatch.setattr(train, "peak_tflops", lambda config: 1e-5)
    known = KnownClock(monkeypatch)
    with with_callbacks(known):
        assert run(
            run_dir, "stages.pretrain.train={micro_batch_size: 8, layout: padded}",
            "logging.every_n_steps=4",
            "stages.pretrain.objective={mask_rate: 0.99999999, times: null}", only="pretrain",
        ) == 0  # fmt: skip
    batches = known.measured()
    tokens = real(batches)
    seconds = len(MEASURED) * 2 * (BATCH_S + FETCH_S)
    found = metrics(stage)
    assert (found["tokens"], found["steps"], found["seconds"]) == (tokens, 18, seconds)
    assert found["tokens_per_s"] == pytest.approx(tokens / seconds, abs=0.05)
    assert found["data_wait_share"] == FETCH_S / (BATCH_S + FETCH_S)
    positions = sum(batch.valid_BL.numel() for batch in batches)
    assert found["padding_share"] == pytest.approx(1 - tokens / positions, abs=5e-5)
    assert 0.05 < found["peak_memory_gib"] < 64

    network = AutoModelForMaskedLM.from_pretrained(stage / "export")
    body = sum(p.numel() for name, p in network.model.named_parameters() if "tok_emb" not in name)
    pairs = sum(int((batch.valid_BL.sum(dim=1) ** 2).sum()) for batch in batches)
    masked = sum(int(batch.maskable_BL.sum()) for batch in batches)  # at this rate all of them
    flops = 6 * body * tokens + 12 * 2 * 32 * pairs + 6 * 32 * network.config.vocab_size * masked
    assert found["mfu"] == pytest.approx(flops / seconds / 1e7, abs=5e-5)
    assert found["peak_tflops"] == 1e-5

    rows = logged(stage)
    assert sorted({step for step, _ in rows}) == [4, 8, 12, 16, 20, 24]
    last = real([batch for step in (22, 23, 24) for batch in known.batches[step]])
    assert rows[24, "tokens_per_s"] == pytest.approx(last / 7.5, abs=0.05)
    printed = capsys.readouterr()
    assert f" steps/s · {rate_text(last / 7.5)} · " in printed.err
    assert f"pretrain: throughput: {tokens / seconds:,.0f} tokens/s, MFU {found['mfu']:.1%} of" in (
        printed.out
    )
    assert "waiting for data 20.0%" in printed.out and "(of 18 of 24 steps)" in printed.out


def test_noisy_copies_are_work_but_no_further_tokens(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "adapt")
    monkeypatch.setattr(train, "peak_tflops", lambda config: 1e-5)
    built: list[Throughput] = []
    build = train.build_meter

    def build_and_keep(*arguments: Any) -> Throughput:
        built.append(build(*arguments))
        return built[0]

    monkeypatch.setattr(train, "build_meter", build_and_keep)
    known = KnownClock(monkeypatch)
    with with_callbacks(known):
        assert run(run_dir, only="adapt") == 0
    assert metrics(stage)["tokens"] == real(known.measured())
    (meter,) = built
    assert meter.work.copies == 2
    counts = known.batches[2][0].counts
    alone = meter.work.flops(counts, 0)
    body, layers = meter.work.parameters.body, meter.work.network.layers
    assert alone == 2 * (6 * body * counts.tokens + 12 * layers * 32 * counts.pairs)
    assert meter.work.flops(counts, 10) - alone == 6 * 32 * meter.work.network.vocabulary * 10


def test_a_length_stage_reads_prompts(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted("adapt")
    stage = copy_needed(chain, run_dir, "length")
    known = KnownClock(monkeypatch)
    with with_callbacks(known):
        assert run(run_dir, only="length") == 0
    prompts = [int((b.valid_BL & ~b.response_BL).sum()) for b in known.measured()]
    found = metrics(stage)
    assert found["tokens"] == sum(prompts)
    assert "mfu" not in found and "peak_tflops" not in found  # on a CPU


def test_after_a_resume_the_figures_are_of_all_attempts(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:  # fmt: skip
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    monkeypatch.setattr(train, "peak_tflops", lambda config: 1e-5)
    first, second = KnownClock(monkeypatch), RecordBatches()
    run_interrupted(run_dir, "pretrain", 11, "logging.every_n_steps=2", callbacks=(first,))
    before = logged(stage)
    assert max(step for step, _ in before) == 10
    # Saved at 8: steps 9 to 11 are done again, on the same rows.
    with with_callbacks(first, second):
        assert run(run_dir, "logging.every_n_steps=2", only="pretrain") == 0
    assert min(second.seen) == 8
    # Of the first attempt up to its last interval; 9 follows a save, and is the second's first.
    counted = [2, 3, 4, 6, 7, 8, 10, *(step for step in MEASURED if step > 9)]
    found = metrics(stage)
    assert found["steps"] == len(counted) == 19
    assert found["tokens"] == real([first.batches[step][0] for step in counted])
    assert found["seconds"] == pytest.approx(19 * (BATCH_S + FETCH_S))
    assert found["steps_per_s"] == 0.8
    assert found["tokens_per_s"] == pytest.approx(found["tokens"] / found["seconds"], abs=0.05)
    assert f"MFU {found['mfu']:.1%} of" in (out := capsys.readouterr().out)
    assert "(of 19 of 26 steps of all attempts)" in out
    after = logged(stage)
    assert {row: after[row] for row in before if row[0] <= 8} == {
        row: value for row, value in before.items() if row[0] <= 8
    }


def test_the_peak_of_attempts_on_different_devices_is_what_each_could_have_done() -> None:
    slow = Figures(steps=1, seconds=2.0, flops=10.0, possible_flops=2.0 * 10)
    slow.add(Figures(steps=1, seconds=1.0, flops=40.0, possible_flops=1.0 * 80))
    assert slow.mfu == 0.5
    slow.add(Figures(steps=1, seconds=1.0, flops=40.0, possible_flops=None))
    assert slow.mfu is None, "nothing is known of one of them"


@pytest.mark.parametrize("damaged", ["", "{}", '{"figures": {"strange": 1}, "steps": 3}'])
def test_a_damaged_record_of_earlier_attempts_costs_only_itself(
    tmp_path: Path, damaged: str
) -> None:
    (tmp_path / "throughput.json").write_text(damaged)
    assert earlier_figures(tmp_path / "throughput.json") == (Figures(), 0)


def test_a_stage_of_disturbed_steps_says_that_nothing_was_measured(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, capsys: Output
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    assert run(run_dir, "checkpoint.every_n_steps=1", "train.steps=4", only="pretrain") == 0
    assert "throughput" not in json.loads((stage / "manifest.json").read_text())["metrics"]
    assert "throughput: not measured: each of the 4 steps was" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_add_up_their_tokens(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "pretrain")
    changes = ("hardware.devices=2", "hardware.strategy=ddp", "train.micro_batch_size=4",
               "train.layout=padded")  # fmt: skip
    ended = run_process(run_dir, *changes, "--only", "pretrain")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("throughput: ") == 1 and "Warning" not in ended.stderr
    found = metrics(stage)
    alone = copy_needed(chain, run_dir / "alone", "pretrain")
    counted: dict[int, int] = {}

    class Count(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: Any, batch: TokenBatch, batch_idx: int
        ) -> None:
            counted[trainer.global_step + 1] = int(batch.valid_BL.sum())

    with with_callbacks(Count()):
        assert run(run_dir / "alone", "train.layout=padded", only="pretrain") == 0
    assert found["tokens"] == metrics(alone)["tokens"] == sum(counted[step] for step in MEASURED)
    assert found["steps"] == 18 and 0 < found["padding_share"] < 0.5
    assert 0 <= found["data_wait_share"] < 1


def test_a_part_within_another_counts_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr(stopwatch, "clock", lambda: next(times))
    watch = Stopwatch({"training_step": "loss", "network": "forward", "backward": "backward"})
    names = ("[Strategy]DDP.training_step", "network", "[Callback]Other.on_train_start")
    with watch.profile(names[0]), watch.profile(names[1]), watch.profile(names[2]):
        pass
    assert watch.take() == {"loss": 5.0, "forward": 2.0, "backward": 0.0}
    assert watch.take() == {"loss": 0.0, "forward": 0.0, "backward": 0.0}


@pytest.mark.parametrize(
    ("rate", "text"), [(812.4, "812 tok/s"), (12_345, "12.3k tok/s"), (2.53e6, "2.5M tok/s")]
)
def test_a_rate_is_short(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_figures_of_nothing_divide_by_nothing() -> None:
    assert Figures().as_metrics()["tokens_per_s"] == 0


def on_gpu(monkeypatch: pytest.MonkeyPatch, name: str, precision: str = "32-true") -> StageConfig:
    """A stage that is to run on this GPU, which torch seems to have."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    overrides = ["hardware.accelerator=gpu", f"train.precision={precision}"]
    return load_recipe("quickstart", overrides).stages["adapt"]


def test_the_peak_of_a_known_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = on_gpu(monkeypatch, "NVIDIA H100 80GB HBM3", "bf16-mixed")
    assert device.peak_tflops(stage) == 989 and device.peak_notes(stage) == []
    stage = on_gpu(monkeypatch, "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert device.peak_tflops(stage) == 494.5
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    assert device.peak_tflops(stage) == 67


def test_the_peak_of_an_unknown_gpu_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = on_gpu(monkeypatch, "NVIDIA H100 PCIe")
    assert device.peak_tflops(stage) is None
    assert device.peak_notes(stage) == [
        "no MFU is given: the peak of NVIDIA H100 PCIe is not among those of dlm/planning/gpus.yaml"
    ]


def test_no_two_gpus_have_one_name_by_the_driver() -> None:
    names = [name for gpu in gpus().values() for name in gpu.drivers]
    assert len(set(names)) == len(names)
    assert all(gpu_of_driver(name) is not None for name in names)


def test_a_cpu_has_no_peak() -> None:
    stage = load_recipe("quickstart").stages["adapt"]
    assert device.peak_tflops(stage) is None and device.peak_notes(stage) == []
