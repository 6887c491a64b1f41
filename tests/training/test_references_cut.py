"""A validation whose answers cannot be as long as the references says so, and how many."""

import json
from pathlib import Path

import pytest
from resume_tools import Uninterrupted, copy_needed, run
from transformers import AutoTokenizer

from dlm.data.generated import generate
from dlm.data.rows.encoding import encode_responses

Output = pytest.CaptureFixture[str]


def short(stage: str) -> list[str]:
    """Four steps, two validations of 20 rows."""
    changes = {"train.steps": 4, "validation.every_n_steps": 2, "checkpoint.every_n_steps": 2,
               "validation.generate_rows": 20}  # fmt: skip
    return [f"stages.{stage}.{key}={value}" for key, value in changes.items()]


def lengths(stage: Path) -> list[int]:
    """Tokens of the references that are generated for."""
    tokenizer = AutoTokenizer.from_pretrained(stage / "export")
    rows = generate("number_pairs", split="validation", count=40, seed=0)[:20]
    return [len(ids) for ids in encode_responses(tokenizer, [row["tgt"] for row in rows])]


def test_the_twins_answers_are_cut_at_their_greatest_number_of_tokens(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, capsys: Output
) -> None:
    uninterrupted("tokenizer")
    stage = copy_needed(chain, run_dir, "autoregressive")
    limit = "stages.autoregressive.generation.max_new_tokens=8"
    assert run(run_dir, *short("autoregressive"), limit, only="autoregressive") == 0
    longer = sum(length > 8 for length in lengths(stage))
    assert 0 < longer < 20
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    assert metrics["validation_references_cut"] == longer
    said = f"{longer} of 20 references have more tokens than an answer can have "
    assert capsys.readouterr().out.count(f"{said}(generation.max_new_tokens=8, or the") == 1


def test_lengths_of_the_references_cut_nothing(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, capsys: Output
) -> None:
    uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "adapt")
    assert run(run_dir, *short("adapt"), only="adapt") == 0
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    assert "validation_references_cut" not in metrics
    assert "than an answer can have" not in capsys.readouterr().out
