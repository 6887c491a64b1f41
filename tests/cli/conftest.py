import shutil
import sys
from pathlib import Path

import pytest
from cli_tools import RECIPE, Caller, TrainedRun, dlm


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process outside of any job, and no network."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "DLM_LEADER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The libraries read the variable once, when they are imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if "datasets" in sys.modules:
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(capsys, monkeypatch)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A finished run of the whole chain. Read it, or copy what is to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    outcome = dlm("run", recipe, "--run-dir", folder / "run")
    assert outcome.code == 0, outcome.err
    return TrainedRun(folder / "run", recipe)


@pytest.fixture
def begun(trained: TrainedRun, tmp_path: Path) -> TrainedRun:
    """A run of the same recipe with tokenizer and pretrain done; what comes next is to be tried."""
    directory = tmp_path / "run"
    for name in ("tokenizer", "pretrain"):
        stage = trained.stage(name)
        shutil.copytree(stage, directory / stage.name)
    return TrainedRun(directory, trained.recipe)
