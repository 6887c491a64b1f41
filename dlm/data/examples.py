"""From the sources of a stage to its examples: everything that decides a prompt and a response.

Rows are left out or kept by a field, read in the shape of their task, put into a template,
compared with those before them, and given demonstrations.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from dlm.data.clusters import Cluster
from dlm.data.few_shot import FewShot, demonstrations
from dlm.data.prompts import Example, Template
from dlm.data.sources import (
    BadRow,
    BadRows,
    Place,
    Row,
    Source,
    names_of,
    source_identity,
    stream_rows,
)
from dlm.data.sources.stream import refuse_no_rows
from dlm.data.tasks.instructions import conversation, says_something, unread_in_turns
from dlm.data.tasks.pieces import OTHERS
from dlm.data.tasks.registry import TASKS
from dlm.errors import UserError, did_you_mean

_STREAM = 109
Values = Mapping[str, tuple[str, ...]]
"""Field name -> values, as text."""


class Reader(Protocol):
    """Something that reads along, such as the search for evaluation texts."""

    def read(self, example: Example) -> None:
        """One example, before demonstrations are put in front of it."""


@dataclass(frozen=True)
class TaskSource:
    """One source, the shape of its rows and what is asked with them."""

    name: str
    source: Source
    task: str
    templates: tuple[Template, ...]
    """Each row gets one of them, drawn by the seed and the row's number in its source."""
    leave_out: Values = field(default_factory=dict)
    """Rows that have one of these values in the field are held out."""
    keep_only: Values = field(default_factory=dict)
    """Rows that have none of these values in the field are left out."""
    ignored_fields: tuple[str, ...] = ()
    """Fields that say something and are left out on purpose."""
    answered: bool = True
    """Whether rows have a response. Off, a model is to write it: only the prompt must be there."""
    cluster: Cluster | None = None
    """What rows share that are not independent of each other; read for scores alone."""

    @property
    def conditional(self) -> bool:
        """Whether the rows have a prompt; texts have none."""
        return TASKS[self.task].conditional

    def stream(
        self, seed: int, counts: Counter[str], bad_rows: BadRows | None = None
    ) -> Iterator[Example]:
        """The examples one by one; ``counts`` gets the rows that were left out, ``bad_rows`` those
        that cannot be used (without it the first one is refused).

        Raises:
            UserError: The source cannot be read, a row does not fit, no row is left, or a value
                that is held out or kept occurs nowhere.
        """
        met: Counter[tuple[str, str]] = Counter()
        bad_rows = bad_rows or BadRows()
        before, kept = bad_rows.met, False
        for place, row in stream_rows(self.source, bad_rows=bad_rows):
            try:
                if not self._wanted(row, place, met):
                    counts["left_out_rows"] += 1
                    continue
                examples = self._examples_of(row, place, seed)
            except BadRow as error:
                bad_rows.bad(place, error.reason)
                continue
            kept = True
            yield from examples
        self._check_values(met)
        if not kept and bad_rows.met > before:
            refuse_no_rows(self.source, bad_rows, before)
        elif not kept:
            raise UserError(
                f"{self.source.place}: every row is left out (leave_out and keep_only of source "
                f"'{self.name}'): keep at least one"
            )

    def _examples_of(self, row: Row, place: Place, seed: int) -> list[Example]:
        template = self.template(seed, place.number)
        shape = TASKS[self.task]
        adapt = shape.adapt if self.answered else shape.adapt_open or shape.adapt
        adapted = adapt(row, place)
        if shape.telling:
            self._refuse_unread(row, template, place)
        make = _example if self.answered else _open_example
        examples = [make(template, fields, place) for fields in adapted]
        if self.cluster is None:
            return examples
        shared = self.cluster.of(row, place)
        return [example._replace(cluster=shared) for example in examples]

    def _refuse_unread(self, row: Row, template: Template, place: Place) -> None:
        """A field that says something is not dropped because no template knows it."""
        shape = TASKS[self.task]
        used = {*template.fields, *self.source.fields.values(), *self.ignored_fields}
        used |= {*self.leave_out, *self.keep_only}
        read = used.union(*(shape.made_of.get(name, ()) for name in template.fields))
        telling = (n for n in shape.telling if says_something(row.get(n)))
        name = next((n for n in telling if n not in read), None)
        if name is not None:
            raise UserError(
                f"{place}: the field '{name}' says something, and no template of source "
                f"'{self.name}' reads it: use it in `prompt`, such as "
                f'"{{{name}}}\\n\\n{template.prompt}", or say that it is left out with '
                f"`ignored_fields: [{name}]` of the source"
            )
        if (problem := unread_in_turns(row, self.ignored_fields)) and shape.adapt is conversation:
            raise UserError(f"{place}: {problem}")

    def template(self, seed: int, number: int) -> Template:
        """The template of a row."""
        if len(self.templates) == 1:
            return self.templates[0]
        from dlm.diffusion.counter import counter_seed  # torch: not for reading a recipe

        return self.templates[counter_seed(seed, _STREAM, number) % len(self.templates)]

    def identity(self) -> dict[str, Any]:
        """What decides the examples, but for the seed."""
        asked = {
            "task": self.task,
            "templates": [[template.prompt, template.response] for template in self.templates],
        }
        filters = {"leave_out": self.leave_out, "keep_only": self.keep_only}
        given = {
            name: {key: list(values) for key, values in filter_.items()}
            for name, filter_ in filters.items()
            if filter_
        }
        return source_identity(self.source) | asked | given

    def _wanted(self, row: Row, place: Place, met: Counter[tuple[str, str]]) -> bool:
        wanted = True
        for values, keep in ((self.leave_out, False), (self.keep_only, True)):
            for name, listed in values.items():
                if name not in row:
                    raise BadRow(
                        place,
                        f"no field '{name}' to choose rows by (the row has "
                        f"{names_of(row)}{did_you_mean(name, row)}): correct leave_out "
                        "or keep_only of the source",
                    )
                value = str(row[name])
                met[name, value] += 1
                wanted &= (value in listed) == keep
        return wanted

    def _check_values(self, met: Counter[tuple[str, str]]) -> None:
        """A misspelt value would hold out nothing; with a limit its rows may lie beyond it, and
        of a split set in the other part."""
        if self.source.limit is not None or self.source.holdout is not None:
            return
        for values in (self.leave_out, self.keep_only):
            for name, listed in values.items():
                present = sorted(value for field_, value in met if field_ == name)
                for value in listed:
                    if value not in present:
                        raise UserError(
                            f"{self.source.place}: no row has '{value}' in the field '{name}'"
                            f"{did_you_mean(value, present)} (there are {', '.join(present[:20])}"
                            f"{', ...' if len(present) > 20 else ''}): correct leave_out or "
                            f"keep_only of source '{self.name}'"
                        )


@dataclass(frozen=True)
class ExampleRecipe:
    """All that decides the examples of a set, in an order that is that of the sources."""

    sources: tuple[TaskSource, ...]
    seed: int = 0
    """Draws templates and demonstrations."""
    few_shot: FewShot | None = None
    demonstrations_from: TaskSource | None = None
    """Where the demonstrations come from; read before the sources are."""
    deduplicate: bool = False
    """Keep the first of examples with the same prompt and response (before demonstrations). Costs
    about 90 bytes of memory an example."""

    @property
    def names(self) -> list[str]:
        """Names of the sources."""
        return [source.name for source in self.sources]

    @property
    def place(self) -> str:
        """Where the rows come from, for messages."""
        return ", ".join(source.source.place for source in self.sources)

    @cached_property
    def _pool(self) -> list[Example]:
        assert self.few_shot is not None and self.demonstrations_from is not None
        # What is bad here is met again where the source is trained on, and refused or counted.
        passed_over = BadRows("skip")
        return self.few_shot.pool(
            self.demonstrations_from.stream(self.seed, Counter(), passed_over)
        )

    def stream(
        self, counts: Counter[str], reader: Reader | None = None, bad_rows: BadRows | None = None
    ) -> Iterator[tuple[int, Example]]:
        """Examples with the number of their source; sources come one after the other.

        ``counts`` gets what was left out, by reason, ``bad_rows`` the rows that cannot be used;
        ``reader`` reads along.

        Raises:
            UserError: As :meth:`TaskSource.stream`, or there are too few demonstrations.
        """
        seen: set[bytes] = set()
        for number, source in enumerate(self.sources):
            for example in source.stream(self.seed, counts, bad_rows):
                if self.deduplicate and _again(example, seen):
                    counts["duplicate_rows"] += 1
                    continue
                if reader is not None:
                    reader.read(example)
                if self.few_shot is not None:
                    shown = demonstrations(self.few_shot, self._pool, example, self.seed)
                    prompt = self.few_shot.prompt(shown, example.prompt)
                    example = example._replace(prompt=prompt, asked=example.prompt)
                yield number, example

    def identity(self) -> dict[str, Any]:
        """What decides the examples, JSON-able (hashes of files, not their names)."""
        shown = None
        if self.few_shot is not None and self.demonstrations_from is not None:
            shown = {**asdict(self.few_shot), "source": self.demonstrations_from.identity()}
        return {
            "sources": [source.identity() for source in self.sources],
            "seed": self.seed, "few_shot": shown, "deduplicate": self.deduplicate,
        }  # fmt: skip


def _example(template: Template, fields: Row, place: Place) -> Example:
    prompt, response = template.fill(fields, place)
    filled = (template.fill({**fields, **other}, place)[1] for other in fields.get(OTHERS, ()))
    return Example(place, prompt, response, tuple(filled), source=template.source_of(fields))


def _open_example(template: Template, fields: Row, place: Place) -> Example:
    prompt, response, asked = template.ask(fields, place)
    return Example(place, prompt, response, open_fields=asked, answer_field=template.response_field)


def _again(example: Example, seen: set[bytes]) -> bool:
    parts = (text.encode() for text in (example.prompt, example.response))
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    key = digest.digest()
    if key in seen:
        return True
    seen.add(key)
    return False
