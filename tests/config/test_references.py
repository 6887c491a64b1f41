"""What a recipe refers to."""

from pathlib import Path

import pytest

from dlm.config.loading import load_recipe
from dlm.config.references import missing_files, required_stages


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_stage_requires_the_stages_it_names(chain: Path) -> None:
    recipe = load_recipe(chain)
    required = {name: required_stages(name, stage, recipe) for name, stage in recipe.stages.items()}
    assert required == {
        "vocabulary": [],
        "pretrain": ["vocabulary"],
        "adapt": ["pretrain"],
        "length": ["adapt"],
        "twin": ["vocabulary"],
        "scores": ["length", "twin"],
    }


def test_hub_names_are_not_required_stages(chain: Path) -> None:
    recipe = load_recipe(chain, ["stages.adapt.init_from=owner/model"])
    assert required_stages("adapt", recipe.stages["adapt"], recipe) == []


def test_a_hub_source_needs_no_file_without_a_root(chain: Path) -> None:
    assert missing_files(load_recipe(chain)) == []


def test_a_path_is_relative_to_the_root_once_there_is_one(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    recipe = load_recipe(chain, [f"data.root={root}"])
    missing = missing_files(recipe)
    assert len(missing) == 1 and str(root / "valid.jsonl") in missing[0]
    (root / "valid.jsonl").touch()
    assert missing_files(recipe) == []


def test_a_source_with_only_a_path_asks_for_the_root(chain: Path, tmp_path: Path) -> None:
    recipe = load_recipe(chain, ["data.train=[{path: rows.jsonl}]"])
    (line,) = missing_files(recipe)
    assert "rows.jsonl" in line and line.endswith("set data.root=DIR")
    (tmp_path / "rows.jsonl").touch()
    assert missing_files(recipe) == []


def test_folders_and_patterns_are_there_when_a_file_is(chain: Path, tmp_path: Path) -> None:
    sources = ["data.train=[{path: rows}, {path: more/*.csv}]", "data.validation=[]"]
    recipe = load_recipe(chain, [*sources, f"data.root={tmp_path}"])
    remedy = "; put it there, or set data.root=DIR to the folder that has it"
    assert missing_files(recipe) == [
        f"data.train: path = 'rows': no such file: {tmp_path / 'rows'}{remedy}",
        f"data.train: path = 'more/*.csv': no file matches {tmp_path / 'more/*.csv'}{remedy}",
    ]
    (tmp_path / "rows").symlink_to("nowhere")
    assert len(missing_files(recipe)) == 2
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "more").mkdir()
    assert len(missing_files(recipe)) == 1
    (tmp_path / "more" / "a.csv").touch()
    assert missing_files(recipe) == []


def test_a_missing_file_of_a_set_on_the_hub_says_how_to_read_that(
    chain: Path, tmp_path: Path
) -> None:
    sources = ["data.train=[{path: rows.csv, hub: owner/rows}]", "data.validation=[]"]
    (line,) = missing_files(load_recipe(chain, [*sources, f"data.root={tmp_path}"]))
    assert line.endswith("put it there, or leave data.root out to read owner/rows from the hub")


def test_a_root_that_is_no_directory_is_named(chain: Path) -> None:
    recipe = load_recipe(chain, ["data.root=/no/such/place"])
    assert missing_files(recipe) == ["data.root = '/no/such/place': no such directory"]


def test_local_models_and_task_files_are_looked_for(chain: Path) -> None:
    overrides = ["stages.adapt.init_from=./model", "stages.scores.evaluation.tasks=[mine.yaml]"]
    first, second = missing_files(load_recipe(chain, overrides))
    assert "stages.adapt.init_from" in first and "./model" in first
    assert "mine.yaml" in second
