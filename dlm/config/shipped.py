"""Recipe files: where the shipped ones live, and how their untyped YAML is read and merged."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dlm.config.other_names import own_key, own_names
from dlm.errors import UserError, did_you_mean

RawRecipe = dict[str, Any]

_NOT_INHERITED = ("extends", "name", "description")
DEEPEST = 20
"""Levels of nesting in a recipe, a task or a cluster file; the deepest setting has nine."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, twenty times as fast, where PyYAML was built with it."""
_PACKAGE = Path(__file__).resolve().parent.parent


def recipe_folders() -> list[Path]:
    """The folders of shipped recipes: in the installed package, else in the repository."""
    inside, beside = _PACKAGE / "recipes", _PACKAGE.parent / "recipes"
    return next(([folder] for folder in (inside, beside) if folder.is_dir()), [])


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of every shipped recipe, e.g. ``multi30k/de-en``.

    ``cluster/`` (where it runs, never what) and parts whose name starts with ``_`` are no recipes.
    """
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in sorted(folder.rglob("*.yaml")):
            name = path.relative_to(folder).with_suffix("")
            if name.parts[0] != "cluster" and not any(part[0] in "._" for part in name.parts):
                found[name.as_posix()] = path
    return found


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe: an existing path wins, else a shipped name.

    Raises:
        UserError: neither exists; the message lists the shipped recipes.
    """
    path, shipped = Path(name_or_path), shipped_recipes()
    if path.is_file():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    word = str(name_or_path).removeprefix("recipes/").removesuffix(".yaml")
    names = ", ".join(shipped) or "none"
    raise UserError(
        f"no recipe '{name_or_path}': neither a file nor a shipped recipe"
        f"{did_you_mean(word, shipped)}\nShipped recipes: {names}"
    )


def default_name(path: Path) -> str:
    """``multi30k-de-en`` for the shipped recipe multi30k/de-en, else the file's stem."""
    for folder in recipe_folders():
        if path.resolve().is_relative_to(folder.resolve()):
            relative = path.resolve().relative_to(folder.resolve())
            return relative.with_suffix("").as_posix().replace("/", "-")
    return path.stem


def merge_recipes(base: Mapping[str, Any], over: Mapping[str, Any]) -> RawRecipe:
    """``over`` on top of ``base``: mappings merge, everything else (lists too) is replaced.

    Stages merge by name, and null removes one that ``base`` has; a null without such a stage
    stays, for the loader to refuse.
    """
    merged = merge(base, over)
    before, after = base.get("stages"), over.get("stages")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        removed = {name for name in before if name in after and after[name] is None}
        kept = {name: stage for name, stage in merged["stages"].items() if name not in removed}
        merged["stages"] = kept
    return merged


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> RawRecipe:
    """A new mapping: ``over`` wins, and only mappings are merged."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping):
            inherited = merged.get(key)
            merged[key] = merge(inherited if isinstance(inherited, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def read_recipe(path: Path, extended_by: tuple[Path, ...] = ()) -> RawRecipe:
    """A recipe file merged over what it ``extends``, untyped.

    ``extends`` is one recipe or a list (later wins), each a file relative to this one or a shipped
    name. A recipe's ``name`` and ``description`` are its own and are not inherited.

    Raises:
        UserError: a file cannot be read or is no mapping, ``extends`` names nothing, or recipes
            extend each other in a circle.
    """
    chain = (*extended_by, path.resolve())
    if path.resolve() in extended_by:
        circle = " -> ".join(str(file) for file in chain)
        raise UserError(f"recipes extend each other in a circle: {circle}")
    own: RawRecipe = own_names(_read_mapping(path))
    merged: RawRecipe = {}
    for parent in _parents(own.pop("extends", None), path):
        inherited = read_recipe(parent, chain)
        wanted = {key: value for key, value in inherited.items() if key not in _NOT_INHERITED}
        merged = merge_recipes(merged, wanted)
    return merge_recipes(merged, own)


def _check_depth(text: str) -> None:
    """Refuse what no settings are, before anything walks through it level by level. What is no YAML
    is left to who reads it.

    Raises:
        ValueError: It is nested too deep.
    """
    depth = 0
    with suppress(YAMLError):
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                line = f"line {event.start_mark.line + 1}" if event.start_mark else "it"
                raise ValueError(f"{line} is nested deeper than {DEEPEST} levels")


def _read_mapping(path: Path) -> RawRecipe:
    try:
        _check_depth(path.read_text(encoding="utf-8"))
        loaded = OmegaConf.load(path)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: cannot be read as YAML in UTF-8: {error}") from error
    except OSError as error:
        # OmegaConf also raises it for a file that holds one number or the like.
        detail = error.strerror or "it must be a mapping of settings, `key: value`"
        raise UserError(f"cannot read {path}: {detail}") from error
    if not isinstance(loaded, DictConfig):
        raise UserError(f"{path}: a recipe is a mapping of settings (`key: value`), not a list")
    if not loaded:
        raise UserError(f"{path}: the file is empty; a recipe needs at least `stages:`")
    raw = OmegaConf.to_container(loaded, resolve=False)
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


def _parents(extends: Any, path: Path) -> list[Path]:
    names = [extends] if isinstance(extends, str) else extends or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: extends = {extends!r}: give one recipe or a list of recipes")
    return [_parent(name, path) for name in names]


def _parent(name: str, path: Path) -> Path:
    shipped = shipped_recipes()
    beside = path.parent / name
    if beside.is_file():
        return beside
    if name in shipped:
        return shipped[name]
    raise UserError(
        f"{path}: extends = '{name}': neither a file beside this one nor a shipped recipe"
        f"{did_you_mean(name, shipped)}"
    )


def parse_override(text: str) -> tuple[list[str], Any]:
    """``a.b=1e-5`` as its keys and its value, parsed as YAML; settings have their own names.

    Raises:
        ValueError: no ``=``, an empty key or value, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if key.count(".") >= DEEPEST:
        raise ValueError(f"its key is nested deeper than {DEEPEST} levels")
    if not equals or not all(key.split(".")):
        raise ValueError("an override is key=value, such as optim.lr=1e-5")
    if not value.strip():
        raise ValueError("it has no value; write null or '' if that is meant")
    try:
        _check_depth(value)
        parsed = OmegaConf.from_dotlist([f"value={value}"])
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise ValueError(f"the value is not YAML; quote it: {key}='\"...\"'") from error
    container = OmegaConf.to_container(parsed, resolve=False)
    assert isinstance(container, dict)
    keys = own_key(key.split("."))
    return keys, own_names(container["value"], keys)


def without(raw: Mapping[str, Any], change: Mapping[str, Any]) -> RawRecipe:
    """``raw`` without the values that ``change`` sets."""
    kept: RawRecipe = {}
    for key, value in raw.items():
        if key in change and isinstance(value, Mapping) and isinstance(change[key], Mapping):
            kept[key] = without(value, change[key])
        elif key not in change:
            kept[key] = value
    return kept


def interpolated(raw: RawRecipe) -> tuple[RawRecipe, dict[str, str]]:
    """Every ``${...}`` replaced by its value, and key -> reason of those that have none."""
    config = OmegaConf.create(raw)
    failed: dict[str, str] = {}
    while True:
        try:
            resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            key = str(error.full_key)
            if key in failed:
                raise UserError(f"{key}: {failed[key]}") from error
            failed[key] = str(error).splitlines()[0]
            OmegaConf.update(config, key, None)
        else:
            assert isinstance(resolved, dict)
            return {str(key): value for key, value in resolved.items()}, failed


def literal(value: Any) -> Any:
    """The value with every ``${`` in its texts escaped, so that OmegaConf takes it as it is."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, Mapping):
        return {key: literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, list | tuple) else value
