"""``generation.steps`` is understood wherever ``generation.num_iterations`` is, and called that."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config.loading import load_cells, load_recipe, resolved_yaml
from dlm.errors import UserError

Write = Callable[..., Path]


def iterations(path: Path, *overrides: str) -> int | None:
    return load_recipe(path, overrides).stages["evaluate"].generation.num_iterations


@pytest.fixture
def evaluated(write: Write) -> Path:
    """A recipe that says it under the other name, and a system of its own."""
    return write(
        "generation: {steps: 7}\n"
        "stages:\n"
        "  evaluate:\n"
        "    kind: evaluate\n"
        "    evaluation:\n"
        "      tasks: [numbers_en_de]\n"
        "      systems: {quick: {model: org/model, generation: {steps: 2}}}\n",
        "base.yaml",
    )


def test_a_file_an_override_and_a_system_may_use_either_name(evaluated: Path) -> None:
    assert iterations(evaluated) == 7
    recipe = load_recipe(evaluated)
    assert recipe.stages["evaluate"].evaluation.systems["quick"].generation == {"num_iterations": 2}
    assert iterations(evaluated, "generation.steps=5") == 5
    assert iterations(evaluated, "generation={steps: 6}") == 6
    assert iterations(evaluated, "stages.evaluate.generation.steps=3") == 3
    assert "  num_iterations: 7" in resolved_yaml(recipe)


@pytest.mark.parametrize("name", ["steps", "num_iterations"])
def test_a_child_changes_what_its_parent_said_under_the_other_name(
    evaluated: Path, write: Write, name: str
) -> None:
    child = write(f"extends: base.yaml\ngeneration: {{{name}: 4}}\n", "child.yaml")
    assert iterations(child) == 4


def test_a_sweep_may_use_either_name(evaluated: Path, write: Write) -> None:
    axis = "{few: {generation.steps: 2}, more: {generation.num_iterations: 3}}"
    swept = write(f"extends: base.yaml\nsweep: {{m: {axis}}}\n", "swept.yaml")
    _, cells = load_cells(swept)
    found = [recipe.stages["evaluate"].generation.num_iterations for _, recipe in cells]
    assert found == [2, 3]
    with pytest.raises(UserError, match=r"the sweep sets generation\.num_iterations in its cells"):
        load_cells(swept, ["generation.steps=9"])


def test_both_names_in_one_place_are_refused(evaluated: Path, write: Write) -> None:
    both = write("extends: base.yaml\ngeneration: {steps: 4, num_iterations: 5}\n", "both.yaml")
    with pytest.raises(UserError) as refused:
        load_recipe(both)
    assert "generation.num_iterations is given twice, as num_iterations and under" in str(
        refused.value
    )


def test_a_wrong_value_is_blamed_on_the_override_as_it_was_written(evaluated: Path) -> None:
    with pytest.raises(UserError) as refused:
        load_recipe(evaluated, ["generation.steps=0"])
    assert "(on the command line: generation.steps=0)" in str(refused.value)


def test_steps_of_training_and_of_a_stage_called_generation_are_no_iterations(write: Write) -> None:
    path = write("stages: {generation: {kind: tokenizer, steps: 3}}\ntrain: {steps: 5}\n")
    with pytest.raises(UserError) as refused:
        load_recipe(path)
    assert "stages.generation.steps" in str(refused.value)
    assert "num_iterations" not in str(refused.value)
