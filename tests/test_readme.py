"""The commands of README, results and first hour, run as a reader would, in a copy of the
project's folder."""

import json
import os
import re
import subprocess
from pathlib import Path

import doc_blocks
import pytest

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")


def commands() -> list[str]:
    """Every command of the README's and the results' bash blocks."""
    blocks = [block for page in PAGES for block in doc_blocks.blocks(page)]
    return [line for b in blocks if b.language == "bash" for line in doc_blocks.commands(b)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone; what runs write lands here."""
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("needs `make install` in the project: the README's commands use .venv/")
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".venv", "recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command: str, folder: Path) -> str:
    """Run a command of the pages; its output."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.mark.slow
def test_every_command_of_the_readme_runs_and_the_quickstart_keeps_its_word(clone: Path) -> None:
    for command in commands():
        if "=DIR" in command:
            data, models = (os.environ.get(f"DLM_REAL_{what}") for what in ("DATA", "MODELS"))
            if not data or (not models and "=BERT" in command):
                continue
            root = f"{data}/multi30k" if "multi30k" in command else data
            command = command.replace("=DIR", f"={root}") + " --dry-run"
            command = command.replace("=BERT", f"={models}/bert-tiny-mlm")
        output = run(command, clone)
        if "Translate to German" in command:
            assert output.strip() == "zweihundertsieben"
    results = clone / "runs" / "quickstart" / "09_evaluate" / "export"
    metrics = json.loads((results / "pretrained" / "numbers_en_de" / "metrics.json").read_text())
    assert metrics["generation"]["length"] == "predicted"
    assert metrics["scores"]["exact_match"]["score"] >= 95  # measured: 98
    differences = json.loads((results / "comparisons.json").read_text())
    names = ("first", "second", "metric")
    wanted = ("pretrained", "from scratch", "exact_match")
    gain = next(row for row in differences if tuple(row[name] for name in names) == wanted)
    assert gain["ci95_low"] > 0
    again = run("make quickstart", clone)
    assert again.count("skipped, finished") == 9


@pytest.mark.slow
def test_the_first_hour_runs_from_top_to_bottom(clone: Path) -> None:
    """It begins with the quickstart, which is finished if the README was run before."""
    seen = {command.removeprefix(".venv/bin/") for command in commands()} - {"make quickstart"}
    for block in doc_blocks.blocks(ROOT / "docs" / "first-hour.md"):
        if block.title is not None:
            (clone / block.title).parent.mkdir(exist_ok=True)
            (clone / block.title).write_text(block.text, encoding="utf-8")
        for command in doc_blocks.commands(block) if block.language == "bash" else ():
            if command not in seen:
                run(command, clone)
    metrics = clone / "out" / "greetings" / "greetings-test" / "metrics.json"
    assert json.loads(metrics.read_text())["scores"].keys() == {"exact_match", "chrf"}


def test_the_readme_names_only_verbs_that_exist() -> None:
    from dlm.cli import build_parser

    verbs = set(re.findall(r"\bdlm (\w+) ", " ".join(commands())))
    assert verbs
    parser = build_parser()
    known = next(a.choices for a in parser._actions if a.dest == "verb")
    assert known is not None and verbs <= set(known)
