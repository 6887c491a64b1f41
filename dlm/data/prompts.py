"""Templates: from a row's fields to a prompt and a response, or to a text."""

import string
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from dlm.data.sources import Source, did_you_mean, json_kind, numbered_rows
from dlm.errors import UserError

DEFAULT_TEMPLATES: dict[str, tuple[str, str]] = {
    "text": ("", "{text}"),
    "translation": ("{src}", "{tgt}"),
    "instruction": ("{inputs}", "{targets}"),
}
"""Task -> prompt and response template; a text has no prompt."""


@dataclass(frozen=True)
class Template:
    """A prompt and a response with ``{field}`` places; ``{{`` and ``}}`` are braces."""

    prompt: str
    response: str

    @classmethod
    def of(
        cls, task: Literal["text", "translation", "instruction"] | str,
        prompt: str | None = None, response: str | None = None,
    ) -> "Template":  # fmt: skip
        """The task's own template, or the parts given."""
        default = DEFAULT_TEMPLATES[task]
        return cls(
            default[0] if prompt is None else prompt,
            default[1] if response is None else response,
        )

    @property
    def fields(self) -> list[str]:
        """Names of the fields that are used."""
        return [name for parts in self._parts for _, name in parts if name is not None]

    @cached_property
    def _parts(self) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
        return _parse(self.prompt), _parse(self.response)

    def fill(
        self, row: dict[str, Any], place: str, number: int, unit: str = "row"
    ) -> tuple[str, str]:
        """The prompt and response of a row; ``place``, ``unit`` and ``number`` are for messages.

        Raises:
            UserError: The template is none, a field is missing or not a string, or the prompt
                or the response is empty.
        """
        where = f"{place}, {unit} {number}"
        for name in self.fields:
            if not isinstance(row.get(name), str):
                kind = f"is {json_kind(row[name])}, not text" if name in row else "is missing"
                raise UserError(
                    f"{where}: field '{name}' {kind} (the row has {', '.join(map(str, row))}"
                    f"{'' if name in row else did_you_mean(name, row)}): correct the row, or set "
                    "`fields` of the source or the template"
                )
        prompt, response = (
            "".join(text + ("" if name is None else row[name]) for text, name in parts).strip()
            for parts in self._parts
        )
        if self.prompt and not prompt:
            raise UserError(f"{where}: the prompt is empty: give it some text, or remove the row")
        if not response:
            raise UserError(
                f"{where}: the text to learn is empty: give it some text, or remove the row"
            )
        return prompt, response


def fill_rows(source: Source, template: Template) -> list[tuple[int, str, str]]:
    """Number (in a file: the line), prompt and response of every row of a source.

    Raises:
        UserError: The source cannot be read, or a row does not fit the template.
    """
    unit = "row" if source.path is None else "line"
    return [
        (number, *template.fill(row, source.place, number, unit))
        for number, row in numbered_rows(source)
    ]


def _parse(template: str) -> list[tuple[str, str | None]]:
    """Literal text and the field after it, piece by piece."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"template {template!r}: {error}. {_FORM}") from error
    for _, name, specification, conversion in pieces:
        if name == "" or specification or conversion:
            raise UserError(f"template {template!r}: a place must name a field alone. {_FORM}")
    return [(text, name) for text, name, _, _ in pieces]


_FORM = "Write fields as {name}, and braces that are meant as text as {{ and }}"
