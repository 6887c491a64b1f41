"""Models and tokenizers from outside of the recipe: local ones by content, the hub's by name."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_platform import DATA, Workplace, small_recipe

from dlm.config.schema import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    RecipeConfig,
    SourceConfig,
    StageConfig,
    SystemConfig,
    VocabularyConfig,
)
from dlm.errors import UserError
from dlm.recipe.origins import directory_contents, unpinned

Output = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        (directory / name).write_text(name)
    return directory


def with_tokenizer(recipe: RecipeConfig, place: str) -> RecipeConfig:
    stages = {
        name: replace(stage, tokenizer=stage.tokenizer and place)
        for name, stage in recipe.stages.items()
    }
    return replace(recipe, stages=stages)


def test_new_content_in_a_local_directory_makes_a_stage_stale(
    place: Workplace, model: Path, capsys: Output
) -> None:
    recipe = with_tokenizer(small_recipe(), str(model))
    assert place.run(recipe) == 0
    (model / "README.md").write_text("another text")
    (model / "model.safetensors").write_text("no tokenizer is in here")
    assert place.run(recipe) == 0 and place.kinds.calls == []
    (model / "tokenizer.json").write_text("another vocabulary")
    capsys.readouterr()
    assert place.run(recipe) == 2
    assert "local files.tokenizer.tokenizer.json: " in capsys.readouterr().err


@pytest.mark.parametrize("key", ["init_from", "model.pretrained", "evaluation.systems.a.model"])
def test_every_model_directory_is_known_by_its_content(model: Path, key: str) -> None:
    name = str(model)
    stage = {
        "init_from": StageConfig(kind="adapt", init_from=name, data=DATA),
        "model.pretrained": StageConfig(kind="adapt", model=ModelConfig(pretrained=name)),
        "evaluation.systems.a.model": StageConfig(
            kind="evaluate", evaluation=EvaluationConfig(systems={"a": SystemConfig(name)})
        ),
    }[key]
    before = directory_contents(stage, ())
    assert set(before[key]) == {"model.safetensors", "config.json", "tokenizer.json"}
    (model / "model.safetensors").write_text("trained further")
    assert directory_contents(stage, ()) != before
    assert directory_contents(stage, {name}) == {}  # the name of a stage means the stage


def test_what_the_hub_may_change_is_said_in_one_line(place: Workplace, capsys: Output) -> None:
    assert place.run() == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "not pinned" in line)
    assert line.startswith("not pinned: model org/tokens may change on the hub") and "set " in line
    assert place.run() == 0
    assert "not pinned" not in capsys.readouterr().out


def test_a_revision_or_a_local_file_pins(tmp_path: Path) -> None:
    def told(model: ModelConfig, source: SourceConfig) -> str | None:
        data = DataConfig(train=[source])
        return unpinned([StageConfig(kind="adapt", model=model, data=data)], ())

    rows = SourceConfig(hub="owner/pairs")
    found = told(ModelConfig(pretrained="owner/model"), rows)
    assert found is not None and "model owner/model, data set owner/pairs" in found
    pinned = ModelConfig(pretrained="owner/model", revision="abc")
    assert told(pinned, replace(rows, revision="def")) is None
    assert told(ModelConfig(pretrained=str(tmp_path)), SourceConfig(path="rows.jsonl")) is None


def test_files_whose_tokens_are_kept_are_known_by_their_content(tmp_path: Path) -> None:
    vocabulary = VocabularyConfig(keep="used", extra=["more.txt"])
    stage = StageConfig(
        kind="adapt", data=replace(DATA, root=str(tmp_path)), init_from="org/model",
        model=ModelConfig(vocabulary=vocabulary),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"model.vocabulary.extra: there is no file .*more.txt"):
        directory_contents(stage, ())
    (tmp_path / "more.txt").write_text("one")
    before = directory_contents(stage, ())
    assert set(before) == {"model.vocabulary.extra[0]"}
    (tmp_path / "more.txt").write_text("two")
    assert directory_contents(stage, ()) != before
