"""Call the command line, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dlm.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]

RECIPE = """
data: {max_length: 64}
model: {architecture: xlm-roberta, hidden_size: 32, num_layers: 2, num_heads: 2,
        max_positions: 64, dropout: 0.0,
        response_positions: continued}
optim: {lr: 2.0e-3, schedule: constant}
train: {steps: 20, global_batch_size: 16}
validation: {every_n_steps: 20, batch_size: 32, generate_rows: 8, metric: exact_match}
checkpoint: {every_n_steps: 10}
hardware: {accelerator: cpu, num_threads: 1}
generation: {num_iterations: 3, length_beam: 2}
stages:
  tokenizer:
    kind: tokenizer
    data: {train: [{generator: number_text, count: 200}]}
    tokenizer_training: {algorithm: bpe, vocab_size: 200}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    data:
      train: [{generator: number_text, count: 200}]
      validation: [{generator: number_text, count: 20}]
  adapt:
    kind: adapt
    init_from: pretrain
    data: &pairs
      train: [{generator: number_pairs, count: 200}]
      validation: [{generator: number_pairs, count: 20}]
  length:
    kind: length
    init_from: adapt
    data: *pairs
    length: {max_response_length: 32, num_heads: 2}
  evaluate:
    kind: evaluate
    evaluation:
      limit: 20
      bootstrap_samples: 50
      tasks: [numbers_en_de]
      systems:
        predicted: {model: length}
        oracle: {model: length, generation: {length: oracle}}
      compare: [[predicted, oracle]]
"""
"""The whole chain: 2 layers of width 32, 200 rows, 20 steps a stage."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.strip().splitlines()[-1]


@dataclass(frozen=True)
class TrainedRun:
    """The chain above, done."""

    directory: Path
    recipe: Path

    def stage(self, name: str) -> Path:
        return next(self.directory.glob(f"*_{name}"))


def environment(**changes: str) -> dict[str, str]:
    """Of a child process: this checkout, nothing from the hub, no rank of a job."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("RANK")}
    return kept | {
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **changes,
    }


def dlm(*words: str | Path, cwd: Path | None = None, **changes: str) -> Outcome:
    """``dlm WORDS`` in a process of its own."""
    command = [sys.executable, "-m", "dlm.cli", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment(**changes), timeout=300
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass
class Caller:
    """``dlm WORDS`` in this process, which has torch loaded already."""

    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *words: str | Path) -> Outcome:
        given = list(map(str, words))
        self.monkeypatch.setattr(sys, "argv", ["dlm", *given])
        self.capture.readouterr()
        try:
            code = main(given)
        except SystemExit as end:  # argparse
            code = int(str(end.code))
        printed = self.capture.readouterr()
        return Outcome(code, printed.out, printed.err)


def files_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below: time of change and contents. Without the record of hashes, which whoever
    opens an export writes beside it."""
    found = (path for path in directory.rglob("*") if path.is_file())
    paths = sorted(path for path in found if not path.name.endswith(".sums.json"))
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in paths
    }


def read_scores(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """metrics.json and samples.jsonl of a result."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    lines = (directory / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return metrics, [json.loads(line) for line in lines]
