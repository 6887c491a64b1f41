"""Evaluation tasks: short versioned YAML files that say rows, prompt and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import Source, json_kind
from dlm.errors import UserError, did_you_mean

SHIPPED = Path(__file__).parent / "task_files"
_KEYS = {"version", "description", "source", "prompt", "response", "metrics"}
_SOURCE_KEYS = {"path", "hub", "hub_config", "revision", "split", "generator", "options", "count",
                "fields", "hub_fields", "columns", "unquoted", "limit"}  # fmt: skip


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

    def locate(self, root: str | None) -> Source:
        """The source, local under ``root`` or as the task says."""
        given = dict(self.source)
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
            columns=tuple(given.pop("columns", ())) if local else (),
            unquoted=given.pop("unquoted", False) and local,
            **given,
        )

    def read(self, root: str | None, limit: int | None = None) -> tuple[list[str], list[str]]:
        """Prompts and references, at most ``limit`` of them.

        Raises:
            UserError: The rows cannot be read or do not fit the template.
        """
        source = self.locate(root)
        limits = [number for number in (source.limit, limit) if number is not None]
        limited = replace(source, limit=min(limits, default=None))
        rows = list(stream_examples(limited, self.template))
        return [row.prompt for row in rows], [row.response for row in rows]


def shipped_tasks() -> dict[str, Path]:
    """Name -> file of the tasks that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


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
    _check(raw, path)
    default = Template.of("translation")
    return Task(
        name=path.stem,
        version=raw["version"],
        description=raw.get("description", ""),
        source=raw["source"],
        metrics=raw["metrics"],
        template=Template(raw.get("prompt", default.prompt), raw.get("response", default.response)),
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
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")


_KINDS_OF_KEYS: dict[str, type] = {
    "version": int, "source": dict, "metrics": list, "prompt": str, "response": str,
    "description": str,
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
    if not isinstance(source.get("columns", []), list):
        problems.append(
            f"source.columns is {json_kind(source['columns'])}, where it must be a list"
        )
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
