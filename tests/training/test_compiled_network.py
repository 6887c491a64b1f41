"""`hardware.compile` changes the speed and nothing else."""

import json
from pathlib import Path

import pytest
from resume_tools import directory, run, values
from safetensors.torch import load_file

CHANGES = ("model.dropout=0", "train.steps=30", "stages.pretrain.validation.every_n_steps=30")


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights_under_the_same_names(tmp_path: Path) -> None:
    exports, losses, measured = {}, {}, {}
    for compiled in ("false", "true"):
        run_dir = tmp_path / compiled
        assert run(run_dir, *CHANGES, f"hardware.compile={compiled}", stop="pretrain") == 0
        stage = directory(run_dir, "pretrain")
        exports[compiled] = load_file(stage / "export" / "model.safetensors")
        losses[compiled] = values(stage, "train/loss")
        manifest = json.loads((stage / "manifest.json").read_text())
        measured[compiled] = manifest["metrics"]["throughput"]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)
    assert exports["true"].keys() == exports["false"].keys()
    # Batches of many shapes; attention by documents, without a mask, is not compiled.
    assert measured["true"]["recompilations"] == 0 and "recompilations" not in measured["false"]
    for name, tensor in exports["false"].items():
        assert (exports["true"][name] - tensor).abs().max() < 2e-3, name
