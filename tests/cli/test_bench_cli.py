"""dlm bench: what it measures, what it leaves alone, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from cli_tools import Caller, TrainedRun, dlm, files_of

from dlm.callbacks.throughput import compiled_graphs

PARTS = ["data", "forward", "loss", "backward", "optimizer", "other"]
FEW = ("--steps", "4", "--warmup", "1")


@pytest.mark.parametrize("stage", ["pretrain", "adapt", "length"])
def test_the_shares_of_a_step_add_up_and_the_run_stays_as_it_was(
    stage: str, call: Caller, trained: TrainedRun
) -> None:
    before = files_of(trained.directory)
    done = call("bench", trained.recipe, "--run-dir", trained.directory, "--stage", stage, *FEW,
                "--json", "train.micro_batch_size=8")  # fmt: skip
    assert done.code == 0, done.err
    assert files_of(trained.directory) == before
    found = json.loads(done.out)
    assert (found["stage"], found["steps"], found["device"]) == (stage, 4, "CPU")
    assert list(found["parts"]) == PARTS
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1, abs=4e-4)
    seconds = {name: part["seconds"] for name, part in found["parts"].items()}
    assert sum(seconds.values()) == pytest.approx(found["seconds_per_step"], abs=4e-6)
    assert all(value > 0 for value in seconds.values())
    assert found["tokens_per_s"] > 0 and 0 <= found["padding_share"] < 1
    assert found["peak_tflops"] is None and found["recompilations"] is None


def test_the_first_stage_that_trains_as_a_table(call: Caller, trained: TrainedRun) -> None:
    done = call("bench", trained.recipe, "--run-dir", trained.directory, *FEW)
    assert done.code == 0, done.err
    assert "stage pretrain (pretrain): mean of 4 steps after 1, one process, CPU" in done.out
    shown = [line.split()[1] for line in done.out.splitlines() if line.startswith("│")]
    assert shown == [*PARTS, "whole"]
    assert " tokens/s, padding " in done.out and "GiB" in done.out and "MFU" not in done.out


def test_an_earlier_stage_that_is_missing_is_named_with_its_command(
    call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    done = call("bench", recipe_file, "--run-dir", run_dir, "--stage", "adapt", "seed=3")
    assert done.code == 2
    assert "stage adapt: its model or tokenizer comes from stage pretrain, which is missing in" in (
        done.err
    )
    assert f"dlm run {recipe_file} seed=3 --run-dir {run_dir} --to pretrain\n" in done.err
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "0"), "--steps must be at least 1 and"),
        (("--warmup", "0"), "--warmup must be at least 1 and"),
        (("--stage", "evaluate"), "stage evaluate trains no model, so there is no step to measure"),
        (("--stage", "adaptt"), "did you mean 'adapt'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: tuple[str, ...], message: str, call: Caller, trained: TrainedRun
) -> None:
    done = call("bench", trained.recipe, "--run-dir", trained.directory, *words)
    assert done.code == 2
    assert message in done.err and done.out == ""


def test_graphs_that_are_compiled_again_are_counted() -> None:
    double = torch.compile(lambda values: values * 2, backend="eager", dynamic=False)
    double(torch.ones(2))
    before = compiled_graphs()
    double(torch.ones(2))
    assert compiled_graphs() == before
    double(torch.ones(3))
    assert compiled_graphs() == before + 1


@pytest.mark.slow
def test_two_processes_print_one_table(trained: TrainedRun) -> None:
    before = files_of(trained.directory)
    done = dlm("bench", trained.recipe, "--run-dir", trained.directory, *FEW, "--json",
               "hardware.devices=2", "hardware.strategy=ddp")  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["shape"] == "DDP on 2 processes"
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1, abs=4e-4)
    assert files_of(trained.directory) == before
