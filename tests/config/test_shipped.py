"""Finding recipes by path and by shipped name."""

from pathlib import Path

import pytest

from dlm.config import shipped
from dlm.config.loading import load_recipe
from dlm.errors import UserError

TOKENIZER_ONLY = "stages: {t: {kind: tokenizer, data: {train: [{hub: a/b}]}}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two recipes, a cluster file and a part that others extend."""
    recipes = tmp_path / "recipes"
    for name in ("quickstart", "multi30k/de-en", "cluster/slurm", "multi30k/_part"):
        path = recipes / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TOKENIZER_ONLY)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "dlm")
    monkeypatch.chdir(tmp_path)
    return recipes


def test_shipped_names_are_paths_without_the_suffix(folder: Path) -> None:
    assert set(shipped.shipped_recipes()) == {"quickstart", "multi30k/de-en"}


def test_recipes_inside_the_package_come_first(folder: Path) -> None:
    inside = folder.parent / "dlm" / "recipes"
    inside.mkdir(parents=True)
    assert shipped.recipe_folders() == [inside]


def test_a_shipped_name_is_found_and_names_the_recipe(folder: Path) -> None:
    assert shipped.find_recipe("multi30k/de-en") == folder / "multi30k/de-en.yaml"
    assert load_recipe("multi30k/de-en").name == "multi30k-de-en"
    assert load_recipe("recipes/multi30k/de-en.yaml").name == "multi30k-de-en"


def test_an_existing_path_wins_over_a_shipped_name(folder: Path) -> None:
    (folder.parent / "quickstart").write_text(TOKENIZER_ONLY)
    assert shipped.find_recipe("quickstart") == Path("quickstart")


def test_a_folder_is_not_a_recipe(folder: Path) -> None:
    (folder.parent / "quickstart").mkdir()
    assert shipped.find_recipe("quickstart") == folder / "quickstart.yaml"


@pytest.mark.parametrize("name", ["quikstart", "recipes/quikstart.yaml"])
def test_an_unknown_recipe_is_refused_with_the_nearest_and_the_list(
    folder: Path, name: str
) -> None:
    with pytest.raises(UserError, match="did you mean 'quickstart'") as caught:
        shipped.find_recipe(name)
    assert "Shipped recipes: multi30k/de-en, quickstart" in str(caught.value)


def test_a_recipe_extends_a_shipped_name(folder: Path) -> None:
    mine = folder.parent / "mine.yaml"
    mine.write_text("extends: quickstart\nseed: 3\n")
    assert list(load_recipe(mine).stages) == ["t"]
