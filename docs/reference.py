"""The site's generated pages: every setting, every verb, every name, as Markdown.

They are made from what the program itself reads (the docstrings under the fields of the schema, the
parsers of the command line, the lists of `dlm ls`) while the site is built, and never written to
the repository: they cannot be stale.
"""

import argparse
import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dlm.cli import EPILOG, build_parser
from dlm.cluster.settings import ClusterConfig
from dlm.config import schema
from dlm.config.checks.every_stage import reads
from dlm.config.ranges import RANGE_OF
from dlm.config.shipped import shipped_recipes
from dlm.verbs.recipes import KINDS, listing

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)


def settings_page() -> str:
    """Every field of a recipe, by section: its key, type, default, range, meaning, readers."""
    parts = [
        "# Settings\n",
        "Everything a recipe may say. A section stands at the top of a recipe, as the default of "
        "every stage, or inside a stage, whose own value wins; on the command line `optim.lr=1e-5` "
        "sets both, `stages.adapt.optim.lr=1e-5` one stage. Made from the docstrings in "
        "`dlm/config/schema/`.\n",
        "**Not part of the fingerprint** marks settings that say where or how often, never what: "
        "a finished stage stays finished when they change.\n",
        "## At the top of a recipe {#recipe}\n",
        *_entries(schema.RecipeConfig, "", own=_sections_of(schema.RecipeConfig)),
        "## Of a stage {#stages}\n",
        "Under `stages.NAME`, beside the stage's own sections.\n",
        *_entries(schema.StageConfig, "stages.NAME", own=_sections_of(schema.StageConfig)),
    ]
    texts = docstrings(schema.Sections)
    for name, hint in get_type_hints(schema.Sections).items():
        kinds = [kind for kind in KINDS if reads(kind, name)]
        read_by = "every stage" if len(kinds) == len(KINDS) else _names(kinds)
        parts += [
            f"## `{name}` {{#{name}}}\n",
            f"{_escaped(texts[name])} {_escaped(inspect.getdoc(hint) or '')}\n",
            f"Read by: {read_by}.\n",
            *_entries(hint, name, kinds=kinds),
        ]
    return "\n".join(parts)


def cluster_page() -> str:
    """Every field of a cluster file."""
    parts = [
        "# Settings of a cluster file\n",
        "A cluster file says where a recipe runs: see [On a cluster](../cluster.md). What stands "
        "at its top is the default of every stage. Made from the docstrings in "
        "`dlm/cluster/settings.py`.\n",
        *_entries(ClusterConfig, ""),
    ]
    return "\n".join(parts)


def verbs_page() -> str:
    """Every verb with its arguments and options."""
    parser = build_parser()
    verbs = next(action for action in parser._actions if action.dest == "verb")
    assert isinstance(verbs.choices, Mapping)
    parts = ["# Verbs\n", "What `dlm VERB --help` says. Made from the parsers in `dlm/cli.py`.\n"]
    parts += [_escaped(EPILOG.replace("\n", " · ")).capitalize() + ".\n"]
    for name, verb in verbs.choices.items():
        parts += [f"## dlm {name} {{#{name}}}\n", f"{_escaped(verb.description or '')}\n"]
        parts += [f"```text\n{_usage(verb)}\n```\n"]
        parts += [_option(action) for action in verb._actions if action.dest != "help"]
        parts += [""]
    return "\n".join(parts)


def names_page() -> str:
    """What there is to choose from."""
    parts = ["# Names\n", "What `dlm ls` prints of this version.\n"]
    for what, intro in LISTS.items():
        parts += [f"## {what.capitalize()} {{#{what}}}\n", f"`dlm ls {what}`: {intro}\n"]
        parts += [names_list(what)]
    return "\n".join(parts)


@cache
def names_list(what: str) -> str:
    """One of ``LISTS``, a name and its line an item."""
    rows = listing(what)
    return "\n".join(f"- `{name}`: {_escaped(text)}" for name, text in rows.items()) + "\n"


def recipes_page() -> str:
    """The headers of the shipped recipes: what for, with what data, how long, what to expect."""
    parts = ["# Shipped recipes\n", "The comment at the top of each file below `recipes/`.\n"]
    for name, path in shipped_recipes().items():
        parts += [f"## {name} {{#{name.replace('/', '-')}}}\n"]
        parts += [f"```text\n{_header(path)}\n```\n"]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/cluster-file.md": cluster_page,
    "reference/verbs.md": verbs_page,
    "reference/names.md": names_page,
    "reference/recipes.md": recipes_page,
}
"""Place on the site -> what writes it."""

LISTS = {
    "recipes": "recipes that come with the package, for `dlm run NAME`.",
    "stages": "kinds of stages (`stages.NAME.kind`).",
    "objectives": "weights of the training loss (`objective.weight`).",
    "samplers": "ways through the reverse process (`generation.sampler`).",
    "data": "shapes of rows (`data.task`).",
    "generators": "sources that need no file.",
    "tasks": "evaluation tasks (`evaluation.tasks`).",
    "sets": "the paper's data sets; [Data](../data.md) has licences and local layouts.",
}


def docstrings(cls: type) -> dict[str, str]:
    """Field -> the text under it, of a dataclass and those it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(cls.__mro__[:-1]):
        tree = ast.parse(inspect.getsource(part)).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), (
                    f"{cls.__name__}.{field.target.id} has no docstring"
                )
                found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _sections_of(cls: type) -> list[str]:
    """The fields that are no sections."""
    sections = {field.name for field in fields(schema.Sections)}
    return [name for name in get_type_hints(cls) if name not in sections]


def _entries(
    cls: type, key: str, *, own: list[str] | None = None, kinds: list[str] | None = None
) -> Iterator[str]:
    """The fields of a dataclass, and below each the fields of the dataclass that it holds."""
    hints, texts = get_type_hints(cls), docstrings(cls)
    for field in fields(cls):
        if own is not None and field.name not in own:
            continue
        at = f"{key}.{field.name}" if key else field.name
        inner, more = _held(hints[field.name])
        yield f"### `{at}` {{#{at}}}\n"
        yield f"{_facts(field, hints[field.name], at, kinds)}\n{{ .facts }}\n"
        yield _escaped(re.sub(r"\bNone\b", "`null`", texts[field.name])) + "\n"
        # Stages are told at the top of the page.
        if inner is not None and inner is not schema.StageConfig:
            yield from _entries(inner, at + more, kinds=kinds)


def _held(hint: Any) -> tuple[type | None, str]:
    """The dataclass that a field holds, one or several, and how its place is written."""
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return hint, ""
    inner = get_args(hint)[-1] if get_origin(hint) in (list, dict) else None
    if not is_dataclass(inner):
        return None, ""
    assert isinstance(inner, type)
    return inner, "[]" if get_origin(hint) is list else ".NAME"


def _facts(field: "Field[Any]", hint: Any, at: str, kinds: list[str] | None) -> str:
    """Type, default, range and readers in a line."""
    facts = [type_words(hint)]
    if at in RANGE_OF:
        facts.append(_escaped(str(RANGE_OF[at])))
    if field.default is not MISSING:
        facts.append(f"default {_value(field.default)}")
    readers = [kind for kind in kinds or () if reads(kind, at)]
    if kinds is not None and readers != kinds:
        facts.append(f"only {_names(readers)}")
    if not field.metadata.get("semantic", True):
        facts.append("not part of the fingerprint")
    return " · ".join(facts)


def type_words(hint: Any) -> str:
    """A type in words: its choices where they are few, the items of a list or mapping."""
    parts = get_args(hint)
    if NoneType in parts:
        return f"{type_words(parts[0])}, or `null`"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in parts)
    if get_origin(hint) is tuple:
        return f"list of {len(parts)} values, each {type_words(parts[0])}"
    if get_origin(hint) is list:
        return f"list, each item {type_words(parts[0])}"
    if get_origin(hint) is dict:
        return f"mapping of names, each to {type_words(parts[1])}"
    return "section" if is_dataclass(hint) else _WORDS.get(hint, "any value")


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    if isinstance(value, str) and (value != value.strip() or not value):
        return f"`{value!r}`"
    return f"`{json.dumps(value) if value is None or isinstance(value, bool) else value}`"


def _usage(verb: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(verb.prog, width=72)
    formatter.add_usage(verb.usage, verb._actions, verb._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _option(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        name += f" {action.metavar or action.dest.upper()}"
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    words = [_escaped(action.help or ""), f"one of {choices}" if choices else ""]
    if action.required and action.option_strings:
        words.append("required")
    return f"- `{name}`: " + "; ".join(word for word in words if word)


def _header(path: Path) -> str:
    """The comment at the top of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next(i for i, line in enumerate([*lines, ""]) if not line.startswith("#"))
    return "\n".join(line[1:].removeprefix(" ") for line in lines[:length])


def _names(kinds: list[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def _escaped(text: str) -> str:
    """Text of a docstring as Markdown: what stands in backticks is code, all else is plain."""
    parts = _CODE.split(text)
    plain = [re.sub(r"([*_\[\]{}<>#|\\])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = [part.replace("\\<", "&lt;").replace("\\>", "&gt;") for part in plain]
    return "".join(parts)
