"""diffusion_generate.py, the script beside an export: the answers of dlm, or an error."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_generation import PROMPTS as ALL_PROMPTS
from tiny_generation import FixedLengths, random_predictor, tiny_model

from dlm.export.diffusion_generate import DiffusionModel
from dlm.export.diffusion_generate import generate as generate_alone
from dlm.generation.generate import generate
from dlm.generation.model import (
    GenerativeModel,
    backbone_fingerprint,
    open_model,
    write_kind,
)
from dlm.generation.settings import GenerationSettings
from dlm.models.positions import ResponsePositions

PROMPTS = ALL_PROMPTS[:4]
SAMPLERS = ["reparam-uncond-deterministic-linear", "rdm", "reparam-cond-deterministic-linear",
            "reparam-cond-deterministic-cosine", "llada", "frozen-cosine", "mask-predict",
            "cmlm-cosine"]  # fmt: skip


def exported(directory: Path, *, lengths: bool = True, **said: Any) -> Path:
    model = tiny_model()
    directory.mkdir()
    model.backbone.save(directory)
    model.tokenizer.save_pretrained(directory)
    kind = said.pop("kind", "diffusion")
    write_kind(directory, kind, "none", **({"shifted": False} | said))
    if lengths:
        random_predictor().save(directory, backbone_fingerprint(directory))
    return directory


def say(directory: Path, **generation: Any) -> None:
    """Put generation settings into dlm.json, as ``dlm export`` does."""
    values = json.loads((directory / "dlm.json").read_text())
    (directory / "dlm.json").write_text(json.dumps(values | {"generation": generation}))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("script") / "model")


@cache
def opened(directory: Path) -> GenerativeModel:
    return open_model(directory)


def answers(directory: Path, **settings: Any) -> list[str]:
    made = generate(opened(directory), PROMPTS, GenerationSettings(**settings))
    return [answer.text for answer in made.answers]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_answers_as_dlm_does_with_every_sampler_it_knows(sampler: str, plain: Path) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "num_iterations": 4, "length_beam": 3}
    model = DiffusionModel(plain)
    alone = [generate_alone(model, prompt, **settings) for prompt in PROMPTS]
    assert alone == answers(plain, **settings)
    assert len(set(alone)) == len(PROMPTS)


def test_it_counts_as_dlm_does_where_the_cosine_is_a_half(plain: Path) -> None:
    """39 iterations: the 26th leaves exactly half of the masks."""
    model = DiffusionModel(plain)
    alone = [generate_alone(model, prompt, num_iterations=39) for prompt in PROMPTS]
    assert alone == answers(plain, num_iterations=39)


@pytest.mark.parametrize("iterations", [None, 3, 7])
def test_lladas_own_schedule_and_an_iteration_a_token(iterations: int | None, plain: Path) -> None:
    settings: dict[str, Any] = {"sampler": "llada", "num_iterations": iterations, "length_beam": 3}
    model = DiffusionModel(plain)
    alone = [generate_alone(model, prompt, **settings) for prompt in PROMPTS]
    assert alone == answers(plain, **settings)


FIXED = {"response_positions": ResponsePositions(18)}


@pytest.mark.parametrize(
    "said",
    [{"attention": "prefix_lm"}, {"canvas_length": 8}, FIXED, FIXED | {"attention": "prefix_lm"},
     FIXED | {"canvas_length": 8}],
    ids=str,
)  # fmt: skip
def test_it_knows_who_sees_whom_a_canvas_and_where_answers_stand(
    said: dict[str, Any], tmp_path: Path, plain: Path
) -> None:
    directory = exported(tmp_path / "model", lengths="canvas_length" not in said, **said)
    model = DiffusionModel(directory)
    alone = [generate_alone(model, prompt) for prompt in PROMPTS]
    assert alone == answers(directory)
    assert alone != answers(plain), "it made no difference"


def test_settings_of_dlm_json_are_read_and_options_win(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model")
    said = {"sampler": "llada", "num_iterations": 1, "length_beam": 4, "rerank": "joint"}
    say(directory, **said)
    model = DiffusionModel(directory)
    assert [generate_alone(model, prompt) for prompt in PROMPTS] == answers(directory, **said)
    longer = said | {"num_iterations": 7}
    alone = [generate_alone(model, prompt, num_iterations=7) for prompt in PROMPTS]
    assert alone == answers(directory, **longer) != answers(directory, **said)


def test_another_sampler_has_its_own_iterations(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model")
    say(directory, sampler="rdm", num_iterations=1)
    model = DiffusionModel(directory)
    alone = [generate_alone(model, prompt, sampler="llada") for prompt in PROMPTS]
    assert alone == answers(directory, sampler="llada")


def test_it_reads_a_predictor_of_differences(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model", lengths=False)
    random_predictor(relative=True).save(directory, backbone_fingerprint(directory))
    model = DiffusionModel(directory)
    alone = [generate_alone(model, prompt, length_beam=2) for prompt in PROMPTS]
    assert alone == answers(directory, length_beam=2)


def test_a_given_length_needs_no_predictor(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model", lengths=False)
    model = DiffusionModel(directory)
    always_5 = replace(open_model(directory), length_predictor=FixedLengths(5))  # type: ignore[arg-type]
    expected = generate(always_5, ["the red fox"], GenerationSettings(length_beam=1)).answers[0]
    assert generate_alone(model, "the red fox", length=5) == expected.text
    with pytest.raises(SystemExit, match="no length predictor: give --length N"):
        generate_alone(model, "the red fox")


@pytest.mark.parametrize(
    ("generation", "text"),
    [
        ({"sampler": "ancestral-linear"}, "sampler ancestral-linear is not known to this script"),
        ({"temperature": 0.5}, "temperature: not read by this script"),
        ({"block_length": 2, "guidance": 1.0}, "guidance, block_length: not read by this script"),
        ({"rerank": "mbr"}, "rerank mbr: not read by this script"),
    ],
)  # fmt: skip
def test_settings_that_it_does_not_know_are_refused(
    generation: dict[str, Any], text: str, tmp_path: Path
) -> None:
    directory = exported(tmp_path / "model")
    say(directory, **generation)
    with pytest.raises(SystemExit, match=f"error: {text}.*use `dlm generate`"):
        generate_alone(DiffusionModel(directory), "the red fox")


@pytest.mark.parametrize("said", [{"kind": "autoregressive"}, {"shifted": True}], ids=str)
def test_a_model_that_does_not_fill_in_masks_is_refused(
    said: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="does not predict a mask at its own place"):
        DiffusionModel(exported(tmp_path / "model", lengths=False, **said))


def test_a_predictor_of_other_weights_is_refused(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model")
    tiny_model(seed=2).backbone.save(directory)
    with pytest.raises(SystemExit, match="belongs to other weights"):
        DiffusionModel(directory)


def test_what_does_not_fit_and_what_is_empty_is_refused(plain: Path) -> None:
    model = DiffusionModel(plain)
    with pytest.raises(SystemExit, match="do not fit the model's 40 positions"):
        generate_alone(model, "fox", length=40)
    with pytest.raises(SystemExit, match="a prompt is empty"):
        generate_alone(model, "  ")


def test_a_prompt_longer_than_the_start_and_a_newer_format_are_refused(tmp_path: Path) -> None:
    directory = exported(tmp_path / "model", response_positions=ResponsePositions(4))
    with pytest.raises(SystemExit, match="40 positions, the first 4 of which are the prompt's"):
        generate_alone(DiffusionModel(directory), PROMPTS[2])
    values = json.loads((directory / "dlm.json").read_text())
    (directory / "dlm.json").write_text(json.dumps(values | {"format": 3}))
    with pytest.raises(SystemExit, match=r"dlm.json has format 3"):
        DiffusionModel(directory)
