"""Every block and every piece of code in README, CONTRIBUTING and docs/ is true of this version."""

import re
import shlex
from pathlib import Path

import doc_blocks
import pytest
from doc_blocks import Block, block_problems, blocks, command_problems, commands, inline_problems

from dlm.cli import main

BLOCKS = [block for page in doc_blocks.PAGES for block in blocks(page)]
QUICK = sorted(
    {
        command
        for block in BLOCKS
        if block.language == "bash" and block.page.name not in ("README.md", "first-hour.md")
        for command in commands(block)
        if doc_blocks.runs_quickly(command)
    }
)
"""test_readme.py runs all of the other two, with a finished run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie that the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    doc_blocks.write_titled(folder)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_every_block_is_true() -> None:
    assert {block.language for block in BLOCKS} >= {"bash", "yaml", "python"}
    assert [problem for block in BLOCKS for problem in block_problems(block)] == []


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if not block.language] == []


def test_running_text_names_only_what_exists() -> None:
    assert [line for page in doc_blocks.PAGES for line in inline_problems(page)] == []


@pytest.mark.parametrize("command", QUICK)
def test_commands_that_change_nothing_run(command: str) -> None:
    arguments = doc_blocks.arguments_of_dlm(shlex.split(command))
    assert main(arguments) == 0


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_to_files(name: str) -> None:
    """Those of the site's pages are checked by its build."""
    text = (doc_blocks.ROOT / name).read_text(encoding="utf-8")
    targets = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in targets if not (doc_blocks.ROOT / link).exists()] == []


def made(language: str, text: str) -> Block:
    return Block(Path("page.md"), 1, language, None, text)


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("bash", "dlm run quickstart --dry-runs", "unknown argument: --dry-runs"),
        ("bash", "dlm runs quickstart", "invalid choice: 'runs'"),
        ("bash", "dlm ls recipe", "invalid choice: 'recipe'"),
        ("bash", "dlm run RECIPE optim.lrr=1", "optim.lrr"),
        ("bash", "dlm show quickstart \\\n  optim.lr=fast", "must be a number"),
        ("bash", "dlm run no/such", "no recipe 'no/such'"),
        ("bash", "torchrun --nproc-per-node 2 -m dlm.cli run RECIPE --onyl x", "--onyl"),
        ("bash", "dlm submit quickstart --cluster slurmy", "no cluster file 'slurmy'"),
        ("bash", "make quickstrat", "no target 'quickstrat'"),
        ("", "dlm run quickstart --dry-runs", "--dry-runs"),
        ("yaml", "train: {stepps: 3}", "train.stepps"),
        ("yaml", "extends: quickstart\nstages: {adapt: {kind: adopt}}", "stages.adapt.kind"),
        ("yaml", "scheduler: slurm\nnode: 3", "node"),
        ("yaml", "version: 1\nsource: {path: x}\nmetrics: [blue]", "blue"),
        ("yaml", "- a list", "must be a recipe"),
        ("python", "from dlm.models import nothing", "ImportError"),
        ("python", "assert 1 == 2", "AssertionError"),
    ],
)
def test_a_block_that_is_not_true_is_found(language: str, text: str, said: str) -> None:
    (problem,) = block_problems(made(language, text + "\n"))
    assert problem.startswith("page.md:1: ") and said in problem


@pytest.mark.parametrize(
    "text",
    [
        "`train.stepz=3`", "set `stages.adapt.train.stepz` and `train.steps`",
        "`dlm explain`", "| `dlm plan RECIPE` | `--nodes --from` |", "`--no-such-flag`",
        "`dlm status RUN --dry-run`",
    ],
)  # fmt: skip
def test_a_name_in_running_text_that_does_not_exist_is_found(text: str, folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(f"# Page\n\n```bash\n`train.nothing`\n```\n{text}\n")
    (problem,) = inline_problems(page)
    assert problem.startswith("page.md:6: no ")


def test_what_is_no_setting_is_left_alone(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(
        "`train.jsonl`, `dlm/data/rows.py`, `data.train`, `pip --yes`, `my.train.steps`\n"
    )
    assert list(inline_problems(page)) == []


def test_other_programs_are_left_alone() -> None:
    assert command_problems("pip install mkdocs --no-such-flag") == []
