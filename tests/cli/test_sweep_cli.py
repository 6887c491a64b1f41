"""`dlm run`, `status`, `submit` and the verbs about one run, of a sweep."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import Caller, dlm, environment

TINY = """
data: {max_length: 64}
model: {architecture: modernbert, hidden_size: 16, num_layers: 1, num_heads: 2,
        intermediate_size: 32, max_positions: 64, dropout: 0.0}
train: {steps: 30, global_batch_size: 8}
validation: {every_n_steps: 30, generate_rows: 0, max_rows: 8}
checkpoint: {every_n_steps: 5}
logging: {every_n_steps: 1, samples: 0}
hardware: {accelerator: cpu, num_threads: 1}
stages:
  tokenizer:
    kind: tokenizer
    data: {train: [{generator: number_text, count: 100}]}
    tokenizer_training: {algorithm: bpe, vocab_size: 150}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    data:
      train: [{generator: number_text, count: 60}]
      validation: [{generator: number_text, count: 8}]
sweep:
  size: {small: {}, large: {model.hidden_size: 24}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def test_a_dry_run_shows_every_cell_and_writes_nothing(
    call: Caller, recipe: Path, tmp_path: Path
) -> None:
    done = call("run", recipe, "--run-dir", tmp_path / "run", "--dry-run", "--seeds", "1,2")
    assert done.code == 0 and not (tmp_path / "run").exists()
    assert "cell 4 of 4: large_seed-2 (model.hidden_size=24, seed=2)" in done.out
    assert done.out.count("01_tokenizer") == 4
    one = call("run", recipe, "--run-dir", tmp_path / "run", "--dry-run", "--cells", "large")
    assert one.out.count("01_tokenizer") == 1 and "cell 1 of 1: large" in one.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--cells", "lage"), "--cells lage: the sweep has no such cell; did you mean 'large'?"),
        (("model.hidden_size=32",), "the sweep sets model.hidden_size in its cells (sweep.size)"),
        (("--seeds", "1,x"), "--seeds 1,x: must be numbers"),
        (("--force", "pretrain"), "--force pretrain: of a sweep, name the one run to begin anew"),
        (("stages.pretrain.tokenizer=x/y", "data.root=nowhere"), "tiny, cell small, cannot run:"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_run(
    call: Caller, recipe: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    done = call("run", recipe, "--run-dir", tmp_path / "run", *words)
    assert done.code == 2 and reason in done.err and not (tmp_path / "run").exists()
    assert "continue with" not in done.err


@pytest.mark.parametrize("verb", [("plan",), ("bench",), ("data", "stats")])
def test_a_verb_about_one_run_asks_which(call: Caller, recipe: Path, verb: tuple[str, ...]) -> None:
    done = call(*verb, recipe)
    assert done.code == 2
    assert "tiny is a sweep: say which of its runs by --cell (small, large)" in done.err
    assert "--cell middle: the sweep has no" in call(*verb, recipe, "--cell", "middle").err


def test_a_cell_is_shown_and_validated(call: Caller, recipe: Path) -> None:
    assert "sweep:" in call("show", recipe).out
    shown = call("show", recipe, "--cell", "large").out
    assert "hidden_size: 24" in shown and "sweep:" not in shown
    assert "ok, 2 stages (tokenizer, pretrain), 2 cells (small, large)" in call(
        "validate", recipe
    ).out  # fmt: skip


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was_and_does_nothing_twice(
    call: Caller, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-m", "dlm.cli", "run", str(recipe), "--run-dir", str(run)]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL)
    begun = run / "large" / "02_pretrain" / "started.json"
    for _ in range(1200):
        if begun.exists():
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    finished = run / "small" / "02_pretrain" / "manifest.json"
    before = finished.stat().st_mtime_ns
    assert begun.exists() and not begun.with_name("manifest.json").exists()
    small, large = json.loads(call("status", run, "--json").out)
    said = call("status", run).out.splitlines()[-2:]
    assert said[0] == "small: 2 of 2 stages done"
    assert said[1].startswith("large: 1 of 2 stages done, pretrain ")
    assert small["stages"][1]["state"] == "done" and large["stages"][1]["state"] != "done"
    again = dlm("run", recipe, "--run-dir", run)
    assert again.code == 0, again.err
    assert finished.stat().st_mtime_ns == before
    assert begun.with_name("manifest.json").exists()
    assert "[2/2] pretrain: skipped" in again.out.split("cell 2 of 2")[0]
    assert call("status", run).out.splitlines()[-2:] == [
        "small: 2 of 2 stages done", "large: 2 of 2 stages done",
    ]  # fmt: skip
