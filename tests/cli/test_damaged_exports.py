"""A bit of an export has flipped: nothing that reads it goes on; what was written is believed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Caller, TrainedRun, dlm, environment

PROMPT = ("--prompt", "seven")
FILES = ["model.safetensors", "config.json", "dlm.json", "tokenizer.json", "tokenizer_config.json",
         "length_predictor.json", "length_predictor.safetensors", "SHA256SUMS"]  # fmt: skip


@pytest.fixture(scope="module")
def exported(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dlm.cli import main

    target = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(trained.directory), "--to", str(target)]) == 0
    return target


def flipped(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(
    name: str, trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = shutil.copytree(trained.directory, tmp_path / "run")
    damaged = flipped(next(run.glob("*_length")) / "export" / name)
    outcome = call("generate", run, *PROMPT)
    assert outcome.code == 2 and not outcome.out
    assert outcome.err.count("error:") == 1 and str(damaged) in outcome.err
    assert "Put it back" in outcome.err and "--force length" in outcome.err


def test_every_reader_refuses_damaged_weights(
    exported: Path, tmp_path: Path, call: Caller, trained: TrainedRun
) -> None:
    model = shutil.copytree(exported, tmp_path / "model")
    damaged = flipped(model / "model.safetensors")
    tasks = ("--tasks", "numbers_en_de", "--limit", "2", "--output", tmp_path / "scores")
    evaluated = call("evaluate", model, *tasks)
    copied = call("export", model, "--to", tmp_path / "copy")
    started = call(
        "run", trained.recipe, f"stages.adapt.init_from={model}", "--run-dir", tmp_path / "run",
        "--only", "adapt",
    )  # fmt: skip
    said = f"{damaged} has other contents than when it was written. Put it back"
    for outcome in (evaluated, copied, started):
        assert outcome.code == 2 and said in outcome.err, outcome.err
    assert not (tmp_path / "copy").exists()
    harness = pytest.importorskip("dlm.harness.model")
    with pytest.raises(Exception, match="has other contents than when it was written"):
        harness.HarnessModel(str(model))


@pytest.mark.parametrize("name", ["model.safetensors", "length_predictor.safetensors", "README.md"])
def test_the_script_refuses_a_damaged_file(name: str, exported: Path, tmp_path: Path) -> None:
    model = shutil.copytree(exported, tmp_path / "model")
    damaged = flipped(model / name)
    command = [sys.executable, str(model / "diffusion_generate.py"), "seven"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {damaged} has other contents than when it was written" in done.stderr


def test_an_older_export_opens_and_says_once_that_nothing_was_checked(
    exported: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(exported, tmp_path / "model")
    (model / "SHA256SUMS").unlink()
    outcome = dlm("generate", model, *PROMPT)
    assert outcome.code == 0 and outcome.out
    assert outcome.err.count("written without hashes of its files: it is opened unchecked") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "diffusions"}, "says kind=diffusions"),
        ({"text": {"between": "glued"}}, "says text={'between': 'glued'}"),
        ({"text": {"ends": 3}}, "says text={'ends': 3}"),
        ({"generation": {"num_iterations": "many"}}, "num_iterations = 'many'"),
        ({"generation": {"length_beam": 0}}, "length_beam must be at least 1"),
        ([], "it is no JSON object"),
    ],
)
def test_what_a_description_without_hashes_says_is_checked(
    changes: Any, said: str, exported: Path, tmp_path: Path, call: Caller
) -> None:
    model = shutil.copytree(exported, tmp_path / "model")
    (model / "SHA256SUMS").unlink()
    place = model / "dlm.json"
    told = json.loads(place.read_text()) | changes if isinstance(changes, dict) else changes
    place.write_text(json.dumps(told))
    outcome = call("generate", model, *PROMPT)
    assert outcome.code == 2 and "dlm.json" in outcome.err and said in outcome.err


def test_status_says_when_a_file_has_another_size(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = shutil.copytree(trained.directory, tmp_path / "run")
    weights = next(run.glob("*_adapt")) / "export" / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-1])
    told = " ".join(call("status", run).out.split())
    assert f"export/model.safetensors has {size - 1} bytes in place of {size}" in told


def test_exports_of_two_stages_share_no_file(trained: TrainedRun) -> None:
    adapt, length = (trained.stage(name) / "export" for name in ("adapt", "length"))
    name = "model.safetensors"
    assert (adapt / name).read_bytes() == (length / name).read_bytes()
    files = [path for place in (adapt, length) for path in place.rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in files} == {1}
