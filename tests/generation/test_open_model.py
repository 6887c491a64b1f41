"""A directory of a model is opened for what it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_generation import PROMPTS, random_backbone, random_predictor, tiny_model, word_tokenizer

from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.model import backbone_fingerprint, open_model, read_kind, write_kind
from dlm.generation.settings import GenerationSettings


def export(directory: Path, *, seed: int = 1) -> None:
    random_backbone(word_tokenizer(), 40, seed).save(directory)
    word_tokenizer().save_pretrained(directory)


def test_an_opened_export_says_what_the_model_in_memory_says(tmp_path: Path) -> None:
    export(tmp_path)
    random_predictor().save(tmp_path, backbone_fingerprint(tmp_path))
    write_kind(tmp_path, "diffusion", "any")
    opened = open_model(tmp_path)
    assert not opened.backbone.training and opened.kind == "diffusion"
    settings = GenerationSettings(num_iterations=3)
    expected = generate(tiny_model(predictor=random_predictor()), PROMPTS, settings)
    assert generate(opened, PROMPTS, settings) == expected


def test_the_kind_and_the_objective_are_written_beside_the_weights(tmp_path: Path) -> None:
    write_kind(tmp_path, "autoregressive", "next token")
    assert read_kind(tmp_path) == "autoregressive"
    assert json.loads((tmp_path / "dlm.json").read_text())["objective"] == "next token"


def test_a_plain_hugging_face_directory_is_a_diffusion_model_without_a_predictor(
    tmp_path: Path,
) -> None:
    export(tmp_path)
    opened = open_model(tmp_path)
    assert opened.kind == "diffusion" and opened.length_predictor is None


def test_fingerprint_follows_the_weights_alone(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "same", "other")]
    for place, seed in zip(places, (1, 1, 2), strict=True):
        export(place, seed=seed)
    (places[1] / "notes.txt").write_text("beside")
    one, same, other = map(backbone_fingerprint, places)
    assert one == same != other


def test_a_predictor_beside_another_backbone_is_refused(tmp_path: Path) -> None:
    export(tmp_path, seed=1)
    random_predictor().save(tmp_path, backbone_fingerprint(tmp_path))
    export(tmp_path, seed=2)
    with pytest.raises(UserError, match="trained on another backbone"):
        open_model(tmp_path)


def test_a_directory_without_weights_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        backbone_fingerprint(tmp_path)


def test_only_the_settings_that_matter_are_shown() -> None:
    settings = GenerationSettings()
    assert set(settings.shown("autoregressive")) == {
        "beam_size",
        "length_penalty",
        "max_new_tokens",
    }
    assert "length_beam" in settings.shown("diffusion")
    assert "length_beam" not in replace(settings, length="oracle").shown("diffusion")


def test_model_lies_on_the_device_of_its_weights() -> None:
    assert tiny_model().device == torch.device("cpu")
