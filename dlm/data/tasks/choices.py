"""Multiple choice: MMLU (question, choices, answer) and BBH (input, target)."""

import string
from typing import Any

from dlm.data.sources import BadRow, Place, Row
from dlm.data.tasks.pieces import Fields, field_of, text_of


def multiple_choice(row: Row, place: Place) -> list[Fields]:
    """``problem`` (the question with its options), ``letter`` of the right one, ``answer``.

    The answer is a choice as :func:`right_choice` reads it; options are written "(A) ...", a line
    each. BBH's inputs hold their options, if they have any, and the target is the answer: there
    ``letter`` is the target as it is written, such as "(B)" or "No".

    Raises:
        BadRow: The answer names no option, or may name two.
    """
    if row.get("choices") is None and row.get("input") is not None:
        target = text_of(field_of(row, "target", place), "target", place)
        problem = text_of(row["input"], "input", place)
        return [{**row, "problem": problem, "letter": target, "answer": target}]
    question = text_of(field_of(row, "question", place), "question", place).strip()
    given, labels = texts_and_labels(field_of(row, "choices", place))
    choices = _choices(given, place)
    number = right_choice(field_of(row, "answer", place), choices, labels, "answer", place)
    options = [f"({letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=False)]
    return [{
        **row,
        "question": question, "options": "\n".join(options),
        "problem": "\n".join([question, *options]),
        "letter": _LETTERS[number], "answer": choices[number],
    }]  # fmt: skip


_LETTERS = string.ascii_uppercase


def texts_and_labels(value: Any) -> tuple[Any, list[str]]:
    """The list of choices and their labels: ARC's choices are an object with both."""
    if not isinstance(value, dict):
        return value, []
    labels = value.get("label")
    return value.get("text"), list(map(str, labels)) if isinstance(labels, list) else []


def right_choice(
    answer: Any, choices: list[str], labels: list[str], field: str, place: Place
) -> int:
    """The index of the choice that an answer names.

    It is the label of a choice, if there are labels. Else a number is an index from 0, and a text
    is that of a choice, or its letter (A is the first). Digits in quote marks that are no choice's
    text may count from 0 or from 1: "0" alone is plain.

    Raises:
        BadRow: It names none, or may name two.
    """
    written = str(answer).strip()
    number = answer if type(answer) is int else -1
    if type(answer) in (int, str) and labels.count(written) == 1:
        number = labels.index(written)
    elif isinstance(answer, str) and written in choices:
        number = choices.index(written) if choices.count(written) == 1 else -1
    elif isinstance(answer, str) and written.isdecimal():
        number = int(written)
        if 0 < number <= len(choices):
            raise BadRow(
                place,
                f"field '{field}' = '{written}' is text, and may count choices from 0 or from 1: "
                "write a number without quote marks (an index from 0), a letter (A is the first) "
                "or the text of the choice, or read the labels too: choices as an object with "
                "`text` and `label`",
            )
    elif isinstance(answer, str) and len(written) == 1:
        number = _LETTERS.find(written.upper())
    if not 0 <= number < len(choices):
        raise BadRow(
            place,
            f"field '{field}' = {answer!r} names no choice, or two: it must be the number of a "
            f"choice from 0 to {len(choices) - 1}, its letter, or the text of one: correct the row",
        )
    return number


def _choices(value: Any, place: Place) -> list[str]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(_LETTERS):
        raise BadRow(place, "field 'choices' must be a list of 2 to 26 texts: correct it")
    return [text_of(choice, "choices", place).strip() for choice in value]
