"""Every family of encoders learns a few pairs by heart, and is the same network when exported."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_tools import MASKED, OTHERS, export_of, run_family, write_family
from transformers import AutoModelForMaskedLM

from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings

PAIRS = {"one": "eins", "two": "zwei", "ten": "zehn", "six": "sechs"}
QUICK = ("electra", "esm", "deberta-v2")


@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
     for name in (*MASKED, *OTHERS)],
)  # fmt: skip
def test_four_pairs_are_learnt_by_heart(family: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "initializer_range": 0.15}
    if family == "squeezebert":
        sizes["embedding_size"] = 32
    model = write_family(tmp_path / "model", family, **sizes)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"src": a, "tgt": b}) + "\n" for a, b in PAIRS.items()))
    source = f"[{{path: {rows}}}]"
    assert run_family(
        model, tmp_path / "run", f"data.train={source}", f"data.validation={source}",
        "train.steps=150", "optim.lr=5.0e-3", "model.dropout=0.0", "validation.every_n_steps=150",
        "checkpoint.every_n_steps=150", only="adapt",
    ) == 0  # fmt: skip
    export = export_of(tmp_path / "run", "adapt")
    opened = open_model(export)
    settings = GenerationSettings(num_iterations=4, length="oracle")
    found = generate(opened, [*PAIRS], settings, references=[*PAIRS.values()]).answers
    assert [answer.text for answer in found] == [*PAIRS.values()]
    plain, loading = AutoModelForMaskedLM.from_pretrained(export, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    row = [opened.special.begin, 40, 41, opened.special.mask, opened.special.end]
    tokens = torch.tensor([row])
    with torch.no_grad():
        expected = plain.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        hidden = opened.backbone.hidden(tokens, torch.ones_like(tokens).bool())
        got = opened.backbone.logits(hidden)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
