"""Evaluation tasks: short versioned YAML files that say rows, prompt and metrics."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlm.data.prompts import Template
from dlm.data.sources import Source, read_rows
from dlm.errors import UserError

SHIPPED = Path(__file__).parent / "task_files"
_KEYS = {"version", "description", "source", "prompt", "response", "metrics"}
_SOURCE_KEYS = {"path", "hub", "hub_config", "revision", "split", "generator", "options", "count",
                "fields", "hub_fields", "limit"}  # fmt: skip


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
            **given,
        )

    def read(self, root: str | None, limit: int | None = None) -> tuple[list[str], list[str]]:
        """Prompts and references.

        Raises:
            UserError: The rows cannot be read or do not fit the template.
        """
        source = self.locate(root)
        rows = read_rows(source)[:limit]
        filled = [self.template.fill(row, source.place, n) for n, row in enumerate(rows, start=1)]
        return [prompt for prompt, _ in filled], [response for _, response in filled]


def shipped_tasks() -> dict[str, Path]:
    """Name -> file of the tasks that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_task(name: str) -> Task:
    """A shipped task by its name, or any task file by its path.

    Raises:
        UserError: There is no such task, or its file is not a task.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        shipped = shipped_tasks()
        if name not in shipped:
            near = difflib.get_close_matches(name, shipped, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UserError(
                f"there is no task '{name}': {hint}the shipped ones are {', '.join(shipped)}; "
                "a path to a .yaml file works too"
            )
        path = shipped[name]
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    _check(raw, path)
    default = Template.of("translation")
    return Task(
        name=path.stem,
        version=raw["version"],
        description=raw.get("description", ""),
        source=raw["source"],
        metrics=raw["metrics"],
        template=Template(
            raw.get("prompt", default.prompt), raw.get("response", default.response)
        ),
    )


def _check(raw: Any, path: Path) -> None:
    from dlm.evaluation.scores import SCORES

    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a task: it needs version, source and metrics")
    problems = [f"unknown key '{key}'" for key in raw if key not in _KEYS]
    problems += [f"'{key}' is missing" for key in ("version", "source", "metrics") if not raw.get(key)]
    problems += [f"unknown key 'source.{key}'" for key in raw.get("source") or {} if key not in _SOURCE_KEYS]
    problems += [
        f"unknown metric '{name}' (choose from {', '.join(SCORES)})"
        for name in raw.get("metrics") or []
        if name not in SCORES
    ]
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
