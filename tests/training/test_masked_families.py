"""Masked language models of every family go through the whole chain."""

import json
from pathlib import Path

import pytest
import torch
from family_tools import MASKED, Finished, export_of, run_family, write_family
from transformers import AutoModelForMaskedLM

from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings

PROMPTS = ["one hundred", "two"]
FAMILIES = (*MASKED, "esm", "electra", "deberta-v2")
every_family = pytest.mark.parametrize("family", FAMILIES)

pytestmark = pytest.mark.slow


@every_family
def test_the_export_generates_alone_and_the_same_in_any_batch(
    finished: Finished, family: str
) -> None:
    export = export_of(finished(family), "length")
    said = json.loads((export / "dlm.json").read_text())
    assert (said["kind"], said["attention"], said["shifted"]) == (
        "diffusion", "bidirectional", False,
    )  # fmt: skip
    model = open_model(export)
    assert model.length_predictor is not None and not model.backbone.causal
    settings = GenerationSettings(num_iterations=3, length_beam=2)
    answers = generate(model, PROMPTS, settings).answers
    assert all(answer.length >= 1 for answer in answers)
    (alone,) = generate(model, PROMPTS[1:], settings).answers
    assert alone.text == answers[1].text


@every_family
@torch.no_grad()
def test_transformers_opens_the_export_to_the_same_logits(finished: Finished, family: str) -> None:
    export = export_of(finished(family), "length")
    ours = open_model(export)
    plain, loading = AutoModelForMaskedLM.from_pretrained(export, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    row = [ours.special.begin, 40, 41, ours.special.mask, ours.special.end]
    tokens = torch.tensor([row])
    expected = plain.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    got = ours.backbone.logits(ours.backbone.hidden(tokens, torch.ones_like(tokens).bool()))
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@every_family
def test_the_scores_of_both_systems_are_written(finished: Finished, family: str) -> None:
    scores = next(finished(family).glob("*_scores"))
    assert (scores / "manifest.json").exists()
    text = "".join(p.read_text() for p in scores.rglob("*.json"))
    assert "predicted" in text and "oracle" in text


@pytest.mark.parametrize(
    "family", ["bert", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "bert")]
)
def test_prefix_lm_trains_and_generates(family: str, tmp_path: Path) -> None:
    model = write_family(tmp_path / "model", family)
    assert run_family(model, tmp_path / "run", "model.attention=prefix_lm", stop="length") == 0
    opened = open_model(export_of(tmp_path / "run", "length"))
    assert opened.backbone.attention == "prefix_lm"
    answers = generate(opened, PROMPTS, GenerationSettings(num_iterations=2, length_beam=1)).answers
    assert all(answer.length >= 1 for answer in answers)
