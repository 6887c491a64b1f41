"""Whether code that comes with a model runs is said at every call that could run it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dlm"
DOOR = PACKAGE / "models" / "outside.py"
SCRIPT = PACKAGE / "export" / "diffusion_generate.py"
"""Stands alone beside an export, so it opens what it needs itself."""
OPENERS = ("from_pretrained", "from_config")


def opening(source: str) -> Iterator[ast.AST]:
    """Calls of transformers' openers, imports of its Auto classes, and reads of standard input."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OPENERS:
            yield node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
            yield from (name for name in node.names if name.name.startswith("Auto"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("Auto"):
            yield node
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "input":
            yield node


@pytest.mark.parametrize(
    "source",
    [
        "AutoConfig.from_pretrained(x)", "from transformers import AutoTokenizer",
        "import transformers\ntransformers.AutoModel", "BertConfig.from_pretrained(x)",
        "from transformers.models.auto import AutoModel as M", "input('run it?')",
        "Model.from_config(config)",
    ],
)  # fmt: skip
def test_a_way_beside_the_door_is_found(source: str) -> None:
    assert list(opening(source))


def test_nothing_opens_a_model_beside_the_one_place() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path not in (DOOR, SCRIPT)]
    found = [
        f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', '?')}"
        for path in others
        for node in opening(path.read_text(encoding="utf-8"))
    ]
    assert len(others) > 100 and found == [], "open it with dlm.models.outside"


@pytest.mark.parametrize("path", [DOOR, SCRIPT], ids=["door", "script"])
def test_every_call_there_says_whether_code_is_run(path: Path) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in OPENERS
    ]
    said = [{keyword.arg for keyword in call.keywords} for call in calls]
    assert calls and all("trust_remote_code" in keywords for keywords in said)
