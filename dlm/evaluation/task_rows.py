"""The rows of a task: prompts, references, and the choices of a question."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dlm.data.clusters import cluster_numbers
from dlm.data.prompts import Template
from dlm.data.sources import Place, Source, names_of, stream_rows
from dlm.data.tasks.choices import right_choice, texts_and_labels
from dlm.errors import UserError, did_you_mean
from dlm.evaluation.tasks import Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class TaskRows:
    """A task with its rows read."""

    task: Task
    prompts: list[str]
    """Empty texts where a perplexity task has no prompts."""
    references: list[str]
    """The text to be generated, the right choice, or the text whose likelihood is bounded."""
    choices: list[list[str]] = field(default_factory=list)
    """multiple_choice: the choices of every row."""
    skip_too_long: bool = False
    """generation and multiple_choice: leave out prompts that leave no room for an answer, and count
    them."""
    right: list[int] = field(default_factory=list)
    """multiple_choice: the index of the right one."""
    others: list[tuple[str, ...]] = field(default_factory=list)
    """generation: further references of every row."""
    inputs: list[str] = field(default_factory=list)
    """generation: every prompt without its demonstrations, where there are any."""
    sources: list[str] = field(default_factory=list)
    """generation: what of every prompt is the row's own (empty: it cannot be told), where the
    prompts have words around it or demonstrations before it."""
    clusters: list[int] = field(default_factory=list)
    """The first row that shares each row's cluster, where the task has clusters."""

    def without(self, left_out: Collection[int]) -> "TaskRows":
        """The rows but for some, by index."""

        def kept(column: list[Item]) -> list[Item]:
            return [item for index, item in enumerate(column) if index not in left_out]

        return replace(
            self, prompts=kept(self.prompts), references=kept(self.references),
            choices=kept(self.choices), right=kept(self.right), others=kept(self.others),
            inputs=kept(self.inputs), sources=kept(self.sources), clusters=kept(self.clusters),
        )  # fmt: skip


def read_task(
    task: Task, *, root: str | None, limit: int | None, skip_too_long: bool = False
) -> TaskRows:
    """Read a task's rows, at most ``limit``.

    Of a task of texts alone blank rows are left out: a text set of the hub has them where a file
    has blank lines.

    Raises:
        UserError: The rows cannot be read or do not fit the task.
    """
    source = task.locate(root)
    limits = [number for number in (source.limit, limit) if number is not None]
    most = min(limits, default=None)
    if task.kind == "multiple_choice":
        return _questions(task, source, most, skip_too_long)
    if task.kind == "perplexity" and not task.template.prompt:
        texts = list(_texts(replace(source, limit=most), task.template))
        if not texts:
            raise UserError(f"{source.place} has only blank rows: give a source with texts")
        return TaskRows(task, [""] * len(texts), texts)
    rows = [example for _, example in task.examples(root, limit).stream(Counter())]
    return TaskRows(
        task, [row.prompt for row in rows], [row.response for row in rows],
        skip_too_long=skip_too_long, others=[row.others for row in rows],
        inputs=[row.asked for row in rows] if any(row.asked for row in rows) else [],
        sources=[row.source for row in rows]
        if any(row.source not in ("", row.prompt) for row in rows) else [],
        clusters=cluster_numbers([row.cluster for row in rows]) if task.cluster else [],
    )  # fmt: skip


def refuse_none_left(too_long: int, rows: TaskRows, positions: int) -> None:
    """Refuse a task all of whose rows would be left out as too long.

    Raises:
        UserError: No row is left.
    """
    if too_long == len(rows.prompts):
        raise UserError(
            f"all {too_long} prompts are too long for the model's {positions} positions, and no "
            "row is left to score: shorten the prompts (fewer demonstrations), or take a model "
            "that reads more"
        )


def _texts(source: Source, template: Template) -> Iterator[str]:
    names = template.fields

    def has_text(place: Place, row: dict[str, Any]) -> bool:
        values = [row.get(name) for name in names]
        return not values or any(not isinstance(v, str) or v.strip() for v in values)

    for place, row in stream_rows(source, wanted=has_text):
        yield template.fill(row, place)[1]


def _wanted(task: Task, source: Source) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows that have the values of ``keep_only``.

    Raises:
        UserError: A row lacks such a field, or none has the values.
    """

    def kept(place: Place, row: dict[str, Any]) -> bool:
        return all(str(_field(row, n, place)) in values for n, values in task.keep_only.items())

    found = False
    for place, row in stream_rows(source, wanted=kept):
        found = True
        yield place, row
    if not found:
        raise UserError(
            f"{source.place}: every row is left out by source.keep_only of task {task.name}: "
            "correct its values"
        )


def _questions(task: Task, source: Source, most: int | None, skip_too_long: bool) -> TaskRows:
    # The response is not filled in: it stands for the choices, which are no template.
    prompt_alone = Template(task.template.prompt, "choice")
    read = TaskRows(task, [], [], skip_too_long=skip_too_long)
    shared = []
    for place, row in _wanted(task, replace(source, limit=most)):
        if task.cluster is not None:
            shared.append(task.cluster.of(row, place))
        prompt, _ = prompt_alone.fill(row, place)
        choices, labels = list(task.choices), list[str]()
        if isinstance(task.choices, str):
            choices, labels = _choices(row, task.choices, place)
        answer = _field(row, task.answer, place)
        right = right_choice(answer, choices, labels, task.answer, place)
        read.prompts.append(prompt)
        read.references.append(choices[right])
        read.choices.append(choices)
        read.right.append(right)
    return replace(read, clusters=cluster_numbers(shared))


def _choices(row: dict[str, Any], name: str, place: Place) -> tuple[list[str], list[str]]:
    value, labels = texts_and_labels(_field(row, name, place))
    if not isinstance(value, list) or not all(isinstance(c, str) and c.strip() for c in value):
        raise UserError(
            f"{place}: field '{name}' must be a list of texts, none empty: correct the row, or set "
            "`choices` of the task"
        )
    choices = [choice.strip() for choice in value]
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise UserError(
            f"{place}: field '{name}' must have at least two choices, all different: correct the "
            "row"
        )
    return choices, labels


def _field(row: dict[str, Any], name: str, place: Place) -> Any:
    if name not in row:
        raise UserError(
            f"{place}: field '{name}' is missing (the row has {names_of(row)}"
            f"{did_you_mean(name, row)}): correct the row, or set `fields` of the source"
        )
    return row[name]
