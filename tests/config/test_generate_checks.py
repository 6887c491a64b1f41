"""What a recipe says of stages that write rows, and of sources that are such stages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config.loading import load_recipe
from dlm.config.references import required_stages
from dlm.errors import UserError

RECIPE = """
data: {train: [{path: given.jsonl}]}
train: {steps: 10, global_batch_size: 8}
stages:
  words: {kind: tokenizer}
  twin: {kind: autoregressive, tokenizer: words}
  distil: {kind: generate, init_from: twin}
  adapt: {kind: adapt, tokenizer: words, data: {train: [{stage: distil}]}}
  length: {kind: length, init_from: adapt, data: {train: [{stage: distil}, {path: given.jsonl}]}}
  again: {kind: generate, init_from: length}
"""
Refusal = Callable[..., str]


@pytest.fixture
def refused(write: Callable[..., Path]) -> Refusal:
    """What is said of the recipe above with overrides."""

    def message(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            load_recipe(write(RECIPE), overrides)
        return str(error.value)

    return message


def test_what_reads_a_stages_rows_requires_it(write: Callable[..., Path]) -> None:
    recipe = load_recipe(write(RECIPE))
    required = {name: required_stages(name, stage, recipe) for name, stage in recipe.stages.items()}
    assert required["distil"] == ["twin"]
    assert required["adapt"] == ["words", "distil"]
    assert required["length"] == ["distil", "adapt"]


@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (["stages.adapt.data.train=[{stage: distill}]"], "stages.adapt.data.train[0].stage",
         "no stage is called so; name an earlier one of kind generate (there are distil)"),
        (["stages.adapt.data.train=[{stage: again}]"], "stages.adapt.data.train[0].stage",
         "this stage comes later; name an earlier one"),
        (["stages.adapt.data.train=[{stage: twin}]"], "stages.adapt.data.train[0].stage",
         "a stage of kind autoregressive writes no rows; name one of kind generate"),
        (["stages.distil.data.train=[{stage: distil}]"], "stages.distil.data.train[0].stage",
         "a stage cannot need itself; name an earlier one"),
        (["stages.twin.data.train=[{stage: distil}]"], "stages.twin.data.train[0].stage",
         "this stage comes later"),
        (["stages.adapt.data.train=[{stage: distil, path: a.jsonl}]"], "stages.adapt.data.train[0]",
         "stage excludes path, parallel and hub; remove one of them"),
        (["stages.adapt.data.train=[{stage: distil, generator: words, count: 3}]"],
         "stages.adapt.data.train[0]", "generator and stage exclude each other"),
        (["stages.adapt.data.train=[{fields: {src: a}}]"], "stages.adapt.data.train[0]",
         "needs one of path, parallel, hub, generator and stage"),
        (["stages.adapt.data.train=[{stage: distil, columns: [a]}]"], "stages.adapt.data.train[0]",
         "ignored setting: columns is read with path only"),
        (["stages.adapt.init_from=distil", "stages.adapt.tokenizer=null"], "stages.adapt.init_from",
         "a stage of kind generate has nothing to give here"),
        (["serve=distil"], "serve", "kind generate has no model to serve"),
        (["stages.distil.init_from=null"], "stages.distil.init_from",
         "missing: the model that writes, an earlier stage, a directory or a hub name"),
        (["stages.distil.init_from=words"], "stages.distil.init_from",
         "a stage of kind tokenizer has nothing to give here"),
        (["stages.distil.tokenizer=words"], "stages.distil.tokenizer",
         "the model of init_from has its own tokenizer, and what is handed on are texts"),
        (["stages.distil.init_from=adapt"], "stages.distil.init_from", "this stage comes later"),
        (["stages.again.init_from=adapt"], "stages.again.init_from",
         "has no length predictor; name the `length` stage made from it (length), or set"),
        (["stages.again.generation.length=canvas"], "stages.again.init_from",
         "was not trained with a canvas"),
        (["stages.distil.generation.num_iterations=3"], "stages.distil.generation.num_iterations",
         "ignored setting: twin is of kind autoregressive; remove it"),
        (["stages.again.generation.beam_size=3"], "stages.again.generation.beam_size",
         "ignored setting: length is of kind length; remove it"),
        (["stages.distil.data.task=text"], "stages.distil.data.task",
         "a text has no prompt to answer"),
        (["stages.distil.data.train=[{path: given.jsonl, task: text}]"],
         "stages.distil.data.train[0].task", "a text has no prompt to answer"),
        (["stages.distil.data.too_long=truncate_prompt"], "stages.distil.data.too_long",
         "kind generate does not cut prompts, which are handed on; set error or drop"),
        (["stages.distil.data.validation=[{path: b.jsonl}]"], "stages.distil.data.validation",
         "ignored setting: kind generate does not read it"),
        (["stages.distil.data.deduplicate=true"], "stages.distil.data.deduplicate",
         "ignored setting: kind generate does not read it"),
        (["stages.distil.train.steps=3"], "stages.distil.train",
         "ignored setting: kind generate reads only data, generation"),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused_with_the_remedy(
    refused: Refusal, overrides: list[str], key: str, reason: str
) -> None:
    lines = refused(*overrides).splitlines()
    assert any(line.strip().startswith(key) and reason in line for line in lines), lines


def test_the_two_parts_of_written_rows_are_told_apart(refused: Refusal) -> None:
    part = "{stage: distil, holdout: {share: 0.1}}"
    other = "{stage: distil}"
    message = refused(
        f"stages.adapt.data.train=[{part}]", f"stages.adapt.data.validation=[{other}]"
    )
    assert "reads the same set, and not the other part of it" in message


def test_what_the_recipe_gives_to_all_stages_is_no_ignored_setting(
    write: Callable[..., Path],
) -> None:
    text = RECIPE.replace("data: {train:", "data: {validation: [{path: v.jsonl}], deduplicate: "
                          "true, mixture: {temperature: 2}, train:")  # fmt: skip
    load_recipe(write(f"generation: {{beam_size: 3, num_iterations: 4}}\n{text}"))
