"""Evaluation tasks: short versioned YAML files that say rows, prompt and metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.few_shot import FewShot
from dlm.data.prompts import Template
from dlm.data.sources import Source, json_kind
from dlm.data.tasks.registry import TASKS
from dlm.errors import UserError, did_you_mean
from dlm.evaluation.task_shots import few_shot_problems, replaced

SHIPPED = Path(__file__).parent / "task_files"
_KEYS = {"version", "description", "source", "task", "prompt", "response", "metrics", "few_shot",
         "variants"}  # fmt: skip
_SOURCE_KEYS = {"path", "hub", "hub_config", "hub_files", "revision", "split", "generator",
                "options", "count", "fields", "hub_fields", "columns", "limit"}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One evaluation set."""

    name: str
    version: int
    description: str
    source: dict[str, Any]
    """Where the rows come from, in the words of a recipe's source."""
    metrics: list[str]
    """Names of the scores; the first one is the main one."""
    template: Template = field(default_factory=lambda: Template.of("translation"))
    shape: str = "translation"
    """The task whose shape the rows have, in the words of ``data.task``."""
    few_shot: Mapping[str, Any] | None = None
    """Demonstrations before every prompt: count, and as wished source (default: the rows
    themselves), separator, joiner and pool_rows."""

    def locate(self, root: str | None, source: Mapping[str, Any] | None = None) -> Source:
        """The source, local under ``root`` or as the task says; or another in the same words."""
        given = dict(self.source if source is None else source)
        fields, hub_fields = given.pop("fields", {}), given.pop("hub_fields", {})
        path, hub = given.pop("path", None), given.pop("hub", None)
        options = dict(given.pop("options", {}))
        local = path is not None and (root is not None or hub is None)
        return Source(
            split=given.pop("split", "test"),
            path=Path(root or ".") / path if local else None,
            hub=None if local else hub,
            fields=fields if local or not hub_fields else hub_fields,
            seed=options.pop("seed", 0),
            options=options,
            **given,
        )

    def with_few_shot(self, count: int | None) -> "Task":
        """The task with so many demonstrations; None leaves what it says, 0 takes none."""
        if count is None:
            return self
        return replace(self, few_shot={**(self.few_shot or {}), "count": count} if count else None)

    def examples(self, root: str | None, limit: int | None = None) -> ExampleRecipe:
        """How the examples are made, of at most ``limit`` rows."""
        source = self.locate(root)
        limits = [number for number in (source.limit, limit) if number is not None]
        rows = self._rows_of(replace(source, limit=min(limits, default=None)))
        if self.few_shot is None:
            return ExampleRecipe((rows,))
        given = dict(self.few_shot)
        shown = self._rows_of(self.locate(root, given.pop("source", None)))
        return ExampleRecipe((rows,), 0, FewShot(**given), shown)

    def read(self, root: str | None, limit: int | None = None) -> tuple[list[str], list[str]]:
        """Prompts and references, of at most ``limit`` rows.

        Raises:
            UserError: The rows cannot be read or do not fit the template.
        """
        rows = [example for _, example in self.examples(root, limit).stream(Counter())]
        return [row.prompt for row in rows], [row.response for row in rows]

    def _rows_of(self, source: Source) -> TaskSource:
        return TaskSource(self.name, source, self.shape, (self.template,))


def shipped_tasks() -> dict[str, Path]:
    """Name -> file of the tasks that come with the package.

    ``mgsm_{language}.yaml`` is a task for each of the values that it lists under ``variants``.
    """
    found: dict[str, Path] = {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        if "{" not in path.stem:
            found[path.stem] = path
            continue
        word, values = _variants(yaml.safe_load(path.read_text(encoding="utf-8")))
        found |= {replaced(path.stem, {word: value}): path for value in values}
    return dict(sorted(found.items()))


def _variants(raw: dict[str, Any]) -> tuple[str, list[str]]:
    ((word, values),) = raw["variants"].items()
    return word, values


def load_tasks(names: Sequence[str]) -> list[Task]:
    """Several tasks; their results are told apart by name, so no two may share one.

    Raises:
        UserError: One cannot be loaded, or two have the same name.
    """
    tasks = [load_task(name) for name in names]
    seen: dict[str, str] = {}
    for task, name in zip(tasks, names, strict=True):
        if task.name in seen:
            raise UserError(
                f"tasks '{seen[task.name]}' and '{name}' share the name {task.name}, and so would "
                "their results: give each one once, or rename a file"
            )
        seen[task.name] = name
    return tasks


def load_task(name: str) -> Task:
    """A shipped task by its name, or any task file by its path.

    Raises:
        UserError: There is no such task, or its file is not a task.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        shipped = shipped_tasks()
        if name not in shipped:
            hint = did_you_mean(name, shipped)
            if path.suffix in (".yaml", ".yml"):
                hint = "; there is no such file" + hint
            raise UserError(
                f"no task '{name}'{hint}\nShipped tasks: {', '.join(shipped)}; a path to a .yaml "
                "file works too"
            )
        path = shipped[name]
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML in UTF-8: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    name_of_task = path.stem
    if path.parent == SHIPPED and "{" in path.stem:
        word, values = _variants(raw)
        name_of_task = name
        value = next(each for each in values if replaced(path.stem, {word: each}) == name)
        raw = replaced({key: raw[key] for key in raw if key != "variants"}, {word: value})
    _check(raw, path)
    shape = raw.get("task", "translation")
    return Task(
        name=name_of_task,
        version=raw["version"],
        description=raw.get("description", ""),
        source=raw["source"],
        metrics=raw["metrics"],
        template=Template.of(shape, raw.get("prompt"), raw.get("response")),
        shape=shape,
        few_shot=raw.get("few_shot"),
    )


def _check(raw: Any, path: Path) -> None:
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a task: it needs version, source and metrics")
    problems = [
        f"unknown key '{key}'{did_you_mean(str(key), _KEYS)}" for key in raw if key not in _KEYS
    ]
    for key in ("version", "source", "metrics"):
        if not raw.get(key):
            problems.append(f"'{key}' is missing")
    for key, kind in _KINDS_OF_KEYS.items():
        if raw.get(key) and not isinstance(raw[key], kind):
            problems.append(f"{key} is {json_kind(raw[key])}, where it must be {_WORDS[kind]}")
    if not problems:
        problems = [*_source_problems(raw["source"]), *_metric_problems(raw["metrics"])]
        if "few_shot" in raw:
            problems += few_shot_problems(raw["few_shot"])
        if raw.get("task", "translation") not in TASKS:
            hint = did_you_mean(raw["task"], TASKS)
            problems.append(f"task = '{raw['task']}' is none of {', '.join(TASKS)}{hint}")
        if "variants" in raw:
            problems.append("variants are read in shipped tasks only: write a file for each")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")


_KINDS_OF_KEYS: dict[str, type] = {
    "version": int, "source": dict, "metrics": list, "task": str, "prompt": str,
    "response": str, "description": str,
}  # fmt: skip
_WORDS = {int: "a whole number", dict: "a mapping", list: "a list", str: "text"}


def _source_problems(source: dict[str, Any]) -> list[str]:
    problems = [
        f"unknown key 'source.{key}'{did_you_mean(str(key), _SOURCE_KEYS)}"
        for key in source
        if key not in _SOURCE_KEYS
    ]
    if not any(source.get(origin) for origin in ("path", "hub", "generator")):
        problems.append("source needs one of path, hub and generator")
    if source.get("generator") and not source.get("count"):
        problems.append("source.count is missing: how many rows the generator makes")
    for key in ("count", "limit"):
        number = source.get(key)
        if number is not None and (type(number) is not int or number < 1):
            problems.append(f"source.{key} = {number!r} must be a whole number, at least 1")
    for key in ("fields", "hub_fields", "options"):
        if not isinstance(source.get(key, {}), dict):
            problems.append(f"source.{key} is {json_kind(source[key])}, where it must be a mapping")
    return problems


def _metric_problems(metrics: list[Any]) -> list[str]:
    from dlm.evaluation.scores import SCORES

    return [
        f"unknown metric '{name}'{did_you_mean(str(name), SCORES)} (there are {', '.join(SCORES)})"
        for name in metrics
        if name not in SCORES
    ]
