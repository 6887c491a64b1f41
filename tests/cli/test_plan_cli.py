"""dlm plan: what it prints, and what it refuses."""

import json
import os
from pathlib import Path

import pytest
from cli_tools import RECIPE, Caller

from dlm.config.loading import load_recipe
from dlm.verbs.plan_inputs import KnownRows, stage_inputs


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def test_every_training_stage_is_planned_and_the_order_explained(
    call: Caller, recipe: Path
) -> None:
    done = call("plan", recipe, "--gpus-per-node", "2", "--gpu-memory", "24")
    assert done.code == 0, done.err
    for stage in ("pretrain", "adapt", "length"):
        assert f"small, stage {stage} ({stage})" in done.out
    assert "stage tokenizer" not in done.out.replace("as stage tokenizer is", "")
    assert (
        "use ddp: stages.adapt.hardware.strategy=ddp stages.adapt.train.micro_batch_size=8 "
        "(accumulates 1)"
    ) in done.out
    assert "Order: single/ddp, zero1, zero2, zero3; then" in done.out
    assert "of the backbone frozen" in done.out


@pytest.mark.parametrize(("architecture", "packed"), [("esm", True), ("deberta-v2", False)])
def test_rows_of_attention_code_of_its_own_are_planned_padded(
    architecture: str, packed: bool, recipe: Path
) -> None:
    options = [f"model.architecture={architecture}", "model.dropout=0.0",
               "train.precision=bf16-mixed", "hardware.accelerator=gpu"]  # fmt: skip
    loaded = load_recipe(str(recipe), options)
    assert stage_inputs(loaded, "adapt", KnownRows()).batch.packed == packed


def test_json_has_the_exact_sizes(call: Caller, recipe: Path) -> None:
    done = call("plan", recipe, "--json", "--stage", "pretrain", "--tflops", "10", "--mfu", "0.5")
    (stage,) = json.loads(done.out)["stages"]
    hidden, vocabulary, inner = 32, 200, 128
    tables = (vocabulary + 64 + 2 + 1) * hidden
    layer = 4 * (hidden**2 + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    head = hidden**2 + hidden + 2 * hidden + vocabulary
    total = tables + 2 * hidden + 2 * layer + head
    assert stage["parameters"]["total"] == total
    assert stage["checkpoint_bytes"] == 12 * total and stage["export_bytes"] == 4 * total
    assert stage["host_bytes_at_start"] == 4 * total
    assert stage["chosen"]["name"] == "single"
    assert stage["hours"] == pytest.approx(stage["flops"] / (10e12 * 0.5) / 3600)
    assert stage["notes"] == [
        "a vocabulary of 200, as stage tokenizer is to train (it may come out smaller)"
    ]


def test_a_recipe_for_a_cpu_is_planned_on_one(call: Caller, recipe: Path) -> None:
    done = call("plan", recipe, "--host-memory", "3", "hardware.devices=2")
    assert done.code == 0, done.err
    assert "on a CPU: 1 x 2 processes (1.5 GiB each of the host's memory)" in done.out
    assert "GiB of each process" in done.out and "hours are not known (`dlm bench`" in done.out
    for word in ("GPU", "h100", "CUDA", "offload of", "expected"):
        assert word not in done.out.partition("Order: ")[0], word
    assert "overhead: 1 GiB of a process on a CPU for Python" in done.out
    small = call("plan", recipe, "--host-memory", "0.5")
    assert small.code == 0 and "nothing fits in 0.5 GiB: the least is 1." in small.out
    assert "Take more memory, or shorter rows" in small.out


def test_a_cpu_has_this_machines_memory_and_hours_where_its_speed_is_given(
    call: Caller, recipe: Path
) -> None:
    words = ("plan", recipe, "--json", "--stage", "pretrain")
    (stage,) = json.loads(call(*words).out)["stages"]
    assert (stage["device"], stage["hours"]) == ("cpu", None)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < stage["device_memory_bytes"] <= pages
    assert {trial["offload"] for trial in stage["trials"]} == {"none"}
    (known,) = json.loads(call(*words, "--tflops", "0.1").out)["stages"]
    assert known["device"] == "cpu" and known["hours"] > 0
    (asked,) = json.loads(call(*words, "--gpu", "h100").out)["stages"]
    assert asked["device"] == "gpu" and asked["hours"] > 0


@pytest.mark.parametrize(
    "shipped, stage",
    [("quickstart", "adapt"), ("multi30k/de-en-cpu", "adapt"), ("fields/protein", "adapt"),
     ("fields/code", "instruct")],
)  # fmt: skip
def test_shipped_recipes_for_cpus_are_planned_on_one(
    call: Caller, shipped: str, stage: str
) -> None:
    done = call("plan", shipped, "--json", "--stage", stage)
    assert done.code == 0, done.err
    assert [planned["device"] for planned in json.loads(done.out)["stages"]] == ["cpu"]


def test_known_rows_change_the_work(call: Caller, recipe: Path) -> None:
    words = ("plan", recipe, "--json", "--stage", "adapt")
    longest = json.loads(call(*words).out)["stages"][0]
    known = json.loads(
        call(*words, "--row-tokens", "16", "--response-share", "0.25").out
    )["stages"][0]  # fmt: skip
    assert longest["tokens_per_step"] == 16 * 64 and known["tokens_per_step"] == 16 * 16
    assert known["masked_per_step"] == pytest.approx(16 * 16 * 0.25 * 0.51 * 2)


@pytest.mark.parametrize(
    "words, message",
    [
        (("--gpus-per-node", "3"), "train.global_batch_size=16 is not divisible by 3 GPUs"),
        (("--nodes", "0"), "--nodes must be at least 1 and at most 65,536, not 0"),
        (("--host-memory", "0"), "--host-memory must be above 0 and at most"),
        (("--host-memory", "8", "--gpu", "h100"), "--host-memory would be ignored: no stage is"),
        (("--mfu", "35"), "--mfu must be above 0 and at most 1, not 35"),
        (("--response-share", "1.5"), "--response-share must be above 0 and at most 1, not 1.5"),
        (("--row-tokens", "65"), "--row-tokens 65: rows have from 1 to 64 tokens"),
        (("--gpu", "h100", "--tflops", "3"), "--gpu and --tflops exclude each other"),
        (("--gpu", "h10"), "--gpu h10: not known"),
        (("--stage", "tokenizer"), "there is no training stage to plan"),
        (("stages.pretrain.tokenizer=a/b",), "the tokenizer 'a/b' is not a directory"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    call: Caller, recipe: Path, words: tuple[str, ...], message: str
) -> None:
    done = call("plan", recipe, *words)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_too_little_memory_is_said(call: Caller, recipe: Path) -> None:
    done = call("plan", recipe, "--gpu-memory", "1")
    assert done.code == 0
    assert "nothing fits in 1 GiB: the least is 2." in done.out


def test_a_vocabulary_that_is_to_be_cut_is_counted_whole_and_it_is_said(
    call: Caller, recipe: Path
) -> None:
    cut = "stages.adapt.model={vocabulary: {keep: used}}"
    stages = json.loads(call("plan", recipe, cut, "--json").out)["stages"]
    said = {stage["stage"]: "the vocabulary is counted whole" in str(stage["notes"])
            for stage in stages}  # fmt: skip
    assert said["adapt"] and said["length"] and not said["pretrain"]
