"""Commands that only look at recipes and runs: without torch, and their output is whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import REPOSITORY, Caller, TrainedRun, environment

from dlm.cli import build_parser
from dlm.config.loading import load_recipe
from dlm.config.shipped import shipped_recipes

LISTINGS = {
    "recipes": "quickstart",
    "stages": "pretrain",
    "tasks": "multi30k_de_en",
    "samplers": "reparam-uncond-deterministic-cosine",
    "objectives": "rdm_linear",
    "generators": "number_pairs",
}
HEAVY = ("torch", "transformers", "lightning", "datasets", "deepspeed")
LIGHT_COMMANDS = [
    ["--help"],
    ["ls"],
    ["ls", "stages"],
    ["ls", "tasks"],
    ["ls", "generators"],
    ["ls", "objectives"],
    ["validate", "RECIPE"],
    ["show", "RECIPE"],
    ["status", "RUN", "--json"],
    ["submit", "RECIPE", "--cluster", "slurm-cpu", "--run-dir", "NEW", "--dry-run"],
    ["run", "RECIPE", "--run-dir", "RUN", "--dry-run"],
    ["run", "RECIPE", "--run-dir", "RUN", "--dry-run", "optm.lr=1"],
]


def test_looking_at_recipes_and_runs_needs_no_torch(trained: TrainedRun) -> None:
    places = {"RECIPE": str(trained.recipe), "RUN": str(trained.directory)}
    commands = [[places.get(word, word) for word in words] for words in LIGHT_COMMANDS]
    code = (
        "import contextlib, io, sys\n"
        "from dlm.cli import build_parser, main\n"
        "build_parser()\n"
        f"heavy = lambda: [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not heavy(), ('importing dlm.cli', heavy())\n"
        f"for words in {commands}:\n"
        "    sink = io.StringIO()\n"
        "    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):\n"
        "        try: main(words)\n"
        "        except SystemExit: pass\n"
        "    assert not heavy(), (words, heavy())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", LISTINGS)
def test_every_listing_has_a_line_with_words_for_each_name(what: str, call: Caller) -> None:
    outcome = call("ls", what)
    assert outcome.code == 0
    rows = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert LISTINGS[what] in rows
    assert all(rows.values())


def test_ls_alone_lists_the_recipes(call: Caller) -> None:
    assert call("ls").out == call("ls", "recipes").out


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_loads_and_validates(name: str, call: Caller, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.stages
    sources = [source for stage in recipe.stages.values() for source in stage.data.train]
    sources += [source for stage in recipe.stages.values() for source in stage.data.validation]
    root = []
    if any(source.hub is None and source.generator is None for source in sources):
        root = ["--set", f"data.root={tmp_path}"]  # it reads local files alone
        for source in sources:
            path = tmp_path / (source.path or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    outcome = call("validate", name, *root)
    assert outcome.code == 0, outcome.err
    assert f"{name}: ok, " in outcome.out


def test_show_prints_a_recipe_that_loads_again(call: Caller, tmp_path: Path) -> None:
    outcome = call("show", "quickstart", "optim.lr=1e-5")
    path = tmp_path / "again.yaml"
    path.write_text(outcome.out, encoding="utf-8")
    assert load_recipe(path) == load_recipe("quickstart", ["optim.lr=1e-5"])


def test_status_as_json_tells_every_stage(call: Caller, trained: TrainedRun) -> None:
    outcome = call("status", trained.directory, "--json")
    assert outcome.code == 0
    assert outcome.out.endswith("}\n")
    stages = json.loads(outcome.out)["stages"]
    assert [(row["stage"], row["state"]) for row in stages] == [
        (name, "done") for name in ("tokenizer", "pretrain", "adapt", "length", "evaluate")
    ]
    assert stages[1]["metrics"]["train_rows"] == 200


def test_status_for_people_ends_its_line(call: Caller, trained: TrainedRun) -> None:
    outcome = call("status", trained.directory)
    assert outcome.code == 0
    assert outcome.out.endswith("\n")


@pytest.mark.parametrize("words", [["ls", "tasks"], ["show", "quickstart"], ["status", "RUN"],
                                   ["run", "RECIPE", "--run-dir", "RUN", "--dry-run"]],
                         ids=" ".join)  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(words: list[str], trained: TrainedRun) -> None:
    places = {"RECIPE": str(trained.recipe), "RUN": str(trained.directory)}
    command = [sys.executable, "-m", "dlm.cli", *(places.get(word, word) for word in words)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert errors == ""


def test_make_calls_only_verbs_that_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    called = set(re.findall(r"\$\(DLM\) ([a-z]+)", makefile))
    helped = build_parser().format_help()
    assert called == {"run", "generate", "status", "report", "plan", "bench", "submit", "cancel"}
    assert all(f"\n    {verb} " in helped for verb in called)
    phony = makefile.partition(".PHONY:")[2].partition("\n\n")[0].replace("\\", "").split()
    for target in phony:
        assert target == "$(STAGES)" or re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)


def test_the_layout_names_only_rooms_that_exist() -> None:
    layout = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = layout.partition("## Layout")[2].partition("**Imports")[0]
    for place in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[1:]:
        for path in re.findall(r"`(.*?)`", place):
            assert (REPOSITORY / path).exists(), path
