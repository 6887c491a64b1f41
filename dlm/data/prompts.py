"""Templates: from a row's fields to a prompt and a response, or to a text."""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from dlm.data.sources import (
    BadRow,
    BadRows,
    Place,
    Source,
    json_kind,
    names_of,
    remedy_of,
    stream_rows,
)
from dlm.data.sources.stream import refuse_no_rows
from dlm.data.tasks.registry import shipped_templates
from dlm.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Template:
    """A prompt and a response with ``{field}`` places; ``{{`` and ``}}`` are braces."""

    prompt: str
    response: str

    @classmethod
    def of(cls, task: str, prompt: str | None = None, response: str | None = None) -> "Template":
        """The task's own template, or the parts given."""
        default = shipped_templates()[task][0]
        return cls(
            default[0] if prompt is None else prompt,
            default[1] if response is None else response,
        )

    @property
    def fields(self) -> list[str]:
        """Names of the fields that are used."""
        return [name for parts in self._parts for _, name in parts if name is not None]

    @property
    def response_field(self) -> str | None:
        """The field that the response consists of alone; None where it is more, or no field."""
        parts = self._parts[1]
        return parts[0][1] if len(parts) == 1 and not parts[0][0] else None

    def source_of(self, row: dict[str, Any]) -> str:
        """What the row gives, without the words that the prompt puts around it: the one field of
        the prompt, or among several the text that is to be rewritten; empty where none is that."""
        names = list(dict.fromkeys(name for _, name in self._parts[0] if name is not None))
        chosen = names[0] if len(names) == 1 else "src" if "src" in names else None
        return str(row[chosen]) if chosen is not None and chosen in row else ""

    @property
    def prompt_parts(self) -> list[tuple[str, str | None]]:
        """The prompt's words, and behind each piece of them the name of a field, or None."""
        return list(self._parts[0])

    @cached_property
    def _parts(self) -> tuple["_Parts", "_Parts"]:
        return _parse(self.prompt), _parse(self.response)

    def fill(self, row: dict[str, Any], place: Place) -> tuple[str, str]:
        """The prompt and response of a row; ``place`` is for messages.

        Raises:
            BadRow: A field is missing or not a string, or the prompt or the response is empty.
            UserError: The template is none.
        """
        prompt, response = (_filled(parts, row, place) for parts in self._parts)
        if self.prompt and not prompt:
            raise BadRow(place, _EMPTY_PROMPT)
        if not response:
            raise BadRow(place, "the text to learn is empty: give it some text, or remove the row")
        return prompt, response

    def ask(self, row: dict[str, Any], place: Place) -> tuple[str, str, dict[str, str]]:
        """The prompt of a row whose response is to be written, its response where it has one (else
        empty), and the fields of the prompt.

        Raises:
            BadRow: A field of the prompt is missing or not a string, or the prompt is empty.
            UserError: The template is none.
        """
        asked, learnt = self._parts
        prompt = _filled(asked, row, place)
        if not prompt:
            raise BadRow(place, _EMPTY_PROMPT)
        known = all(isinstance(row.get(name), str) for _, name in learnt if name is not None)
        response = _filled(learnt, row, place) if known else ""
        return prompt, response, {name: row[name] for _, name in asked if name is not None}


class Example(NamedTuple):
    """A row as text: what is given and what is to be learnt."""

    place: Place
    prompt: str
    response: str
    others: tuple[str, ...] = ()
    """Other right responses of the row, for scores; nothing is trained on them. Equal ones stay:
    each is a vote of SARI."""
    asked: str = ""
    """The prompt without the demonstrations before it; empty where it has none."""
    open_fields: dict[str, str] | None = None
    """Of a row whose response a model is to write: the fields of its prompt."""
    answer_field: str | None = None
    """Of such a row: the field that the answer belongs into, if it is one."""
    source: str = ""
    """What of the prompt is the row's: see :meth:`Template.source_of`."""
    cluster: str = ""
    """What it shares with rows that it is not independent of, for intervals of scores."""


def stream_examples(
    source: Source, template: Template, *, bad_rows: BadRows | None = None
) -> Iterator[Example]:
    """The examples of a source one by one.

    ``bad_rows`` is told of every row that cannot be read or does not fit the template; without it
    the first one is refused. Its ``finish`` is the caller's to call.

    Raises:
        UserError: The source cannot be read or has no row that fits, or (BadRow) a row is bad.
    """
    bad_rows = bad_rows or BadRows()
    before, count = bad_rows.met, 0
    for place, row in stream_rows(source, bad_rows=bad_rows):
        try:
            prompt, response = template.fill(row, place)
        except BadRow as error:
            bad_rows.bad(place, error.reason)
        else:
            count += 1
            yield Example(place, prompt, response)
    if not count:
        refuse_no_rows(source, bad_rows, before)


def _filled(parts: "_Parts", row: dict[str, Any], place: Place) -> str:
    """The text of one side of a template."""
    for _, name in parts:
        if name is not None and not isinstance(row.get(name), str):
            kind = f"is {json_kind(row[name])}, not text" if name in row else "is missing"
            raise BadRow(
                place,
                f"field '{name}' {kind} (the row has {names_of(row)}"
                f"{'' if name in row else did_you_mean(name, row)}): "
                f"{remedy_of(row.get(name))}correct the row, or set `fields` of the source or the "
                "template",
            )
    pieces = [text for part, name in parts for text in (part, "" if name is None else row[name])]
    # At the ends the template's own blanks are cut, and what stands between empty fields.
    first = next((i for i, text in enumerate(pieces) if text.strip()), len(pieces))
    last = next((i for i in reversed(range(len(pieces))) if pieces[i].strip()), -1)
    pieces = pieces[first : last + 1]
    if pieces and first % 2 == 0:
        pieces[0] = pieces[0].lstrip()
    if pieces and last % 2 == 0:
        pieces[-1] = pieces[-1].rstrip()
    return "".join(pieces)


def _parse(template: str) -> "_Parts":
    """Literal text and the field after it, piece by piece."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"template {template!r}: {error}. {_FORM}") from error
    for _, name, specification, conversion in pieces:
        if name == "" or specification or conversion:
            raise UserError(f"template {template!r}: a place must name a field alone. {_FORM}")
    return [(text, name) for text, name, _, _ in pieces]


_Parts = list[tuple[str, str | None]]
_EMPTY_PROMPT = "the prompt is empty: give it some text, or remove the row"
_FORM = "Write fields as {name}, and braces that are meant as text as {{ and }}"
