"""Stages that train low-rank adapters: what they save, resume, export and refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_tools import export_of, run_family, write_family
from resume_tools import StopAt, environment, with_callbacks
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

LORA = ("lora.rank=2", "lora.dropout=0.1", "optim.lr=0.01")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("lora") / "model", "xlm-roberta")


@pytest.fixture(scope="module")
def whole(model: Path) -> Path:
    """A run of adapt that nobody disturbed, with the adapter beside the export."""
    run_dir = model.parent / "whole"
    assert run_family(model, run_dir, *LORA, "lora.keep_adapter=true", stop="adapt") == 0
    return run_dir


def run_two(recipe: Path, run_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """``dlm run`` as a process of its own, which starts a second one."""
    command = [sys.executable, "-m", "dlm.cli", "run", str(recipe), "--run-dir", str(run_dir),
               *overrides]  # fmt: skip
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def checkpoint(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    place = run_dir / "01_adapt" / "checkpoints" / f"step={step:08d}" / "state.ckpt"
    state: dict[str, torch.Tensor] = torch.load(place, weights_only=True)["state_dict"]
    return state


def test_checkpoints_hold_only_what_is_trained(whole: Path) -> None:
    names = checkpoint(whole, 6)
    assert names and all(".lora_" in name for name in names)


def test_the_export_is_an_ordinary_model_whose_other_weights_are_the_base_models(
    whole: Path, model: Path
) -> None:
    export = export_of(whole, "adapt")
    _, loading = AutoModelForMaskedLM.from_pretrained(export, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    before = load_file(model / "model.safetensors")
    after = load_file(export / "model.safetensors")
    assert before.keys() == after.keys()
    for name in before:
        adapted = ".encoder." in name and "LayerNorm" not in name and name.endswith("weight")
        assert torch.equal(before[name], after[name]) != adapted, name
    config = json.loads((export / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 2 and config["base_model_name_or_path"] == str(model)


def test_a_resumed_stage_ends_with_the_same_weights(
    whole: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with with_callbacks(StopAt(3)):
        assert run_family(model, tmp_path / "cut", *LORA, stop="adapt") == 3
    assert run_family(model, tmp_path / "cut", *LORA, stop="adapt") == 0
    out = capsys.readouterr().out
    assert "adapt: LoRA of rank 2, alpha 4 on 12 layers (query, key, value, dense): " in out
    assert "resuming from step 2" in out
    cut, uncut = (
        export_of(run, "adapt") / "model.safetensors" for run in (tmp_path / "cut", whole)
    )
    assert cut.read_bytes() == uncut.read_bytes()


def test_a_name_that_fits_nothing_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "lora.targets=[q_proj]"
    assert run_family(model, tmp_path / "run", *LORA, wrong, stop="adapt") == 2
    assert "lora.targets=q_proj: the network has no such linear layers" in capsys.readouterr().err


@pytest.mark.slow
def test_a_causal_models_new_mask_token_is_trained_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "llama")
    only = ("stages.length=null", "stages.scores=null", "train.layout=packed")
    assert run_family(model, tmp_path / "frozen", *LORA, *only) == 0
    assert "the added tokens keep their random embeddings" in capsys.readouterr().out
    also = "lora.train_also=[embed_tokens]"
    assert run_family(model, tmp_path / "trained", *LORA, *only, also) == 0
    out = capsys.readouterr().out
    assert ", and all of model.embed_tokens: " in out and "keep their random" not in out
    frozen, trained = (
        load_file(export_of(tmp_path / run, "adapt") / "model.safetensors")
        for run in ("frozen", "trained")
    )
    name = "model.embed_tokens.weight"
    assert (frozen[name][-2:] != trained[name][-2:]).any()


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_the_chain_goes_on(
    model: Path, tmp_path: Path
) -> None:
    same = (*LORA, "lora.dropout=0", "model.dropout=0", "train.ema_decay=0.5", "stages.scores=null")
    assert run_family(model, tmp_path / "one", *same) == 0
    two = ("hardware.devices=2", "hardware.strategy=ddp")
    recipe = tmp_path / "one.yaml"
    ended = run_two(recipe, tmp_path / "two", *same, *two, "--to", "adapt")
    assert ended.returncode == 0, ended.stderr
    one, both = (
        load_file(export_of(tmp_path / run, "adapt") / "model.safetensors")
        for run in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(both[name], tensor, atol=1e-4, rtol=1e-4)
    assert ended.stdout.count("LoRA of rank 2") == 1
    assert (tmp_path / "one" / "02_length" / "manifest.json").exists()
