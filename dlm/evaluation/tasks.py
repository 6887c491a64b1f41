"""Evaluation tasks: short versioned YAML files that say rows, prompt and metrics.

Three kinds:  ``generation`` scores generated texts,  ``multiple_choice`` takes the choice of the
lowest likelihood bound per token,  ``perplexity`` bounds the likelihood of given texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

import yaml

from dlm.data.clusters import Cluster
from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.few_shot import FewShot
from dlm.data.prompts import Template
from dlm.data.sources import Source, below
from dlm.data.tasks.registry import TASKS
from dlm.errors import UserError, did_you_mean
from dlm.evaluation.extraction.languages import Languages
from dlm.evaluation.task_checks import TaskKind, likelihood_problems, task_problems
from dlm.evaluation.task_shots import replaced
from dlm.names import RESULT

NEXT_TOKEN = "next_token"
"""Estimator of likelihoods: the exact chain rule of a model that writes from left to right."""
_OF_FILES = ("columns", "unquoted", "format", "delimiter", "encoding")
"""Settings of a source that are read with local files alone."""
SHIPPED = Path(__file__).parent / "task_files"
DEFAULT_LIKELIHOOD: Mapping[str, Any] = {"estimator": "exactly_l", "samples": 32, "seed": 0}
"""How a likelihood is estimated where neither the task nor the user says it."""


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
    """Prompt and response. A perplexity task without a prompt is of texts alone."""
    kind: TaskKind = "generation"
    choices: str | tuple[str, ...] = ""
    """multiple_choice: the field that holds the list of choices, or the choices of every row."""
    answer: str = ""
    """multiple_choice: the field of the right one, its index from 0 or its text."""
    likelihood: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_LIKELIHOOD)
    """Estimator, samples, seed, and what else of ``LikelihoodSettings`` the task says."""
    shape: str = "translation"
    """The task whose shape the rows have, in the words of ``data.task``."""
    language: str | None = None
    """generation: the language of the answers, such as ``ja`` or ``jpn_Jpan``: how numbers are
    written, and what words are. None: not known; their script decides what words are."""
    reference_language: str | None = None
    """generation: the language in whose way the references write numbers; None: the answers'."""
    few_shot: Mapping[str, Any] | None = None
    """Demonstrations before every prompt: count (0: none unless the user asks), and as wished
    source (default: the rows themselves), separator, joiner and pool_rows."""
    cluster: Cluster | None = None
    """What rows share that are not independent of each other, such as a paragraph."""

    @property
    def shots(self) -> int:
        """How many demonstrations stand before every prompt."""
        return int((self.few_shot or {}).get("count", 0))

    @property
    def languages(self) -> Languages:
        """Of the answers, and of the references."""
        return Languages(self.language, self.reference_language or self.language)

    @property
    def keep_only(self) -> dict[str, tuple[str, ...]]:
        """The values that rows must have, by field; of a source that holds other rows too."""
        kept = self.source.get("keep_only", {})
        return {name: tuple(str(value) for value in values) for name, values in kept.items()}

    def locate(self, root: str | None, source: Mapping[str, Any] | None = None) -> Source:
        """The source, local under ``root`` or as the task says; or another in the same words."""
        given = dict(self.source if source is None else source)
        fields, hub_fields = given.pop("fields", {}), given.pop("hub_fields", {})
        path, hub = given.pop("path", None), given.pop("hub", None)
        given.pop("keep_only", None)  # of the examples, not of the file
        options = dict(given.pop("options", {}))
        given.pop("ignored_fields", None)
        texts = given.pop("parallel", {})
        local = bool(path or texts) and (root is not None or hub is None)
        of_files = {name: given.pop(name) for name in _OF_FILES if name in given}
        columns = tuple(of_files.pop("columns", ()))
        folder = Path(root or ".").expanduser()
        return Source(
            split=given.pop("split", "test"),
            path=below(folder, expanduser(path)) if local and path else None,
            parallel={name: folder / expanduser(file) for name, file in texts.items()}
            if local
            else {},
            hub=None if local else hub,
            fields=fields if local or not hub_fields else hub_fields,
            seed=options.pop("seed", 0),
            options=options,
            columns=columns if local else (),
            **(of_files if local else {}),
            **given,
        )

    def with_few_shot(self, count: int | None) -> "Task":
        """The task with this many demonstrations; None leaves what it says, 0 takes none. Tasks
        that estimate a likelihood have none."""
        if count is None or self.kind != "generation":
            return self
        return replace(self, few_shot={**(self.few_shot or {}), "count": count})

    def examples(self, root: str | None, limit: int | None = None) -> ExampleRecipe:
        """How the examples are made, of at most ``limit`` rows."""
        source = self.locate(root)
        limits = [number for number in (source.limit, limit) if number is not None]
        rows = replace(
            self._rows_of(replace(source, limit=min(limits, default=None))), cluster=self.cluster
        )
        if not self.shots:
            return ExampleRecipe((rows,))
        assert self.few_shot is not None
        given = dict(self.few_shot)
        shown = self._rows_of(self.locate(root, given.pop("source", None)))
        return ExampleRecipe((rows,), 0, FewShot(**given), shown)

    def identity(self) -> dict[str, Any]:
        """What decides the scores, but for the rows."""
        said = {
            "task": self.name, "version": self.version, "metrics": self.metrics,
            "prompt": self.template.prompt, "response": self.template.response,
        }  # fmt: skip
        if self.kind == "generation":
            languages = {"language": self.language, "reference_language": self.reference_language}
            return said | {key: value for key, value in languages.items() if value}
        choices = self.choices if isinstance(self.choices, str) else list(self.choices)
        own = {"kind": self.kind, "choices": choices, "answer": self.answer}
        return said | own | {"likelihood": dict(self.likelihood)}

    def with_likelihood(self, changes: Mapping[str, Any]) -> "Task":
        """The task with other settings of the likelihood; those that are None stay.

        Raises:
            UserError: Estimator and samples do not fit together.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if self.kind == "generation" or not given:
            return self
        changed = {**self.likelihood, **given}
        problems = likelihood_problems(changed)
        if changed["estimator"] == "chain_rule" and "samples" in given:
            problems.append("samples would be ignored: chain_rule draws nothing; leave it out")
        if problems:
            raise UserError(f"task {self.name}: {'; '.join(problems)}")
        return replace(self, likelihood=changed)

    def _rows_of(self, source: Source) -> TaskSource:
        return TaskSource(
            self.name, source, self.shape, (self.template,), keep_only=self.keep_only,
            ignored_fields=tuple(self.source.get("ignored_fields", ())),
        )  # fmt: skip


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
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a task: it needs version, source and metrics")
    name_of_task = path.stem
    if path.parent == SHIPPED and "{" in path.stem:
        word, values = _variants(raw)
        name_of_task = name
        value = next(each for each in values if replaced(path.stem, {word: each}) == name)
        raw = replaced({key: raw[key] for key in raw if key != "variants"}, {word: value})
    if reason := RESULT.problem(name_of_task):
        raise UserError(f"{path}: a task is called as its file, {name_of_task!r}: {reason}")
    if problems := task_problems(raw):
        raise UserError(f"{path}: {'; '.join(problems)}")
    return Task(
        name=name_of_task,
        version=raw["version"],
        description=raw.get("description", ""),
        source=raw["source"],
        metrics=raw["metrics"],
        template=_template(raw),
        shape=raw.get("task", "translation"),
        language=raw.get("language"),
        reference_language=raw.get("reference_language"),
        few_shot=raw.get("few_shot"),
        cluster=_cluster(raw),
        kind=raw.get("kind", "generation"),
        choices=_choices(raw.get("choices", "")),
        answer=raw.get("answer", ""),
        likelihood={**DEFAULT_LIKELIHOOD, **raw.get("likelihood", {})},
    )


def _choices(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _cluster(raw: dict[str, Any]) -> Cluster | None:
    shape = TASKS[raw.get("task", "translation")].cluster
    given = raw.get("cluster", shape if raw.get("kind", "generation") == "generation" else "")
    if not given:
        return None
    return Cluster(given) if isinstance(given, str) else Cluster(**given)


def _template(raw: dict[str, Any]) -> Template:
    pair = "prompt" in raw or "response" in raw
    if raw.get("kind") == "perplexity" and not pair:
        return Template("", raw.get("text", "{text}"))
    return Template.of(raw.get("task", "translation"), raw.get("prompt"), raw.get("response"))
