"""Sweeps: which runs a grid stands for, and everything that keeps it from being one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config.loading import load_cells, load_recipe, resolved_yaml
from dlm.config.sweep import sweep_cells
from dlm.errors import UserError

Write = Callable[[str], Path]
RECIPE = """
name: swept
hardware: {accelerator: cpu}
model: {hidden_size: 64}
optim: {lr: 1.0e-3}
stages:
  tokenizer:
    kind: tokenizer
    data: {train: [{generator: number_text, count: 9}]}
  adapt:
    kind: adapt
    tokenizer: tokenizer
    data: {train: [{generator: number_pairs, count: 9}]}
    optim: {lr: 2.0e-3}
  twin:
    kind: autoregressive
    tokenizer: tokenizer
    data: {train: [{generator: number_pairs, count: 9}]}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def recipe(sweep: str) -> Path:
        path = tmp_path / "swept.yaml"
        path.write_text(f"{RECIPE}sweep:\n  {sweep}\n")
        return path

    return recipe


def test_a_grid_has_a_cell_for_every_combination(write: Write) -> None:
    path = write("size: {small: {model.hidden_size: 32}, large: {}}\n  seed: [1, 2]")
    recipe, cells = load_cells(path)
    assert [cell.name for cell, _ in cells] == [
        "small_seed-1", "small_seed-2", "large_seed-1", "large_seed-2",
    ]  # fmt: skip
    assert [(own.model.hidden_size, own.seed) for _, own in cells] == [
        (32, 1), (32, 2), (64, 1), (64, 2),
    ]  # fmt: skip
    assert cells[0][0].labels == {"size": "small", "seed": "seed-1"}
    assert recipe.sweep and all(not own.sweep for _, own in cells)


def test_settings_of_a_cell_mean_what_they_mean_on_the_command_line(write: Write) -> None:
    path = write("lr: {low: {optim.lr: 1e-4}, less: {stages.twin: null, optim.lr: 3e-4}}")
    _, [(_, low), (_, less)] = load_cells(path, ["train.steps=7"])
    # A default wins over the stage's own value, as an override does.
    assert low.stages["adapt"].optim.lr == 1e-4 and low.stages["twin"].train.steps == 7
    assert list(less.stages) == ["tokenizer", "adapt"]


def test_a_resolved_sweep_is_read_back_and_a_cell_has_none(write: Write, tmp_path: Path) -> None:
    recipe, cells = load_cells(write("seed: [1, 2]"))
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(recipe))
    assert load_recipe(again) == recipe
    assert "sweep" not in resolved_yaml(cells[0][1])


def test_seeds_are_an_axis_and_win_over_the_recipes_own(write: Write) -> None:
    path = write("size: {small: {model.hidden_size: 32}}\n  seed: [1, 2]")
    _, cells = load_cells(path, seeds=(7,))
    assert [cell.name for cell, _ in cells] == ["small_seed-7"]


def test_an_inherited_group_is_left_out_by_null(write: Write, tmp_path: Path) -> None:
    write("size: {small: {model.hidden_size: 32}, large: {}}")
    child = tmp_path / "child.yaml"
    child.write_text("extends: swept.yaml\nsweep: {size: {large: null}}\n")
    assert [cell.name for cell, _ in load_cells(child)[1]] == ["small"]
    path = tmp_path / "swept.yaml"
    assert [c.name for c, _ in load_cells(path, ["sweep.size.small=null"])[1]] == ["large"]


def test_floats_and_truth_values_name_cells_as_they_are_written() -> None:
    sweep = {"optim.lr": [1e-3, 2e-4], "data.deduplicate": [True]}
    assert [cell.name for cell in sweep_cells(sweep)] == [
        "lr-0.001_deduplicate-true", "lr-0.0002_deduplicate-true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ("seed: 3", "sweep.seed = 3: must be a list of this setting's values, or a mapping"),
        ("seed: []", "sweep.seed = \\[\\]: must be a list"),
        ("size: {small: 3}", r"sweep.size.small = 3: must be settings, \{key: value, ...\}"),
        ("data.train: [[1]]", "a list holds numbers, texts or truth values"),
        ("size: {a: null}", "sweep.size: nothing is left of it"),
        ("size: {'a/b': {}}", "sweep.size.a/b: a cell is a directory"),
        ("size: {a: {name: x}}", "sweep.size.a: name is no setting that a cell can change"),
        ("size: {a: {sweep.x: 1}}", "sweep.x is no setting that a cell can change"),
        ("seed: [1, 1]", "2 cells would be called seed-1: name them apart"),
        ("size: {Big: {}, big: {}}", "2 cells would be called big"),
        ("size: {slurm: {}}", "a cell cannot be called slurm"),
        ("seed: [1]\n  s: {a: {seed: 2}}", "sweep.s: seed is set by the axis seed too"),
        ("size: {a: {modell.hidden_size: 3}}", "swept.yaml, cell a:\n  modell = .*did you mean 'm"),
        ("size: {a: {stages.adpt.optim.lr: 1}}", "cell a:\n  stages.adpt.optim.lr = 1: the recipe"),
        ("size: {a: {model.hidden_size: 65}}", "cell a:\n  .*num_heads"),
        ("size: {a: {length.dropout: 0.1}}", "cell a:\n  length.dropout = 0.1: ignored setting"),
    ],
)
def test_what_is_no_grid_of_runs_is_refused(write: Write, sweep: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_cells(write(sweep))


def test_an_override_of_what_cells_set_is_refused(write: Write) -> None:
    path = write("size: {small: {model.hidden_size: 32}}")
    reason = r"override model.hidden_size: the sweep sets model.hidden_size in its cells \(sweep.s"
    with pytest.raises(UserError, match=reason):
        load_cells(path, ["model.hidden_size=128"])


def test_seeds_beside_an_axis_that_sets_them_are_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"--seeds: the recipe's sweep.s sets seeds already"):
        load_cells(write("s: {a: {seed: 3}, b: {seed: 4}}"), seeds=(1, 2))
