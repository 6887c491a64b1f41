"""The messages that the page quotes are messages of the program."""

import ast
import re
from functools import cache

from doc_blocks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


@cache
def texts() -> str:
    """Every piece of text in the program's source, joined as Python joins it."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.glob("dlm/**/*.py")]
    constants = (
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)
    )
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


def test_quoted_messages_are_in_the_program() -> None:
    quoted = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
    assert len(quoted) >= 8
    assert [words for words in quoted if words not in texts()] == []
