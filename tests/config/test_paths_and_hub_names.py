"""A path that is not there is said to be missing: nothing asks the hub for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config.loading import load_recipe
from dlm.config.references import missing_files
from dlm.errors import UserError
from dlm.generation.model import open_model
from dlm.models.build import load_backbone, load_config, load_tokenizer
from dlm.places import absent, place_of
from dlm.planning.known_models import offline_config
from dlm.recipe.locate import locate_model

PATHS = ("./models/bert", "models/bert", "../bert", "/models/bert", "~/bert", "a/b/c", "bert/", ".")
NAMES = ("bert-base-uncased", "org/bert", "facebook/xlm-roberta-xl")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models/ in it, and another as the home directory."""
    (tmp_path / "work" / "models").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "work"


@pytest.mark.parametrize("path", PATHS[:-1])
@pytest.mark.parametrize(
    "open_", [place_of, load_backbone, load_tokenizer, load_config, open_model, offline_config]
)
def test_a_path_that_is_not_there_is_refused_by_name(
    here: Path, path: str, open_: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(UserError) as refused:
        open_(path)
    text = str(refused.value)
    assert f"there is no directory {Path(path).expanduser()}" in text
    assert "correct the path, or make the directory first" in text
    assert ("if models/bert of the hub is meant" in text) == (path == "models/bert")


def test_names_of_the_hub_and_directories_are_left_as_they_are(here: Path) -> None:
    (here / "models" / "there").mkdir()
    (here.parent / "home" / "there").mkdir()
    assert [place_of(name) for name in (*NAMES, "models/there", ".")] == [
        *NAMES, "models/there", ".",
    ]  # fmt: skip
    assert place_of("~/there") == str(here.parent / "home" / "there")
    (here / "bert").write_text("a file")
    assert absent("bert") == "bert is a file: give the directory that holds it"


@pytest.mark.parametrize(
    "key", ["adapt.init_from", "adapt.model.pretrained", "pretrain.tokenizer",
            "scores.evaluation.systems.diffusion.model"]
)  # fmt: skip
@pytest.mark.parametrize("path", ["./models/bert", "models/bert", "~/bert"])
def test_every_setting_that_names_a_model_is_looked_at_before_any_work(
    chain: Path, here: Path, key: str, path: str
) -> None:
    changes = [f"stages.{key}={path}"]
    if key.endswith("pretrained"):
        changes.append("stages.adapt.init_from=null")
    (line,) = missing_files(load_recipe(chain, changes))
    assert line.startswith(f"stages.{key} = '{path}': there is no directory")
    Path(path).expanduser().mkdir()
    assert missing_files(load_recipe(chain, changes)) == []


def test_generate_evaluate_and_export_look_below_a_folder_that_is_there(here: Path) -> None:
    for path in ("models/bert", "~/bert", "runs/bert"):
        with pytest.raises(UserError, match=r"there is no directory .*: give a run, a stage or a"):
            locate_model(path)
    assert locate_model("org/bert").place == "org/bert"
    (here.parent / "home" / "bert").mkdir()
    (here.parent / "home" / "bert" / "config.json").write_text("{}")
    assert locate_model("~/bert").place == str(here.parent / "home" / "bert")


def test_files_of_rows_may_lie_in_the_home_directory(chain: Path, here: Path) -> None:
    source = "data.train=[{path: ~/rows.jsonl}]"
    changes = [source, "data.validation=[]"]
    (line,) = missing_files(load_recipe(chain, changes))
    assert f"no such file: {here.parent / 'home' / 'rows.jsonl'}" in line
    (here.parent / "home" / "rows.jsonl").touch()
    assert missing_files(load_recipe(chain, changes)) == []
    with pytest.raises(UserError, match=r"hub = '\./rows' is a path, and the hub's data sets are"):
        load_recipe(chain, ["data.train=[{hub: ./rows}]"])
