"""What comes from outside is read as tensors alone: code in a pickle is refused, and not run."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from family_tools import write_family
from resume_tools import Uninterrupted, assert_same_result, run

from dlm.cli import main
from dlm.models.build import load_backbone

Output = pytest.CaptureFixture[str]


class Malicious:
    """Unpickled, it creates a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.place,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What the malicious code leaves, where it runs."""
    place = tmp_path / "the-code-ran"
    pickle.loads(pickle.dumps(Malicious(place)))
    assert place.exists()
    place.unlink()
    return place


@pytest.fixture
def pickled_model(tmp_path: Path, trace: Path) -> Path:
    """A Hugging Face directory whose weights are a pickle that carries code."""
    directory = write_family(tmp_path / "model", "xlm-roberta")
    weights = directory / "model.safetensors"
    torch.save({"weights": Malicious(trace)}, directory / "pytorch_model.bin")
    weights.unlink()
    return directory


def test_a_model_of_pickles_is_refused_with_the_remedy(
    pickled_model: Path, trace: Path, capsys: Output, run_dir: Path
) -> None:
    assert main(["generate", str(pickled_model), "--prompt", "one"]) == 2
    told = capsys.readouterr().err
    assert "its weights are pickles (pytorch_model.bin), which can carry code" in told
    assert "write it with save_pretrained" in told and not trace.exists()


@pytest.mark.parametrize("setting", ["model.pretrained", "init_from"])
def test_a_stage_does_not_start_from_pickles(
    setting: str, pickled_model: Path, trace: Path, run_dir: Path, capsys: Output
) -> None:
    given = f"stages.adapt.{setting}={pickled_model}"
    rest = "stages.adapt.init_from=null" if setting == "model.pretrained" else "seed=0"
    assert run(run_dir, rest, given, only="adapt") == 2
    assert "its weights are pickles" in capsys.readouterr().err and not trace.exists()


def test_safetensors_are_read_where_a_pickle_lies_beside_them(
    pickled_model: Path, trace: Path, tmp_path: Path
) -> None:
    safe = write_family(tmp_path / "safe", "xlm-roberta") / "model.safetensors"
    shutil.copy(safe, pickled_model)
    load_backbone(pickled_model)
    assert not trace.exists()


def test_code_in_a_checkpoint_does_not_run(
    stopped_at_18: Path, uninterrupted: Uninterrupted, run_dir: Path, trace: Path, capsys: Output
) -> None:
    shutil.copytree(stopped_at_18, run_dir)
    stage = run_dir / "02_pretrain"
    newest = stage / "checkpoints" / "step=00000016"
    state = torch.load(newest / "state.ckpt", weights_only=True)
    torch.save({**state, "extra": Malicious(trace)}, newest / "state.ckpt")
    content = (newest / "state.ckpt").read_bytes()
    mark = json.loads((newest / "complete.json").read_text())
    mark["files"]["state.ckpt"] = {
        "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    (newest / "complete.json").write_text(json.dumps(mark))
    assert run(run_dir, only="pretrain") == 3
    told = capsys.readouterr().err
    assert "holds more than tensors and plain values" in told and "Traceback" not in told
    assert f"move {stage / 'checkpoints'} away" in told and not trace.exists()

    shutil.move(newest, run_dir / "tampered")
    assert run(run_dir, only="pretrain") == 0
    assert_same_result(stage, uninterrupted("pretrain"))
