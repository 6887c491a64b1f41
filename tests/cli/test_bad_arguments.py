"""Commands and recipes that mean nothing: one message, the nearest right word, exit code 2."""

import argparse
from importlib.metadata import version
from pathlib import Path

import pytest
from cli_tools import RECIPE, Caller, TrainedRun, dlm, files_of

from dlm.cli import build_parser, main
from dlm.config.ranges import OF_OPTION
from dlm.errors import StageFailed

OVERRIDES = {
    "optm.lr=1e-4": "optm = {'lr': 0.0001}: unknown setting; did you mean 'optim'?",
    "stages.adapt.optim.lrr=1": "stages.adapt.optim.lrr = 1: unknown setting; did you mean 'lr'?",
    "stages.adpat.optim.lr=1": "the recipe has no such stage; did you mean 'adapt'?",
    "optim.lr=fast": "optim.lr = 'fast': must be a number",
    "train.steps=2.5": "train.steps = 2.5: must be a whole number",
    "train.steps=0": "train.steps = 0: must be at least 1",
    "optim.schedule=cosin": "must be one of inverse_sqrt, linear, cosine, constant",
    "stages.adapt.data.task=translatio": "did you mean 'translation'?",
    "train.steps": "an override is key=value, such as optim.lr=1e-5",
    "stages.adapt.init_from=pretrian": "did you mean 'pretrain'?",
    "data.root=/nowhere": "data.root = '/nowhere': no such directory",
    "stages.evaluate.evaluation.tasks=[numbers_en_d]": "did you mean 'numbers_en_de'?",
    "stages.evaluate.generation.sampler=frozen-cosin": "did you mean 'frozen-cosine'?",
    "stages.evaluate.evaluation.systems.oracle.generation.sampler=frozen": "unknown sampler",
    "stages.evaluate.evaluation.systems.oracle.model=lenght": "did you mean 'length'?",
    "stages.evaluate.evaluation.systems.predicted.model=adapt": (
        "evaluation.systems.predicted.model = 'adapt': has no length predictor: evaluate the "
        "`length` stage made from it (length), or set generation.length: oracle"
    ),
    "stages.adapt.validation.metric=perplexity": "evaluate a task of kind perplexity instead",
    "stages.evaluate.evaluation.likelihood.samples=8": "no task estimates a likelihood",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_is_refused_before_anything_is_written(
    override: str, call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    outcome = call("run", recipe_file, override, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert OVERRIDES[override] in outcome.err
    assert "continue with" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_every_problem_of_a_recipe_is_in_one_message(call: Caller, recipe_file: Path) -> None:
    outcome = call("run", recipe_file, "optm.lr=1", "train.steps=x", "seed=a")
    assert outcome.code == 2
    assert f"3 problems in {recipe_file}" in outcome.err


RECIPES = {
    "": "the file is empty; a recipe needs at least `stages:`",
    "stages: [a\n": "line 2: not valid YAML",
    "- a": "a recipe is a mapping of settings",
    "stages: {a: {kind: adpat}}": "did you mean 'adapt'?",
    "extends: quikstart": "did you mean 'quickstart'?",
}


@pytest.mark.parametrize("text", RECIPES)
def test_a_file_that_is_no_recipe_is_named(text: str, call: Caller, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for verb in ("run", "validate", "show"):
        outcome = call(verb, path)
        assert outcome.code == 2
        assert str(path) in outcome.err and RECIPES[text] in outcome.err


def test_a_recipe_that_is_not_utf8_is_named(call: Caller, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"description: \xff\n")
    outcome = call("validate", path)
    assert outcome.code == 2
    assert f"{path}: cannot be read as YAML in UTF-8" in outcome.err


def test_an_unknown_recipe_name_brings_the_nearest_and_the_list(call: Caller) -> None:
    outcome = call("run", "quikstart")
    assert outcome.code == 2
    assert "did you mean 'quickstart'?" in outcome.err
    assert "Shipped recipes: " in outcome.err


def test_validate_reports_every_recipe_and_not_the_first_alone(
    call: Caller, recipe_file: Path
) -> None:
    sampler = "stages.evaluate.generation.sampler=frozen-cosin"
    outcome = call("validate", recipe_file, "nothere.yaml", "--set", sampler)
    assert outcome.code == 2
    assert "did you mean 'frozen-cosine'?" in outcome.err
    assert "no recipe 'nothere.yaml'" in outcome.err


COMMANDS: dict[tuple[str, ...], str] = {
    (): "the following arguments are required: VERB",
    ("rnu",): "invalid choice: 'rnu' (choose from",
    ("run", "--dryrun"): "unknown argument: --dryrun; did you mean '--dry-run'?",
    ("run", "--dry"): "unknown argument: --dry",
    ("generate", "m", "--prompt", "a", "--step", "3"): "did you mean '--steps'?",
    ("generate", "m", "--prompt", "a", "--num-iteration", "3"): "you mean '--num-iterations'?",
    ("status",): "the following arguments are required: RUN_DIR",
    ("status", "here", "optim.lr=1"): "unknown argument: optim.lr=1",
    ("ls", "sampler"): "invalid choice: 'sampler'",
    ("generate", "somewhere"): "one of the arguments --prompt --input is required",
    ("generate", "m", "--prompt", "a", "--input", "f"): "not allowed with argument",
    ("evaluate", "m", "--tasks", "a", "--output", "o", "--length", "orcle"): "invalid choice",
    ("evaluate", "m", "--tasks", "a", "--output", "o", "--limit", "x"): "invalid int value",
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_mistyped_command_shows_the_usage_of_its_verb(
    words: tuple[str, ...], call: Caller
) -> None:
    outcome = call(*words)
    assert outcome.code == 2
    assert COMMANDS[words] in outcome.err.replace("\n", " ")
    known = words and words[0] != "rnu"
    assert outcome.err.startswith(f"usage: dlm {words[0] if known else '[-h]'}")


@pytest.mark.parametrize(
    "words",
    [("optim.lr=1e-5", "--dry-run"), ("--dry-run", "optim.lr=1e-5"), ("--dry-run",)],
    ids=" ".join,
)
def test_run_without_a_recipe_runs_quickstart(
    words: tuple[str, ...], call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("run", *words)
    assert outcome.code == 0
    assert outcome.out.startswith("plan: quickstart in runs/quickstart\n")
    assert list(tmp_path.iterdir()) == []


def test_overrides_count_on_either_side_of_the_options(call: Caller, trained: TrainedRun) -> None:
    for words in (("train.steps=30", "--dry-run"), ("--dry-run", "train.steps=30")):
        outcome = call("run", trained.recipe, *words, "--run-dir", trained.directory)
        assert "train.steps: 20 -> 30" in outcome.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--only", "adpat"), "--only adpat: recipe tiny has no such stage; did you mean 'adapt'?"),
        (("--from", "adapt", "--to", "pretrain"), "--from adapt comes after --to pretrain"),
        (("--only", "adapt", "--to", "length"), "--only cannot be combined"),
        (("--only", "adapt", "--force", "length"), "the stage is not among those that run"),
    ],
)
def test_a_selection_of_stages_that_contradicts_itself_is_refused(
    words: tuple[str, ...], text: str, call: Caller, trained: TrainedRun
) -> None:
    before = files_of(trained.directory)
    outcome = call("run", trained.recipe, "--run-dir", trained.directory, *words)
    assert outcome.code == 2
    assert text in outcome.err
    assert outcome.last_line.startswith("what is done is kept: once that is corrected")
    assert files_of(trained.directory) == before


def test_a_run_directory_that_is_a_file_is_refused(call: Caller, recipe_file: Path) -> None:
    for place in (recipe_file, recipe_file / "below"):
        outcome = call("run", recipe_file, "--run-dir", place)
        assert outcome.code == 2
        assert f"{recipe_file} is a file: give --run-dir a directory" in outcome.err


def test_another_configuration_is_refused_and_shows_the_ways_on(
    call: Caller, trained: TrainedRun
) -> None:
    before = files_of(trained.directory)
    outcome = call("run", trained.recipe, "--run-dir", trained.directory, "optim.lr=1e-5")
    assert outcome.code == 2
    assert "optim.lr: 0.002 -> 1e-05" in outcome.err
    assert "--run-dir DIR" in outcome.err and "--force pretrain" in outcome.err
    assert files_of(trained.directory) == before


def test_status_of_what_is_no_run_says_so(call: Caller, tmp_path: Path) -> None:
    outcome = call("status", tmp_path)
    assert outcome.code == 2
    assert f"{tmp_path} is no run directory: it has no recipe.yaml" in outcome.err


def test_a_failed_stage_ends_with_3_and_the_command_that_continues(
    call: Caller, begun: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: object) -> dict[str, object]:
        raise StageFailed("the accelerator is gone")

    monkeypatch.setattr("dlm.recipe.kinds.execute", fail)
    outcome = call("run", begun.recipe, "--run-dir", begun.directory, "--to", "adapt")
    assert outcome.code == 3
    assert "error: the accelerator is gone" in outcome.err
    assert outcome.last_line == (
        f"continue with: dlm run {begun.recipe} --run-dir {begun.directory} --to adapt"
    )


def test_what_nobody_foresaw_ends_with_3_and_its_traceback(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("dlm.verbs.recipes.ls", fail)
    outcome = call("ls")
    assert outcome.code == 3
    assert "Traceback" in outcome.err
    assert outcome.last_line.startswith("error: ZeroDivisionError: a bug")


def test_exit_codes_and_messages_of_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    assert dlm("validate", "tiny.yaml", cwd=tmp_path).code == 0
    outcome = dlm("run", "tiny.yaml", "optm.lr=1", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "error: 1 problem in tiny.yaml:",
        "  optm = {'lr': 1}: unknown setting; did you mean 'optim'? (on the command line: "
        "optm.lr=1)",
    ]
    assert outcome.out == ""


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dlm {version('dlm')}\n"


def test_validate_takes_overrides_as_run_does(call: Caller, recipe_file: Path) -> None:
    assert call("validate", recipe_file, "optim.lr=1e-5").code == 0
    refused = call("validate", recipe_file, "optim.lr=-1", "optm.lr=1")
    assert refused.code == 2
    assert "optm = {'lr': 1}: unknown setting" in refused.err
    assert "(on the command line: optm.lr=1)" in refused.err


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=-1", "optim.lr = -1"),
        ("stages.adapt.optim.lr=-1", "stages.adapt.optim.lr = -1"),
        ("stages.adapt.optim={lrr: 1}", "stages.adapt.optim.lrr = 1"),
        ("optm.lr=1", "optm = {'lr': 1}"),
    ],
)
def test_a_problem_names_the_override_that_it_comes_from(
    override: str, line: str, call: Caller, recipe_file: Path
) -> None:
    told = call("validate", recipe_file, override).err
    problems = [text for text in told.splitlines() if line in text]
    assert problems and all(f"(on the command line: {override})" in text for text in problems)
    assert "on the command line" not in call("validate", recipe_file, "train.steps=3").err


def test_a_problem_beside_an_override_is_not_blamed_on_it(
    call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "broken.yaml"
    recipe.write_text(recipe_file.read_text() + "optm: {lr: 1, eps: 2}\n")
    told = call("validate", recipe, "optm.lr=3").err
    assert "optm = {'lr': 3, 'eps': 2}: unknown setting" in told
    assert "on the command line" not in told


def test_every_number_of_every_verb_has_a_range() -> None:
    """But for what other checks bound: a port, a share that only explains itself ..."""
    unbounded = set()
    parser = build_parser()
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for verb in verbs.choices.values():
        for action in verb._actions:
            if action.type in (int, float) and action.dest not in OF_OPTION:
                unbounded.add(action.dest)
    assert unbounded == set()


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e400", "99999999999999999999"])
@pytest.mark.parametrize("option", ["--mfu", "--tflops", "--gpu-memory"])
def test_a_number_outside_its_range_is_refused(option: str, value: str, call: Caller) -> None:
    outcome = call("plan", "quickstart", option, value)
    assert outcome.code == 2 and outcome.err.startswith(f"error: {option} must be above 0 and")
