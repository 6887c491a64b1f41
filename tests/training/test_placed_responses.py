"""Where responses stand belongs to the model: trained, exported, taken over, refused elsewhere."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from family_tools import RECIPE, export_of, run_family, write_family

from dlm.config.loading import load_recipe
from dlm.config.schema import ModelConfig, StageConfig
from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.model import open_model, read_description
from dlm.generation.settings import GenerationSettings
from dlm.models.positions import CONTINUED, ResponsePositions
from dlm.models.sums import write_sums
from dlm.training.job import StageJob
from dlm.training.response_positions import known_positions

FIXED = ("model.response_positions=fixed", "evaluation.limit=1")
TUNE = """
  instruct:
    kind: instruct
    init_from: adapt
    data: {too_long: drop, train: [{generator: number_instructions, count: 20}],
           validation: [{generator: number_instructions, count: 4}]}
"""
TEXTS = """
  texts:
    kind: pretrain
    data: {task: text, train: [{generator: number_text, count: 40}], validation: []}
    validation: {export: last}
  pairs:
    kind: adapt
    init_from: texts
"""


def said(run_dir: Path, stage: str) -> Any:
    return json.loads((export_of(run_dir, stage) / "dlm.json").read_text())["response_positions"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT with responses at a fixed start and of a token type, then length, scores, instruct."""
    directory = tmp_path_factory.mktemp("placed")
    model = write_family(directory / "bert", "bert")
    options = (*FIXED, "stages.adapt.model.response_token_type=true")
    assert run_family(model, directory / "run", *options, more=TUNE) == 0
    return directory / "run"


def test_the_start_is_measured_exported_and_taken_over(run: Path) -> None:
    placed = said(run, "adapt")
    assert placed["layout"] == "fixed" and placed["token_type"] is True
    assert placed["start"] % 32 == 0
    assert said(run, "length") == said(run, "instruct") == placed
    opened = open_model(export_of(run, "length"))
    assert opened.backbone.response_positions == ResponsePositions(placed["start"], True)
    assert len(list(run.glob("*_scores/export/*/*/metrics.json"))) == 3


def test_a_prompt_longer_than_the_start_is_refused(run: Path) -> None:
    model = open_model(export_of(run, "length"))
    start = said(run, "length")["start"]
    text = f"a prompt of .* tokens leaves no room .*, the first {start} of which are the prompt's"
    with pytest.raises(UserError, match=text):
        generate(model, ["one " * 100], GenerationSettings(num_iterations=1))


def job_from(place: Path, tmp_path: Path, **model: Any) -> StageJob:
    config = StageConfig(kind="instruct", init_from=str(place), model=ModelConfig(**model))
    return StageJob("recipe", "tune", config, 0, "", tmp_path, {})


@pytest.mark.parametrize(
    "setting",
    [{"response_positions": "continued"}, {"response_start": 7}, {"response_token_type": False}],
    ids=str,
)
def test_another_setting_than_the_models_is_refused(
    setting: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    export = export_of(run, "adapt")
    known = ResponsePositions(said(run, "adapt")["start"], True)
    assert known_positions(job_from(export, tmp_path)) == known
    name, value = next(iter(setting.items()))
    text = f"tune: model.{name}={value}, but .* was trained with .*: remove the setting"
    with pytest.raises(UserError, match=text):
        known_positions(job_from(export, tmp_path, **setting))


def test_exports_of_format_1_continue_and_newer_ones_are_refused(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(export_of(run, "adapt"), old)
    values = json.loads((old / "dlm.json").read_text())
    del values["response_positions"]
    (old / "dlm.json").write_text(json.dumps(values | {"format": 1}))
    assert read_description(old).response_positions == CONTINUED
    (old / "dlm.json").write_text(json.dumps(values | {"format": 3}))
    write_sums(old)
    with pytest.raises(UserError, match=r"has format 3, .* up to 2: use the version of dlm"):
        open_model(old)


def test_by_default_a_start_is_measured_where_there_is_room(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Texts decide nothing; pairs have a start, instructions and crowded rows none."""
    model = write_family(tmp_path / "modernbert", "modernbert")
    run_dir = tmp_path / "run"
    # Instructions have no model to take it over from, and `pairs` is told to continue.
    options = (
        "stages.pairs.model.response_positions=continued", "stages.instruct.init_from=texts",
        "stages.scores=null", "stages.length=null",
    )  # fmt: skip
    assert run_family(model, run_dir, *options, more=TEXTS + TUNE) == 0
    assert said(run_dir, "texts") is None
    start = said(run_dir, "adapt")["start"]
    assert start % 32 == 0 and said(run_dir, "adapt")["layout"] == "fixed"
    assert said(run_dir, "pairs") == said(run_dir, "instruct") == CONTINUED.as_json()
    assert f"adapt: responses stand fixed, from position {start}" in capfd.readouterr().out


def test_by_default_responses_follow_where_one_start_does_not_fit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each row fits, but the longest prompt and the longest response together do not."""
    model = write_family(tmp_path / "bert", "bert")
    texts = ["one " * 90, "two"], ["two", "one " * 90]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"src": a, "tgt": b}) + "\n" for a, b in texts))
    source = f"[{{path: {rows}}}]"
    options = (f"data.train={source}", f"data.validation={source}")
    assert run_family(model, tmp_path / "run", *options, only="adapt") == 0
    assert said(tmp_path / "run", "adapt") == CONTINUED.as_json()
    note = "adapt: responses follow their prompts: from one start on the longest prompt (92 tokens)"
    assert note in capfd.readouterr().out


def test_by_default_a_causal_model_stays_as_it_is(tmp_path: Path) -> None:
    model = write_family(tmp_path / "llama", "llama")
    assert run_family(model, tmp_path / "run", only="adapt") == 0
    assert said(tmp_path / "run", "adapt") == CONTINUED.as_json()


@pytest.mark.parametrize(
    "options", [FIXED, ("model.response_positions=fixed", "model.response_start=40")]
)
def test_networks_that_read_distances_have_no_start(
    options: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "mpnet", "mpnet")
    assert run_family(model, tmp_path / "run", *options, only="adapt") == 2
    found = " ".join(capfd.readouterr().err.split())
    assert "of a model of type 'mpnet' reads how far apart tokens lie in the row" in found
    assert run_family(model, tmp_path / "other", only="adapt") == 0
    assert said(tmp_path / "other", "adapt") == CONTINUED.as_json()
    assert "adapt: responses follow their prompts: attention reads" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("model.response_start=3",), "responses start at position 3 .*: train with a start from"),
        (("model.response_start=125",), "position 125 of the model's 130 .*: train with a start"),
        (
            ("model.response_start=100", "stages.adapt.data.canvas_length=31"),
            "position 100 of the model's 130 .* responses of up to 31: train with a start",
        ),
        (("model.response_start=3", "data.too_long=drop"), "every row is longer"),
        (("model.response_token_type=true",), "type 'modernbert' has no second token type"),
    ],
    ids=str,
)  # fmt: skip
def test_rows_and_networks_that_do_not_fit_are_refused(
    options: tuple[str, ...], text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "modernbert", "modernbert")
    assert run_family(model, tmp_path / "run", *FIXED, *options, only="adapt") == 2
    found = " ".join(capfd.readouterr().err.split())
    assert re.search(text, found), found


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("stages.adapt.model.response_positions=continued",
             "stages.instruct.model.response_positions=fixed"),
            r"instruct.*model.response_positions.*adapt \(init_from\) is trained with continued",
        ),
        (("model.response_start=9",), "model.response_start.*needs model.response_positions=fixed"),
        (("model.response_positions=fixed", "model.response_start=0"), "must be at least 1"),
        (
            ("stages.texts.model.response_positions=fixed",),
            "texts.*model.response_positions.*fixed.: ignored setting: texts have no responses",
        ),
        (
            ("stages.adapt.model.pretrained=null", "stages.adapt.tokenizer=x",
             "model.response_positions=fixed", "model.response_start=600"),
            "beyond model.max_positions = 512",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_recipe_cannot_mean_is_refused_before_any_work(
    options: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.replace("DIRECTORY", "somewhere") + TUNE + TEXTS)
    with pytest.raises(UserError, match=f"(?s){text}"):
        load_recipe(str(recipe), list(options))
