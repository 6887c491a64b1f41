"""Templates: from a row's fields to a prompt and a response, or to a text."""

import string
from dataclasses import dataclass
from typing import Any, Literal

from dlm.errors import UserError

DEFAULT_TEMPLATES: dict[str, tuple[str, str]] = {
    "text": ("", "{text}"),
    "translation": ("{src}", "{tgt}"),
    "instruction": ("{inputs}", "{targets}"),
}
"""Task -> prompt and response template; a text has no prompt."""


@dataclass(frozen=True)
class Template:
    """A prompt and a response with ``{field}`` places."""

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
        parsed = [*string.Formatter().parse(self.prompt), *string.Formatter().parse(self.response)]
        return [name for _, name, _, _ in parsed if name]

    def fill(self, row: dict[str, Any], place: str, number: int) -> tuple[str, str]:
        """The prompt and response of a row.

        Raises:
            UserError: A field is missing, not a string, or the response is empty.
        """
        for name in self.fields:
            if not isinstance(row.get(name), str):
                kind = "is missing" if name not in row else f"is {type(row[name]).__name__}, not text"
                raise UserError(
                    f"{place}, row {number}: field '{name}' {kind} (the row has "
                    f"{', '.join(map(str, row))}): set `fields` of the source or the template"
                )
        prompt, response = self.prompt.format(**row).strip(), self.response.format(**row).strip()
        if not response:
            raise UserError(f"{place}, row {number}: the text to learn is empty: remove the row")
        return prompt, response
