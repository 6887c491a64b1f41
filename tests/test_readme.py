"""The commands of README, results and first hour, run as a reader would, in a copy of the
project's folder."""

import json
import os
import re
import shlex
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import doc_blocks
import pytest
from transformers import AutoTokenizer

from dlm.cli import build_parser, main
from dlm.config.loading import load_recipe
from dlm.data.generated.numbers import Date, Item, words

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")


def commands() -> list[str]:
    """Every command of the README's and the results' bash blocks."""
    blocks = [block for page in PAGES for block in doc_blocks.blocks(page)]
    return [line for b in blocks if b.language == "bash" for line in doc_blocks.commands(b)]


def generations() -> list[tuple[str, str, str | None]]:
    """Command, prompt and text to fill in of every `dlm generate runs/quickstart` of the two."""
    hour = doc_blocks.blocks(ROOT / "docs" / "first-hour.md")
    shown = [c for b in hour if b.language == "bash" for c in doc_blocks.commands(b)]
    found = []
    for command in dict.fromkeys([*commands(), *shown]):
        arguments = doc_blocks.arguments_of_dlm(shlex.split(command))
        if arguments and arguments[:2] == ["generate", "runs/quickstart"]:
            given = build_parser().parse_args(arguments)
            (prompt,) = given.prompt or [""]
            (infill,) = given.infill or [None]
            found.append((command, prompt, infill))
    return found


def python_blocks() -> list[tuple[str, str]]:
    """Python that opens the quickstart's run, and what the block behind it says is printed."""
    found = []
    for page in (ROOT / "README.md", ROOT / "docs" / "python.md"):
        blocks = doc_blocks.blocks(page)
        for block, behind in pairwise(blocks):
            if block.language == "python" and doc_blocks.OPENS_A_RUN in block.text:
                assert behind.language == "text", f"{block} shows no output"
                found.append((block.text, behind.text))
    return found


@cache
def english() -> dict[str, Item]:
    """The numbers and dates of the quickstart by their English words."""
    days = [Date(w, d, m) for w in range(7) for m in range(1, 13) for d in range(1, 29)]
    return {words(item, "en"): item for item in [*range(1, 10_000), *days]}


def trained_answer(prompt: str) -> str:
    """The answer of the quickstart's rows to a prompt that is one of them."""
    (source,) = load_recipe("quickstart").stages["instruct"].data.train
    language, _, text = prompt.removeprefix("Translate to ").partition(": ")
    target = {"German": "de", "French": "fr", "Spanish": "es"}.get(language, "")
    assert f"translate:en-{target}" in source.options["tasks"], f"it is not taught: {prompt}"
    assert text in english(), f"its rows have no such text: {prompt}"
    return words(english()[text], target)


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
    answers = {command: trained_answer(prompt) for command, prompt, _ in generations()}
    for command in commands():
        if command.startswith("dlm run fields/"):  # minutes each; CI has run the quickstart
            command += " --dry-run"
        if "=DIR" in command:
            data, models = (os.environ.get(f"DLM_REAL_{what}") for what in ("DATA", "MODELS"))
            if not data or (not models and "=BERT" in command):
                continue
            root = f"{data}/multi30k" if "multi30k" in command else data
            command = command.replace("=DIR", f"={root}") + " --dry-run"
            command = command.replace("=BERT", f"={models}/bert-tiny-mlm")
        output = run(command, clone)
        if (answer := answers.get(command)) is not None:
            assert output.strip() == answer
    results = clone / "runs" / "quickstart" / "09_evaluate" / "export"
    metrics = json.loads((results / "pretrained" / "numbers_en_de" / "metrics.json").read_text())
    assert metrics["generation"]["length"] == "predicted"
    assert metrics["scores"]["exact_match"]["score"] >= 95  # measured: 98
    differences = json.loads((results / "comparisons.json").read_text())
    names = ("first", "second", "metric")
    wanted = ("pretrained", "from scratch", "exact_match")
    gain = next(row for row in differences if tuple(row[name] for name in names) == wanted)
    assert gain["ci95_low"] > 0
    for code, printed in python_blocks():
        (clone / "use.py").write_text(code, encoding="utf-8")
        assert run(f"{clone / '.venv' / 'bin' / 'python'} use.py", clone) == printed
    again = run("make quickstart", clone)
    assert again.count("skipped, finished") == 9


@pytest.mark.slow
def test_the_first_hour_runs_from_top_to_bottom(clone: Path) -> None:
    """It begins with the quickstart, which is finished if the README was run before."""
    answers = {command: trained_answer(prompt) for command, prompt, _ in generations()}
    seen = {command.removeprefix(".venv/bin/") for command in commands()} - {"make quickstart"}
    for block in doc_blocks.blocks(ROOT / "docs" / "first-hour.md"):
        if block.title is not None:
            (clone / block.title).parent.mkdir(exist_ok=True)
            (clone / block.title).write_text(block.text, encoding="utf-8")
        for command in doc_blocks.commands(block) if block.language == "bash" else ():
            if command not in seen:
                output = run(command, clone)
                if command in answers:
                    assert output.strip() == answers[command]
    metrics = clone / "out" / "greetings" / "greetings-test" / "metrics.json"
    assert json.loads(metrics.read_text())["scores"].keys() == {"exact_match", "chrf"}


def test_what_the_pages_have_the_quickstart_write_is_what_it_is_taught() -> None:
    """Prompts in words that its rows use, with the answers that the page shows."""
    assert len(generations()) >= 3
    answers = {command: trained_answer(prompt) for command, prompt, _ in generations()}
    hour = doc_blocks.blocks(ROOT / "docs" / "first-hour.md")
    at = next(n for n, block in enumerate(hour) if "generate runs/quickstart" in block.text)
    wanted = [answers[command] for command in doc_blocks.commands(hour[at])]
    assert hour[at + 1].text.splitlines() == wanted


def test_the_text_to_fill_in_lacks_as_many_tokens_as_its_answer_has_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the quickstart's own tokenizer, which takes seconds to train."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["run", "quickstart", "--only", "tokenizer", "--run-dir", str(tmp_path)]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "01_tokenizer" / "export")
    infills = [(prompt, infill) for _, prompt, infill in generations() if infill is not None]
    assert infills
    for prompt, infill in infills:
        found = re.fullmatch(r"(.*)\[MASK(?::(\d+))?\](.*)", infill)
        assert found is not None
        start, masks, end = found.groups()
        whole, given = (tokenizer.tokenize(text) for text in (trained_answer(prompt), start))
        assert not end and whole[: len(given)] == given
        assert len(whole) - len(given) == int(masks or 1)


def test_the_readme_names_only_verbs_that_exist() -> None:
    verbs = set(re.findall(r"\bdlm (\w+) ", " ".join(commands())))
    assert verbs
    parser = build_parser()
    known = next(a.choices for a in parser._actions if a.dest == "verb")
    assert known is not None and verbs <= set(known)
