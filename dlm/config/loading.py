"""From a recipe file and ``key=value`` overrides to frozen dataclasses, every error at once."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from dlm.config import shipped
from dlm.config.checks.every_stage import SECTIONS, reads, recipe_problems, stage_problems
from dlm.config.other_names import own_key
from dlm.config.references import NOTHING, Problem
from dlm.config.schema import (
    RecipeConfig,
    StageConfig,
    StageKind,
    SystemConfig,
    ValidationConfig,
)
from dlm.config.shipped import RawRecipe
from dlm.config.sweep import Cell, check_overrides, sweep_cells, sweep_problems, with_seeds
from dlm.errors import UserError, did_you_mean, nearest, quote_it
from dlm.generation.settings import GenerationSettings

T = TypeVar("T")
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "quoted text"}


def load_recipe(
    path_or_name: str | Path, overrides: Sequence[str] = (), cell: Cell | None = None
) -> RecipeConfig:
    """The complete, checked recipe: every stage has the recipe's sections under its own.

    An override is ``key=value``, the value in YAML (quote text that holds ``{`` or ``: ``):
    ``stages.adapt.optim.lr=1e-5`` changes one stage, ``stages.length=null`` removes one, and
    ``optim.lr=1e-5`` (or ``seed=1``) changes the recipe's default AND wins over the own value of
    every stage whose kind reads it; a key that names a stage wins over that, in whatever order.
    ``${oc.env:NAME}`` and ``${other.key}`` in values are resolved once, here.

    ``cell``: this run of the recipe's sweep; without it the recipe is as if there were no sweep.

    Raises:
        UserError: no such recipe, a file that is not a YAML mapping, a circle of ``extends``; or
            else all of: malformed overrides, unknown keys, wrong types, values that do not
            resolve, ignored settings, references to no stage, values out of range, parts that do
            not fit together, one line each.
    """
    path = shipped.find_recipe(path_or_name)
    problems: list[Problem] = []
    raw = _overridden(shipped.read_recipe(path), overrides, problems, cell)
    raw, unresolved = shipped.interpolated(raw)
    problems += [Problem(key, f"it has no value: {why}") for key, why in unresolved.items()]
    raw.setdefault("name", shipped.default_name(path))
    recipe = _typed_recipe(raw, problems)
    if problems:
        lines = dict.fromkeys(f"  {p}{_from_override(p, overrides)}" for p in problems)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        place = f"{path}, cell {cell.name}" if cell else str(path)
        raise UserError("\n".join([f"{count} in {place}:", *lines]))
    return recipe


def _from_override(problem: Problem, overrides: Sequence[str]) -> str:
    """That a setting was given on the command line, for itself or for every stage."""
    key = problem.key
    for text in overrides:
        given = _key_of(text)
        of_every_stage = key.startswith("stages.") and key.endswith(f".{given}")
        if (
            key == given
            or key.startswith(f"{given}.")
            or of_every_stage
            or _made_by(problem, given)
        ):
            return f" (on the command line: {text})"
    return ""


def _key_of(override: str) -> str:
    """The setting that an override names, under its own name."""
    return ".".join(own_key(override.partition("=")[0].split(".")))


def _made_by(problem: Problem, given: str) -> bool:
    """Whether the value of a section is nothing but what an override has put into it."""
    if not given.startswith(f"{problem.key}."):
        return False
    value = problem.value
    for part in given.removeprefix(f"{problem.key}.").split("."):
        if not isinstance(value, Mapping) or list(value) != [part]:
            return False
        value = value[part]
    return True


def load_cells(
    path_or_name: str | Path, overrides: Sequence[str] = (), seeds: Sequence[int] = ()
) -> tuple[RecipeConfig, list[tuple[Cell, RecipeConfig]]]:
    """The recipe, and that of every cell of its sweep; none where it has no sweep.

    ``seeds`` (``--seeds``) is a further axis, or takes the place of the sweep's own.

    Raises:
        UserError: as :func:`load_recipe`, for the recipe or a cell; an override of what cells set.
    """
    recipe = load_recipe(path_or_name, overrides)
    recipe = dataclasses.replace(recipe, sweep=with_seeds(recipe.sweep, seeds))
    if not recipe.sweep:
        return recipe, []
    check_overrides(recipe.sweep, [_key_of(text) for text in overrides])
    cells = sweep_cells(recipe.sweep)
    return recipe, [(cell, load_recipe(path_or_name, overrides, cell)) for cell in cells]


def load_settings(cls: type[T], path: Path) -> tuple[T, RawRecipe, list[Problem]]:
    """A settings file that is no recipe: what of it fits ``cls``, as it was written, and what is
    wrong. ``extends`` and ``${...}`` mean what they mean in recipes.

    Raises:
        UserError: The file cannot be read or is no mapping.
    """
    raw, unresolved = shipped.interpolated(shipped.read_recipe(path))
    problems = [Problem(key, f"it has no value: {why}") for key, why in unresolved.items()]
    return _build(cls, raw, "", problems), raw, problems


def typed_settings(cls: type[T], raw: RawRecipe, key: str) -> tuple[T, list[Problem]]:
    """What of a section's values, below ``key``, fits ``cls``, and what is wrong with the others:
    names and types, no ranges."""
    problems: list[Problem] = []
    return _build(cls, raw, key, problems), problems


def resolved_yaml(recipe: RecipeConfig) -> str:
    """The recipe as YAML that ``load_recipe`` reads back into an equal one, nothing left implied.

    A stage shows the sections that its kind reads; its others equal the recipe's.
    """
    plain = dataclasses.asdict(recipe, dict_factory=_without_defaults)
    for name, stage in plain["stages"].items():
        kind, keys = stage["kind"], sorted(stage, key=SECTIONS.__contains__)
        shown = [key for key in keys if key not in SECTIONS or reads(kind, key)]
        plain["stages"][name] = {key: stage[key] for key in shown}
    head = ("name", "description", "seed", "serve", *(["sweep"] if recipe.sweep else []))
    ordered = {key: plain[key] for key in (*head, *(key for key in plain if key != "sweep"))}
    return OmegaConf.to_yaml(OmegaConf.create(shipped.literal(ordered)))


def _without_defaults(fields: list[tuple[str, Any]]) -> RawRecipe:
    """A source shows only what it says; every other section is complete."""
    sparse = {"hub_fields", "share"} & dict(fields).keys()
    nothing: tuple[Any, ...] = (None, {}, [], False)
    return {key: value for key, value in fields if not sparse or value not in nothing}


def _overridden(
    raw: RawRecipe, overrides: Sequence[str], problems: list[Problem], cell: Cell | None
) -> RawRecipe:
    parsed = [(str(key).split("."), value) for key, value in cell.settings] if cell else []
    for text in overrides:
        try:
            parsed.append(shipped.parse_override(text))
        except ValueError as error:
            problems.append(Problem(f"override '{text}'", str(error)))
    # What names a stage comes last, and wins.
    for keys, value in sorted(parsed, key=lambda override: override[0][0] == "stages"):
        if (problem := _refused(raw, keys, value)) is not None:
            problems.append(problem)
            continue
        change = reduce(lambda inner, key: {key: inner}, reversed(keys), value)
        raw = shipped.merge_recipes(raw, change)
        kept = {name: shipped.without(own, change) for name, own in _stages(raw).items()}
        if kept and keys[0] in (*SECTIONS, "seed"):
            raw = {**raw, "stages": {**raw["stages"], **kept}}
    return {key: value for key, value in raw.items() if cell is None or key != "sweep"}


def _refused(raw: RawRecipe, keys: list[str], value: Any) -> Problem | None:
    """Why an override would do nothing, or not what it says."""
    stages, key = _stages(raw), ".".join(keys)
    if keys[0] == "stages" and len(keys) > 1 and keys[1] not in stages:
        reason = f"the recipe has no such stage{did_you_mean(keys[1], stages)}"
        return Problem(key, f"{reason} (stages: {', '.join(stages)})", value)
    kinds = [str(own.get("kind")) for own in stages.values()]
    if keys[0] in SECTIONS and not any(reads(kind, key) for kind in kinds):
        return Problem(key, "ignored setting: no stage of the recipe reads it", value)
    return None


def _stages(raw: RawRecipe) -> dict[str, Any]:
    stages = raw["stages"] if isinstance(raw.get("stages"), Mapping) else {}
    return {name: own for name, own in stages.items() if isinstance(own, Mapping)}


def _typed_recipe(raw: RawRecipe, problems: list[Problem]) -> RecipeConfig:
    """Types first, where they are written; then the meaning, stage by stage as resolved."""
    if not isinstance(raw.get("stages") or {}, Mapping):
        problems.append(Problem("stages", "must be a mapping of stages by name", raw["stages"]))
        return RecipeConfig()
    stages = {str(name): own for name, own in (raw.get("stages") or {}).items()}
    for name in raw.get("stages") or {}:
        if isinstance(name, bool | float | NoneType):
            problems.append(Problem(f"stages.{name}", f"a stage's name is text: {quote_it(name)}"))
    top = {key: value for key, value in raw.items() if key != "stages"}
    recipe = _build(RecipeConfig, top, "", problems)
    defaults = {key: top[key] for key in SECTIONS if key in top}
    typed = {name: _stage(name, own, defaults, problems) for name, own in stages.items()}
    recipe = dataclasses.replace(recipe, stages=typed)
    problems += sweep_problems(recipe.sweep)
    raw = {**raw, "stages": stages}
    meant = [found for name in typed for found in stage_problems(name, recipe, raw, problems)]
    named = {problem.key for problem in problems}
    problems += [found for found in recipe_problems(recipe) if found.key not in named]
    problems += meant
    return recipe


def _stage(name: str, own: Any, defaults: RawRecipe, problems: list[Problem]) -> StageConfig:
    key = f"stages.{name}"
    if own is None:
        problems.append(Problem(key, "null removes nothing: no such stage is inherited", own))
        return StageConfig()
    stage = _build(StageConfig, own, key, problems)
    if not isinstance(own, Mapping):
        return stage
    if "kind" not in own:
        problems.append(Problem(f"{key}.kind", f"missing: must be {_expected(StageKind)}"))
    return _build(StageConfig, shipped.merge(defaults, own), key, [])


def _build(cls: type[T], raw: Any, key: str, problems: list[Problem]) -> T:
    """``cls`` from the values that fit; the others, and unknown keys, become problems."""
    if not isinstance(raw, Mapping):
        problems.append(Problem(key, "must be a mapping of settings, or be left out", raw))
        return cls()
    values: RawRecipe = {}
    hints, known = get_type_hints(cls), [problem.key for problem in problems]
    for name, value in raw.items():
        at = f"{key}.{name}" if key else str(name)
        if name not in hints:
            near = nearest(str(name), hints)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(hints)}"
            meant = f"{at.removesuffix(str(name))}{near}" if near else ""
            problems.append(Problem(at, f"unknown setting; {hint}", value, meant))
        elif at not in known:
            typed = _typed(cls, name, hints[name], value, at, problems)
            values |= {} if typed is NOTHING else {name: typed}
    return cls(**values)


def _typed(cls: type, name: str, hint: Any, value: Any, at: str, problems: list[Problem]) -> Any:
    """The value of one field, plain; NOTHING after a problem."""
    item = get_args(hint)[-1] if get_args(hint) else None
    if cls is SystemConfig and name == "generation" and isinstance(value, Mapping):
        generation = _build(GenerationSettings, value, at, problems)
        return {key: getattr(generation, key) for key in value if hasattr(generation, str(key))}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, at, problems)
    if not dataclasses.is_dataclass(item) or not isinstance(value, get_origin(hint)):
        return _leaf(cls, name, hint, value, at, problems)
    build = cast(type, item)
    if isinstance(value, Mapping):
        return {str(key): _build(build, row, f"{at}.{key}", problems) for key, row in value.items()}
    return [_build(build, row, f"{at}[{index}]", problems) for index, row in enumerate(value)]


def _leaf(cls: type, name: str, hint: Any, value: Any, at: str, problems: list[Problem]) -> Any:
    misread = list(_misread(hint, value, at))
    if misread:
        problems += [
            Problem(key, f"must be quoted text ({quote_it(item)})", item) for key, item in misread
        ]
        return NOTHING
    whole = isinstance(value, float) and value.is_integer() and int in (hint, *get_args(hint))
    try:
        if _altered(hint, value):
            raise ValidationError
        schema = _schema(cls)
        OmegaConf.update(schema, name, shipped.literal(int(value) if whole else value), merge=False)
        typed = schema[name]
    except OmegaConfBaseException:
        reason = f"must be {_expected(hint)}{did_you_mean(str(value), _choices(hint))}"
        if isinstance(value, bool) and _choices(hint):
            reason += f"; {quote_it(value)}"
        if cls is ValidationConfig and name == "metric":
            reason += _no_likelihood(str(value))
        problems.append(Problem(at, reason, value))
        return NOTHING
    return OmegaConf.to_container(typed, resolve=True) if OmegaConf.is_config(typed) else typed


def _misread(hint: Any, value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Every value, and key of a mapping, that is to be text and that YAML has read as another kind
    of scalar; with its key."""
    if hint is str and isinstance(value, bool | int | float):
        yield at, value
    parts = [part for part in get_args(hint) if part is not NoneType]
    if NoneType in get_args(hint):
        yield from (found for part in parts for found in _misread(part, value, at))
    elif get_origin(hint) is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misread(parts[0], item, f"{at}[{index}]")
    elif get_origin(hint) is dict and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _misread(parts[0], key, f"the key {key!r} of {at}")
            yield from _misread(parts[1], item, f"{at}.{key}")


def _no_likelihood(metric: str) -> str:
    """Why a training or validation loss is not reported as one; nothing for other metrics."""
    if not re.search("perplexity|ppl|likelihood|nats|bits|bound|nll", metric.lower()):
        return ""
    return (
        ". A loss of training or validation is no likelihood bound (its weight, normaliser and "
        "label smoothing are others'), so none is made of it: evaluate a task of kind perplexity "
        "instead (`dlm ls tasks`, evaluation.tasks)"
    )


def _altered(hint: Any, value: Any) -> bool:
    """Whether OmegaConf would turn the value into a text or truth value it was not written as."""
    inner = [part for part in get_args(hint) if part is not NoneType]
    if hint in (str, bool):
        return value is not None and not isinstance(value, hint)
    if isinstance(value, list | Mapping):
        items = value.values() if isinstance(value, Mapping) else value
        return bool(inner) and any(_altered(inner[-1], item) for item in items)
    return not _choices(hint) and any(_altered(part, value) for part in inner)


def _choices(hint: Any) -> tuple[str, ...]:
    """The choices of a Literal, optional or not."""
    parts = (hint, *get_args(hint))
    return next((get_args(part) for part in parts if get_origin(part) is Literal), ())


def _expected(hint: Any) -> str:
    parts = get_args(hint)
    if NoneType in parts:
        return f"{_expected(parts[0])} or null"
    if choices := _choices(hint):
        return f"one of {', '.join(choices)}"
    if get_origin(hint) is tuple:
        return f"a list of {len(parts)} values, each {_expected(parts[0])}"
    if get_origin(hint) is list:
        return f"a list, each item {_expected(parts[0])}"
    return _TYPE_NAMES.get(hint, "a mapping")


@cache
def _schema(cls: type) -> DictConfig:
    schema: DictConfig = OmegaConf.structured(cls)
    OmegaConf.set_readonly(schema, False)
    return schema
