"""dlm generate: the prompts, as the command line or a file gives them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.errors import UserError, did_you_mean
from dlm.recipe.serving import check_utf8

if TYPE_CHECKING:
    from dlm.data.prompt_forms import PromptForm
    from dlm.data.sources import Place, Row
    from dlm.generation.infill import InfillTemplate

_TURNS = ("messages", "conversations")


@dataclass(frozen=True)
class Prompts:
    """What is asked, in the order given."""

    texts: list[str]
    places: list[str]
    """Where each was given, for messages."""

    def each(self, times: int) -> "Prompts":
        """Each several times, one behind the other."""
        return Prompts(*(
            [one for one in given for _ in range(times)] for given in (self.texts, self.places)
        ))  # fmt: skip


def given_prompts(
    options: argparse.Namespace,
    templates: "list[InfillTemplate]",
    forms: "Callable[[], Sequence[PromptForm]]",
) -> Prompts:
    """The prompts; texts to fill in need none.

    Args:
        options: Of ``dlm generate``.
        templates: The texts to fill in.
        forms: Says how the prompts of the model were worded in training; asked of conversations.

    Raises:
        UserError: The file cannot be read, or a row has no prompt that the model could read.
    """
    if options.input is not None:
        prompts = _lines() if options.input == "-" else _read(Path(options.input), forms)
    else:
        texts = list(options.prompt or [])
        if not texts and not templates:
            return Prompts([""], ["what --num-samples draws"])
        if templates and len(texts) not in (0, len(templates)):
            raise UserError(
                f"{len(texts)} prompts for {len(templates)} texts to fill in: give each text its "
                "own --prompt, or none"
            )
        prompts = Prompts(texts, [f"prompt {n} of {len(texts)}" for n in range(1, len(texts) + 1)])
    for text, place in zip(prompts.texts, prompts.places, strict=True):
        check_utf8(text, place)
    return prompts


def _lines() -> Prompts:
    """A prompt a line of standard input; empty lines at its end are none."""
    lines = sys.stdin.read().rstrip("\n").splitlines()
    if not lines:
        raise UserError("--input -: standard input is empty: write a prompt a line to it")
    return Prompts(
        lines, [f"line {number} of standard input" for number in range(1, len(lines) + 1)]
    )


def _read(path: Path, forms: "Callable[[], Sequence[PromptForm]]") -> Prompts:
    from dlm.data.sources import Source, file_kind, stream_rows

    if not path.exists():
        raise UserError(f"there is no file {path}: give --input JSON lines with the field 'prompt'")
    field = "text" if file_kind(path).format == "txt" else "prompt"
    rows = list(stream_rows(Source(split="", path=path)))
    texts = [_text_of(row, field, place, forms) for place, row in rows]
    return Prompts(texts, [str(place) for place, _ in rows])


def _text_of(
    row: "Row", field: str, place: "Place", forms: "Callable[[], Sequence[PromptForm]]"
) -> str:
    from dlm.data.sources import json_kind, names_of

    if isinstance(row.get(field), list):  # a conversation, as TRL's prompts are
        row = {**row, _TURNS[0]: row[field]}
    elif isinstance(text := row.get(field), str):
        if named := next((name for name in _TURNS if row.get(name)), None):
            raise UserError(
                f"{place} has a '{field}' and '{named}', of which one would be ignored: remove it"
            )
        return text
    if any(row.get(name) is not None for name in _TURNS):
        form = next((form for form in forms() if form.chat), None)
        if form is None:
            raise UserError(
                f"{place} is a conversation, and the model is not known to be trained on any "
                f"(data.task chat): give the field '{field}', worded as in training"
            )
        return form.asks(row, place)
    problem, hint = "is missing", did_you_mean(field, row)
    if field in row:
        problem, hint = f"is {json_kind(row[field])}, not text", ""
    raise UserError(
        f"{place}: field '{field}' {problem} (the row has {names_of(row)}{hint}): correct the row"
    )
