"""Names and values as text of another language, one writer each, that reads back as what was given.

A shell's words are written by :func:`shlex.quote`, HTML by :func:`html.escape`, CSV by :mod:`csv`.
"""

import re
from collections.abc import Iterable
from typing import Any

import yaml

_PLAIN_FOR_SBATCH = re.compile(r"[A-Za-z0-9_./:=@,+%-]+")
_PLAIN_YAML = re.compile(r"[A-Za-z/][A-Za-z0-9_./:-]*(?<!:)")
_BEGINS_A_BLOCK = re.compile(r"^(?:([#+=-])(?=[ #=-]|$)|(\[)|(\d{1,9})([.)])(?= |$))")
_YAML_WORDS = re.compile("y|n|yes|no|on|off|true|false|null", re.IGNORECASE)


def sbatch_value(text: str) -> str:
    """A value behind ``#SBATCH --option=``. Slurm reads the line itself: it knows quotes, takes
    what follows a backslash as it is, and would begin a comment at ``#``. The text is one line."""
    if _PLAIN_FOR_SBATCH.fullmatch(text):
        return text
    return '"' + re.sub(r"([\"'\\#])", r"\\\1", text) + '"'


def sbatch_path(text: str, pattern: str) -> str:
    """A file name of sbatch that ends in a pattern such as ``-%j.out``; before it a ``%`` is one.
    It cannot hold a backslash."""
    return sbatch_value(text.replace("%", "%%") + pattern)


def on_one_line(text: str) -> str:
    """A text for a comment or a message: what cannot be shown on a line stands as its escape."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


class _Dumper(yaml.SafeDumper):
    """Texts quoted wherever some reader of YAML, 1.1 or 1.2, could take them for another scalar."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN_YAML.fullmatch(text) and not _YAML_WORDS.fullmatch(text)
    # Another line break than "\n" would come back from a block as that one.
    block = "\n" in text and text.replace("\n", "").isprintable()
    style = "|" if block else None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(*documents: Any) -> str:
    """Values as YAML documents, in the order of their keys; texts of several lines as blocks."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def markdown_text(text: str) -> str:
    """Text that Markdown shows to the letter, on one line; blanks in a row are one."""
    shown = on_one_line(" ".join(text.split()))
    # "_" inside a word is no mark; "[" is one before "(", "[" or a definition's ":".
    shown = re.sub(r"([\\`*|~$]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", shown)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # What would begin a heading, a list, a rule or a quotation.
    return re.sub(_BEGINS_A_BLOCK, r"\3\\\1\2\4", shown)


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """Text as code; blanks in a row are one. In a table a bar is escaped in code too."""
    shown = on_one_line(" ".join(text.split()))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    code = f"{fence}{pad}{shown}{pad}{fence}"
    return code.replace("|", "\\|") if in_table else code


def markdown_row(texts: Iterable[str]) -> str:
    """A row of a table, of texts that are Markdown already."""
    return "| " + " | ".join(texts) + " |"
