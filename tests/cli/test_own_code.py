"""A model that brings Python code: it runs where that is asked for, and nowhere else."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Caller, Outcome, TrainedRun

from dlm import saying

CODE = """
import os
from pathlib import Path
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

Path(os.environ["MARKER"]).touch()


class OwnConfig(BertConfig):
    pass


class OwnNetwork(BertForMaskedLM):
    config_class = OwnConfig


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
RECIPE = """
data: {{max_length: 40, train: [{{generator: number_pairs, count: 20}}]}}
optim: {{lr: 1.0e-3}}
train: {{steps: 1, global_batch_size: 4}}
hardware: {{accelerator: cpu, num_threads: 1}}
generation: {{num_iterations: 1, length: oracle}}
model: {{trust_remote_code: {trusted}}}
stages:
  adapt: {{kind: adapt, model: {{pretrained: {model}}}}}
  scratch:
    kind: pretrain
    tokenizer: {model}
    data: {{train: [{{generator: number_text, count: 20}}]}}
    model: {{hidden_size: 16, num_layers: 1, num_heads: 2, max_positions: 64}}
  evaluate:
    kind: evaluate
    evaluation:
      limit: 2
      bootstrap_samples: 20
      tasks: [numbers_en_de]
      systems: {{theirs: {{model: {model}}}}}
"""
REMEDY = "set model.trust_remote_code: true in the recipe"


@pytest.fixture(autouse=True)
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Appears when the code runs; transformers copies the code to a folder of the test."""
    monkeypatch.setenv("MARKER", str(tmp_path / "ran"))
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(saying, "_SAID", set())
    before = set(sys.modules)
    yield tmp_path / "ran"
    for name in set(sys.modules) - before:
        if name.startswith("transformers_modules"):
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(modules)]


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(params=["a known type", "a type of its own"])
def model(request: pytest.FixtureRequest, trained: TrainedRun, tmp_path: Path) -> Path:
    """BERT's network and our tokenizer, both with classes of their own."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    directory = tmp_path / "model"
    tokenizer = AutoTokenizer.from_pretrained(trained.stage("tokenizer") / "export")
    tokenizer.save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(directory)
    (directory / "own.py").write_text(CODE)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForMaskedLM": "own.OwnNetwork"}
    own = request.param == "a type of its own"
    changed(directory / "config.json", auto_map=auto_map, **{"model_type": "own"} if own else {})
    tokenizer_class = {"tokenizer_class": "OwnTokenizer"} if own else {}
    changed(
        directory / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
        **tokenizer_class,
    )  # fmt: skip
    return directory


def recipe_of(model: Path, *, trusted: bool) -> Path:
    path = model.parent / f"{'trusted' if trusted else 'wary'}.yaml"
    path.write_text(RECIPE.format(model=model, trusted=str(trusted).lower()))
    return path


VERBS: dict[str, tuple[str, ...]] = {
    "validate": ("validate", "RECIPE"),
    "plan": ("plan", "RECIPE", "--gpu", "h100"),
    "plan of a tokenizer": ("plan", "RECIPE", "--stage", "scratch"),
    "data stats": ("data", "stats", "RECIPE", "--stage", "adapt", "--run-dir", "RUN"),
    "data inspect": ("data", "inspect", "RECIPE", "--stage", "adapt", "--run-dir", "RUN"),
    "data stats of a tokenizer": ("data", "stats", "RECIPE", "--stage", "scratch",
                                  "--run-dir", "RUN"),
    "run": ("run", "RECIPE", "--only", "adapt", "--run-dir", "RUN"),
    "run from a tokenizer": ("run", "RECIPE", "--only", "scratch", "--run-dir", "RUN"),
    "run an evaluation": ("run", "RECIPE", "--only", "evaluate", "--run-dir", "RUN"),
    "bench": ("bench", "RECIPE", "--stage", "adapt", "--steps", "1", "--warmup", "1",
              "--run-dir", "RUN"),
    "generate": ("generate", "MODEL", "--infill", "one [MASK]", "--steps", "1"),
    "evaluate": ("evaluate", "MODEL", "--tasks", "numbers_en_de", "--limit", "1", "--length",
                 "oracle", "--steps", "1", "--output", "SCORES"),
    "export": ("export", "MODEL", "--to", "COPY"),
}  # fmt: skip


def called(call: Caller, verb: str, model: Path, *more: str, trusted: bool = False) -> Outcome:
    place = model.parent
    names = {"RECIPE": recipe_of(model, trusted=trusted), "MODEL": model, "RUN": place / "run",
             "SCORES": place / "scores", "COPY": place / "copy"}  # fmt: skip
    return call(*(names.get(word, word) for word in VERBS[verb]), *more)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("answers", ["y\n" * 20, ""], ids=["y", "nothing"])
def test_code_does_not_run_unasked_and_the_setting_is_named(
    verb: str, answers: str, model: Path, call: Caller, marker: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    typed = io.StringIO(answers)
    monkeypatch.setattr(sys, "stdin", typed)
    outcome = called(call, verb, model)
    assert not marker.exists() and typed.tell() == 0
    assert outcome.code in (0, 2) and "Traceback" not in outcome.err
    assert "comes with code of its own (auto_map: own." in outcome.err, outcome
    assert REMEDY in outcome.err


@pytest.mark.parametrize("model", ["a known type"], indirect=True)
@pytest.mark.parametrize("verb", VERBS)
def test_code_runs_where_it_is_asked_for(
    verb: str, model: Path, call: Caller, marker: Path
) -> None:
    asked = ["--trust-remote-code"] if VERBS[verb][1] == "MODEL" else []
    outcome = called(call, verb, model, *asked, trusted=True)
    assert outcome.code == 0, outcome.err
    assert marker.exists() and "not run" not in outcome.err


@pytest.mark.parametrize("model", ["a known type"], indirect=True)
def test_weights_that_only_its_own_code_has_a_place_for_are_told_as_such(
    model: Path, call: Caller, marker: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    del weights["bert.embeddings.position_embeddings.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    outcome = called(call, "generate", model)
    assert outcome.code == 2 and not marker.exists()
    assert "comes with code of its own" in outcome.err.split("error:")[1]
    assert "no weights for bert.embeddings.position_embeddings.weight" in outcome.err
