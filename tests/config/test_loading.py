"""Loading a recipe: defaults, types, extends, overrides, the resolved text."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dlm.config.loading import load_recipe, resolved_yaml
from dlm.errors import UserError

Write = Callable[..., Path]


def failure(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def values_below(value: Any) -> list[Any]:
    if is_dataclass(value):
        parts = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, dict):
        parts = list(value.values())
    else:
        parts = list(value) if isinstance(value, list | tuple) else []
    return [value, *(inner for part in parts for inner in values_below(part))]


def test_a_stage_has_the_recipe_sections_under_its_own(chain: Path) -> None:
    recipe = load_recipe(chain)
    assert recipe.stages["pretrain"].optim.lr == 2e-4
    assert recipe.stages["adapt"].optim.lr == 1e-4
    assert recipe.stages["adapt"].train.steps == 100
    assert recipe.stages["adapt"].model.hidden_size == 64
    assert list(recipe.stages) == ["vocabulary", "pretrain", "adapt", "length", "twin", "scores"]


def test_values_are_plain_and_tuples_stay_tuples(chain: Path) -> None:
    recipe = load_recipe(chain, ["optim.betas=[0, 1e-1]", "data.train=[{hub: a/b, limit: 5}]"])
    assert recipe.optim.betas == (0.0, 0.1)
    assert type(recipe.optim.betas) is tuple
    assert not any(OmegaConf.is_config(value) for value in values_below(recipe))


def test_floats_and_whole_numbers_may_be_written_with_an_exponent(chain: Path) -> None:
    recipe = load_recipe(chain, ["optim.lr=1e-5", "train.steps=1e3"])
    assert recipe.optim.lr == 1e-5
    assert type(recipe.train.steps) is int and recipe.train.steps == 1000


def test_the_name_is_the_stem_unless_given(chain: Path) -> None:
    assert load_recipe(chain).name == "chain"
    assert load_recipe(chain, ["name=other"]).name == "other"


def test_interpolations_are_resolved_and_escaped_ones_kept(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLM_TEST_ROOT", "/data")
    recipe = load_recipe(chain, ["data.root=${oc.env:DLM_TEST_ROOT}", r"description='\${x}'"])
    assert recipe.stages["adapt"].data.root == "/data"
    assert recipe.description == "${x}"


def test_interpolations_without_a_value_are_all_reported(chain: Path) -> None:
    message = failure(chain, "data.root=${oc.env:DLM_NOT_SET}", "seed=${nothing.here}")
    assert "2 problems" in message
    assert "data.root: it has no value" in message and "DLM_NOT_SET" in message
    assert "seed: it has no value" in message


def test_the_resolved_recipe_reads_back_equal(chain: Path, write: Write) -> None:
    overrides = [
        "serve=adapt",
        r"description='costs \${5}: é'",
        "stages.adapt.model.revision='1e5'",
        "stages.adapt.generation.length_beam=2",
        "stages.adapt.data.train=[{path: x.jsonl, fields: {src: de}}]",
        "optim.betas=[0.5, 0.6]",
    ]
    recipe = load_recipe(chain, overrides)
    text = resolved_yaml(recipe)
    assert load_recipe(write(text, "resolved/config.yaml")) == recipe
    assert resolved_yaml(load_recipe(write(text, "resolved/config.yaml"))) == text


def test_a_child_changes_single_values_and_replaces_lists(chain: Path, write: Write) -> None:
    child = write(
        "extends: chain.yaml\n"
        "data: {train: [{hub: owner/other}]}\n"
        "stages: {adapt: {optim: {warmup_steps: 5}}}\n",
        "child.yaml",
    )
    recipe = load_recipe(child)
    assert [source.hub for source in recipe.data.train] == ["owner/other"]
    assert recipe.data.validation == load_recipe(chain).data.validation
    assert recipe.stages["adapt"].optim.warmup_steps == 5
    assert recipe.stages["adapt"].init_from == "pretrain"


def test_of_several_parents_the_later_wins(chain: Path, write: Write) -> None:
    write("optim: {lr: 3e-4}\nseed: 5\n", "parts/optim.yaml")
    child = write("extends: [chain.yaml, parts/optim.yaml]\nseed: 6\n", "child.yaml")
    recipe = load_recipe(child)
    assert (recipe.optim.lr, recipe.seed) == (3e-4, 6)


def test_name_and_description_are_not_inherited(write: Write) -> None:
    base = "name: base\ndescription: the base\nstages: {t: {kind: tokenizer, data: {train: ["
    write(base + "{hub: a/b}]}}}\n", "base.yaml")
    recipe = load_recipe(write("extends: base.yaml\n", "child.yaml"))
    assert (recipe.name, recipe.description) == ("child", "")


def test_null_removes_an_inherited_stage(chain: Path, write: Write) -> None:
    child = write("extends: chain.yaml\nstages: {scores: null, twin: null}\n", "child.yaml")
    assert list(load_recipe(child).stages) == ["vocabulary", "pretrain", "adapt", "length"]


def test_null_for_a_stage_that_is_not_inherited_is_refused(chain: Path, write: Write) -> None:
    child = write("extends: chain.yaml\nstages: {score: null}\n", "child.yaml")
    assert "stages.score = null: null removes nothing" in failure(child)


def test_recipes_that_extend_each_other_are_refused(write: Write) -> None:
    write("extends: b.yaml\n", "a.yaml")
    assert "in a circle" in failure(write("extends: a.yaml\n", "b.yaml"))


def test_extending_what_is_not_there_is_refused(write: Write) -> None:
    message = failure(write("extends: nowhere.yaml\n"))
    assert "extends = 'nowhere.yaml': neither a file" in message


def test_extends_takes_names_only(write: Write) -> None:
    assert "give one recipe or a list" in failure(write("extends: {a: b}\n"))


def test_a_section_override_wins_over_the_stages_that_read_it(chain: Path) -> None:
    recipe = load_recipe(chain, ["optim.lr=1e-5"])
    assert {recipe.stages[name].optim.lr for name in ("pretrain", "adapt", "length")} == {1e-5}


def test_a_stage_override_wins_over_a_section_override_in_either_order(chain: Path) -> None:
    for overrides in (["optim.lr=1e-5", "stages.adapt.optim.lr=9e-5"],) * 2:
        recipe = load_recipe(chain, overrides)
        assert recipe.stages["adapt"].optim.lr == 9e-5
        assert recipe.stages["pretrain"].optim.lr == 1e-5
        overrides.reverse()


def test_a_mapping_override_changes_only_what_it_names(chain: Path) -> None:
    recipe = load_recipe(chain, ["optim={lr: 1e-5, warmup_steps: 3}"])
    assert recipe.stages["pretrain"].optim.lr == 1e-5
    assert recipe.stages["pretrain"].optim.warmup_steps == 3
    assert recipe.train.steps == 100


def test_a_seed_override_wins_over_the_stages_seeds(chain: Path) -> None:
    recipe = load_recipe(chain, ["stages.adapt={seed: 3}", "seed=7"])
    assert (recipe.seed, recipe.stages["adapt"].seed) == (7, 3)
    child = chain.with_name("child.yaml")
    child.write_text("extends: chain.yaml\nstages: {adapt: {seed: 3}}\n")
    assert load_recipe(child, ["seed=7"]).stages["adapt"].seed is None


def test_an_override_can_remove_a_stage(chain: Path) -> None:
    assert "scores" not in load_recipe(chain, ["stages.scores=null"]).stages


def test_a_data_root_override_reaches_every_stage(chain: Path) -> None:
    recipe = load_recipe(chain, ["data.root=/data"])
    assert {stage.data.root for stage in recipe.stages.values()} == {"/data"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr", "an override is key=value"),
        ("optim..lr=1", "an override is key=value"),
        ("data.root=", "it has no value; write null"),
        ("optim.betas=[1", "the value is not YAML; quote it"),
        ("stages.adpat.optim.lr=1", "no such stage; did you mean 'adapt'?"),
        ("optm.lr=1", "optm = {'lr': 1}: unknown setting; did you mean 'optim'?"),
        ("optim.lrr=1", "optim.lrr = 1: unknown setting; did you mean 'lr'?"),
        ("stages.adapt.optim.lrr=1", "stages.adapt.optim.lrr = 1: unknown setting"),
        ("objective.mask_rat=1", "did you mean 'mask_rate'?"),
    ],
)
def test_a_wrong_override_is_refused(chain: Path, override: str, expected: str) -> None:
    message = failure(chain, override)
    assert expected in message
    assert message.startswith("1 problem in")


def test_an_override_that_no_stage_reads_is_refused(write: Write) -> None:
    only = write("stages: {t: {kind: tokenizer, data: {train: [{hub: a/b}]}}}\n")
    assert "optim.lr = 1: ignored setting: no stage" in failure(only, "optim.lr=1")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps=soon", "train.steps = 'soon': must be a whole number"),
        ("train.steps=1.5", "train.steps = 1.5: must be a whole number"),
        ("train.steps=true", "train.steps = True: must be a whole number"),
        ("train.steps=null", "train.steps = null: must be a whole number"),
        ("hardware.devices=many", "must be a whole number or null"),
        ("optim.lr=fast", "optim.lr = 'fast': must be a number"),
        ("optim.betas=[0.9]", "must be a list of 2 values, each a number"),
        ("model.trust_remote_code=1", "must be true or false"),
        (
            "model.revision=12e5",
            "must be quoted text (YAML reads what is written there as a number",
        ),
        ("data.prompt={src}", "must be quoted text or null"),
        ("optim.schedule=cosin", "inverse_sqrt, linear, cosine, constant; did you mean 'cosine'?"),
        ("data.task=txt", "alpaca, chat or null; did you mean 'text'?"),
        ("stages.scores.evaluation.tasks=words", "must be a list, each item quoted text"),
        ("stages.scores.evaluation.tasks=[1]", "evaluation.tasks[0] = 1: must be quoted text"),
        ("languages=[no, en]", "languages[0] = False: must be quoted text (YAML reads no, off and"),
        ("data.train=[{path: 2024}]", "data.train[0].path = 2024: must be quoted text (YAML"),
        (
            "data.train=[{path: a.jsonl, fields: {src: no, tgt: en}}]",
            "data.train[0].fields.src = False: must be quoted text (YAML reads no, off and false",
        ),
        (
            "data.train=[{path: a.jsonl, fields: {on: de}}]",
            "the key True of data.train[0].fields = True: must be quoted text (YAML reads yes",
        ),
        (
            "data.train=[{path: a.jsonl, keep_only: {lang: [en, 1.10]}}]",
            "data.train[0].keep_only.lang[1] = 1.1: must be quoted text",
        ),
        ("data.task=on", "chat or null; YAML reads yes, on and true as true: quote it"),
        ("data.train={hub: a/b}", "must be a list, each item a mapping"),
        ("data.train=[3]", "data.train[0] = 3: must be a mapping of settings"),
        ("data.train=[{pth: x}]", "data.train[0].pth = 'x': unknown setting; did you mean 'path'?"),
        ("stages.scores.evaluation.only=[a]", "must be a mapping"),
        ("optim=null", "optim = null: must be a mapping of settings"),
        ("stages.adapt.kind=adpt", "stages.adapt.kind = 'adpt': must be one of tokenizer"),
        ("stages.adapt=5", "stages.adapt = 5: must be a mapping of settings"),
        (
            "stages.scores.evaluation.systems={diffusion: {generation: {sampelr: x}}}",
            "evaluation.systems.diffusion.generation.sampelr = 'x': unknown setting; did you mean",
        ),
    ],
)
def test_a_wrong_type_is_named_with_what_is_expected(
    chain: Path, override: str, expected: str
) -> None:
    message = failure(chain, override)
    assert expected in message
    assert message.startswith("1 problem in")


def test_all_problems_come_in_one_message(write: Write) -> None:
    message = failure(
        write(
            "optim: {lrr: 0.1, warmup_steps: -2}\n"
            "stages:\n"
            "  pretrain: {kind: pretrain, objective: {time: discret}, train: {steps: soon}}\n"
            "  adapt: {kind: adapt, init_from: pretrian, data: {train: [{generator: a}]}}\n"
        ),
        "stages.adpt.seed=1",
    )
    assert message.splitlines()[0].endswith("chain.yaml:")
    assert message.startswith("9 problems in")
    for part in (
        "stages.adpt.seed = 1: the recipe has no such stage",
        "optim.lrr = 0.1",
        "objective.time = 'discret'",
        "train.steps = 'soon'",
        "optim.warmup_steps = -2: must be at least 0",
        "stages.pretrain.data.train: missing",
        "stages.pretrain.tokenizer: missing",
        "did you mean 'pretrain'?",
        "stages.adapt.data.train[0]: generator needs count",
    ):
        assert part in message


def test_a_problem_in_a_default_is_reported_once_and_where_it_is_written(chain: Path) -> None:
    assert failure(chain, "optim.lr=-1").count("optim.lr = ") == 1


def test_a_misspelt_key_is_not_also_reported_as_missing(chain: Path) -> None:
    child = chain.with_name("child.yaml")
    child.write_text("stages: {l: {kind: length, init_form: a/b, data: {trian: [{hub: a/b}]}}}\n")
    message = failure(child)
    assert message.startswith("2 problems") and "missing" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n- b\n", "not a list"),
        ("42\n", "must be a mapping of settings"),
        ("seed: 1\nstages: [1,\noptim: 2\n", "not valid YAML"),
        ("seed: 1\nseed: 2\n", "line 2: not valid YAML: found duplicate key seed"),
        ("data: {root: '${x'}\n", "cannot be read"),
        ("stages: 3\n", "stages = 3: must be a mapping of stages by name"),
        ("stages: {}\n", "stages: a recipe needs at least one stage"),
        ("stages: {a: {seed: 1}}\n", "stages.a.kind: missing: must be one of tokenizer"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(write: Write, text: str, expected: str) -> None:
    message = failure(write(text))
    assert expected in message and "chain.yaml" in message


def test_loading_imports_no_torch(chain: Path) -> None:
    code = (
        "import sys; from dlm.config.loading import load_recipe; load_recipe(sys.argv[1]);"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(chain)], cwd=root, check=True)
