"""Code in the documentation, held against the program: commands, settings, recipes, Python.

A block of ```bash is parsed by the real command line, its recipe and overrides by the real loader;
```yaml is loaded as the recipe, task or cluster file that it is; ```python is executed. In running
text, `dlm VERB --flag` and `section.key` must exist. Other languages are not looked into.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import reference
import yaml

from dlm.cli import _take_overrides, build_parser
from dlm.cluster.settings import load_cluster
from dlm.config.loading import load_recipe
from dlm.config.shipped import shipped_recipes
from dlm.errors import DlmError
from dlm.evaluation.tasks import load_task
from dlm.verbs.recipes import KINDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
QUICK_VERBS = ("ls", "show", "validate", "plan")
"""Verbs that change nothing and take no time; with --dry-run the others are such too."""
OPENS_A_RUN = 'dlm.load("runs/quickstart")'
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_|]*")
_VALUE = re.compile(r"=[A-Z]+$")
"""What a reader fills in, DIR or the like: a path or the name of a model for the loader."""
_KEY = re.compile(r"(?<![\w./{-])(?:stages\.\w+\.)?([a-z_]+(?:\.[a-z_]+)+)(?![\w/({])")
_VERB = re.compile(r"dlm ([a-z]+)\b")
_FLAG = re.compile(r"(?<!\S)--[a-z][a-z_-]*")
_FILE_ENDINGS = (".py", ".yaml", ".md", ".csv", ".json", ".jsonl", ".html", ".txt", ".png", ".bz2",
                 ".safetensors")  # fmt: skip
# Of srun, sbatch, torchrun, apptainer, lm_eval.
_FOREIGN = {"--nnodes", "--node-rank", "--master-addr", "--master-port", "--requeue", "--nv",
            "--exclusive", "--signal", "--nproc-per-node", 
            "--model", "--batch_size", "--use_cache"}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    title: str | None
    """The file that it is, for readers and for later commands."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        words = match[2].split(maxsplit=1)
        title = re.search(r'title="([^"]+)"', match[2])
        body = "\n".join(line.removeprefix(match[1]) for line in match[3].splitlines()) + "\n"
        line = text.count("\n", 0, match.start()) + 1
        language = words[0] if words else ""
        found.append(Block(page, line, language, title[1] if title else None, body))
    return found


def commands(block: Block) -> list[str]:
    """The commands of a block of bash, without comments, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = [re.split(r"(?:^|\s)#\s", line)[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def block_problems(block: Block) -> list[str]:
    """What a block says that the program does not know."""
    if block.language == "bash" or (not block.language and re.search(r"^dlm ", block.text, re.M)):
        found = [problem for line in commands(block) for problem in command_problems(line)]
    elif block.language in ("yaml", "yml"):
        found = yaml_problems(block.text, block.title)
    elif block.language == "python":
        found = python_problems(block.text, str(block))
    else:
        found = []
    return [f"{block}: {problem}" for problem in found]


def command_problems(command: str) -> list[str]:
    """What is wrong with a shell command that calls `dlm` or `make`; others are not looked at."""
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)
        return [f"no target '{words[1]}': {command}"] * (words[1] not in [*targets, *_stages()])
    arguments = arguments_of_dlm(words)
    if arguments is None:
        return []
    said = io.StringIO()
    parser = build_parser()
    try:
        with contextlib.redirect_stderr(said):
            options, rest = parser.parse_known_args(arguments)
            _take_overrides(options, rest)
        if "recipe" in options:
            # Shipped recipes as they are have a test of their own.
            recipe = "quickstart" if _PLACEHOLDER.fullmatch(options.recipe) else options.recipe
            values = [_VALUE.sub("=a/b", override) for override in options.overrides]
            if values or recipe not in shipped_recipes():
                load_recipe(recipe, values)
        if getattr(options, "cluster", None) not in (None, "FILE"):
            load_cluster(options.cluster)
    except SystemExit:
        return [f"{command}: {said.getvalue().splitlines()[-1]}"]
    except DlmError as error:
        return [f"{command}: {error}"]
    return []


def arguments_of_dlm(words: list[str]) -> list[str] | None:
    """What stands behind `dlm` (or `-m dlm.cli` of a launcher); None where it is not called."""
    names = ("dlm", "dlm.cli", ".venv/bin/dlm")
    place = next((place for place, word in enumerate(words) if word in names), None)
    return None if place is None else words[place + 1 :]


def runs_quickly(command: str) -> bool:
    """Whether a test may simply run it: it changes nothing, and has no placeholder."""
    arguments = arguments_of_dlm(shlex.split(command))
    if not arguments or "dlm" not in command.split()[0]:
        return False
    values = [word.rpartition("=")[2] for word in arguments]
    if any(_PLACEHOLDER.fullmatch(value) for value in values):
        return False
    return arguments[0] in QUICK_VERBS or "--dry-run" in arguments


def yaml_problems(text: str, title: str | None = None) -> list[str]:
    """What is wrong with a task, a cluster file, a recipe or a part of one, which is put upon the
    quickstart. A block with a title is read from the file of that name, which must be there."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        return ["a block of yaml must be a recipe, a task or a cluster file; else call it text"]
    file = Path(title or "block.yaml")
    load: Callable[[str], object] = load_recipe
    if {"version", "source"} <= raw.keys():
        load = load_task
    elif "scheduler" in raw:
        load = load_cluster
    elif not {"extends", "stages"} & raw.keys():
        text = f"extends: quickstart\n{text}"
    if title is None:
        file.write_text(text, encoding="utf-8")
    try:
        load(str(file))
    except DlmError as error:
        return [str(error)]
    return []


def python_problems(text: str, place: str) -> list[str]:
    """What happens if it is executed, if that is anything; the registries stay as they were."""
    from dlm.diffusion.sampling.samplers import SAMPLERS

    try:
        code = compile(text, place, "exec")
        if OPENS_A_RUN in text:  # executed by tests/test_readme.py, which has it
            return []
        with patch.dict(SAMPLERS):
            exec(code, {"__name__": "docs"})
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []


def inline_problems(page: Path) -> Iterator[str]:
    """Verbs, flags and settings in running text that do not exist."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), start=1):
        # `a``b` of Markdown tables: a bar is escaped there.
        spans = [span.replace("\\|", "|") for span in re.findall(r"`+([^`]+)`+", line)]
        for problem in line_problems(spans, row=line.startswith("|")):
            yield f"{page.name}:{number}: {problem}"


def line_problems(spans: list[str], *, row: bool) -> Iterator[str]:
    """The same for the pieces of code of one line. Flags behind `dlm VERB` are that verb's; alone
    they are any verb's, in a row of a table those of the verbs that the row names."""
    of_row = [found[1] for span in spans if (found := _VERB.match(span))] if row else []
    for span in spans:
        verb = _VERB.match(span)
        if verb and verb[1] not in flags():
            yield f"no verb `dlm {verb[1]}`"
            continue
        verbs = [verb[1]] if verb else of_row
        known = set().union(*(flags().get(name, set()) for name in verbs or flags()))
        for flag in _FLAG.findall(span) if verb or span.startswith("--") else ():
            if flag not in known | _FOREIGN:
                yield f"no flag {flag} of {', '.join(verbs) or 'any verb'}: `{span}`"
        for key in _KEY.findall(span):
            top = key.partition(".")[0]
            if top in sections() and not key.endswith(_FILE_ENDINGS) and key not in settings():
                yield f"no setting {key}: `{span}`"


@cache
def flags() -> dict[str, set[str]]:
    """Verb -> its flags."""
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    assert isinstance(verbs.choices, dict)
    return {
        name: {word for action in verb._actions for word in action.option_strings}
        for name, verb in verbs.choices.items()
    }


@cache
def settings() -> set[str]:
    """Every key of a recipe, as the reference lists them, items of lists without brackets."""
    anchors = re.findall(r"\{#([^}]+)\}", reference.settings_page())
    return {anchor.replace("[]", "").replace(".NAME", "") for anchor in anchors}


def sections() -> set[str]:
    """The first words of settings."""
    return {key.partition(".")[0] for key in settings() if "." in key} - {"stages"}


def _stages() -> list[str]:
    return list(KINDS)


def write_titled(folder: Path) -> None:
    """Every block with a title becomes the file of that name, and recipes lie where they do."""
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for block in (block for page in PAGES for block in blocks(page)):
        if block.title is not None:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            assert not file.exists() or file.read_text() == block.text, f"{block}: written twice"
            file.write_text(block.text, encoding="utf-8")
