"""Cells one after the other: what becomes of the whole when one of them does not end well."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from dlm.config.schema import RecipeConfig
from dlm.config.sweep import Cell
from dlm.errors import UserError
from dlm.recipe.locate import locate_model
from dlm.recipe.sweep import check_place, chosen_cells, read_sweep, run_cells, write_sweep

CELLS = [(Cell(name, {"x": name}, (("seed", 1),)), RecipeConfig(name=name)) for name in "abc"]
WORDS = ["dlm", "run", "swept.yaml"]


def ends(codes: Mapping[str, int], place: Path) -> tuple[int, list[str]]:
    """Exit code of the whole, and the cells that were run."""
    called: list[str] = []

    def run(recipe: RecipeConfig, run_dir: Path) -> int:
        assert run_dir == place / recipe.name
        called.append(recipe.name)
        return codes.get(recipe.name, 0)

    return run_cells(CELLS, place, run, words=WORDS), called


def test_a_failed_cell_holds_up_no_other_and_is_named_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends({"a": 3, "b": 4}, tmp_path) == (3, ["a", "b", "c"])
    said = capsys.readouterr()
    assert "1 of 3 cells ended well" in said.out
    assert "a (failed), b (in use by another process)" in said.err
    assert said.err.splitlines()[-1] == "continue with: dlm run swept.yaml"


@pytest.mark.parametrize("code", [75, 130])
def test_a_preempted_or_interrupted_cell_ends_the_whole(code: int, tmp_path: Path) -> None:
    assert ends({"b": code}, tmp_path) == (code, ["a", "b"])


@pytest.mark.parametrize(
    ("codes", "code"), [({}, 0), ({"a": 2, "b": 4}, 2), ({"a": 3, "b": 2}, 2), ({"c": 4}, 4)]
)
def test_the_gravest_end_of_a_cell_is_that_of_the_whole(
    codes: dict[str, int], code: int, tmp_path: Path
) -> None:
    assert ends(codes, tmp_path)[0] == code


def test_where_ranks_work_together_a_failed_cell_ends_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert ends({"a": 3}, tmp_path) == (3, ["a"])


def test_a_record_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path, RecipeConfig(name="swept"), [cell for cell, _ in CELLS])
    record = read_sweep(tmp_path)
    assert record is not None and record.cells == tuple(cell for cell, _ in CELLS)
    assert read_sweep(tmp_path / "nowhere") is None
    (tmp_path / "sweep.json").write_text(json.dumps({"cells": 3}))
    with pytest.raises(UserError, match=r"sweep.json is damaged .* delete it, and `dlm run`"):
        read_sweep(tmp_path)


def test_further_cells_of_the_same_axes_extend_a_study(tmp_path: Path) -> None:
    recipe, cells = RecipeConfig(name="swept"), [cell for cell, _ in CELLS]
    write_sweep(tmp_path, recipe, cells)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "recipe.yaml").touch()
    write_sweep(tmp_path, recipe, [Cell("d", {"x": "d"}, ())])
    record = read_sweep(tmp_path)
    assert record is not None and [cell.name for cell in record.cells] == ["b", "d"]
    write_sweep(tmp_path, recipe, [Cell("e", {"other": "e"}, ())])
    record = read_sweep(tmp_path)
    assert record is not None and [cell.name for cell in record.cells] == ["e"]


def test_a_run_and_a_sweep_do_not_share_a_directory(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", RecipeConfig(name="swept"), [])
    with pytest.raises(UserError, match="holds the runs of a sweep, and this recipe has none"):
        check_place(tmp_path / "sweep", sweep=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    with pytest.raises(UserError, match="holds one run, not those of a sweep"):
        check_place(tmp_path / "run", sweep=True)


def test_cells_are_chosen_by_name() -> None:
    assert [cell.name for cell, _ in chosen_cells(CELLS, ["c", "a"])] == ["a", "c"]
    with pytest.raises(UserError, match="--cells x: the sweep has no such cell; its cells: a, b"):
        chosen_cells(CELLS, ["x"])
    with pytest.raises(UserError, match="--cells a: the recipe has no sweep, and so no cells"):
        chosen_cells([], ["a"])


def test_a_sweep_has_no_model_to_generate_with(tmp_path: Path) -> None:
    write_sweep(tmp_path, RecipeConfig(name="swept"), [cell for cell, _ in CELLS])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "recipe.yaml").touch()
    with pytest.raises(UserError, match=rf"holds the runs of a sweep: name one .*{tmp_path}/b\)"):
        locate_model(str(tmp_path))
