"""Multiple choice: MMLU (question, choices, answer) and BBH (input, target)."""

import string
from typing import Any

from dlm.data.sources import BadRow, Place, Row
from dlm.data.tasks.pieces import Fields, field_of, text_of


def multiple_choice(row: Row, place: Place) -> list[Fields]:
    """``problem`` (the question with its options), ``letter`` of the right one, ``answer``.

    MMLU's answer is the option's number from 0 or its letter; options are written "(A) ...", a
    line each. BBH's inputs hold their options, if they have any, and the target is the answer:
    there ``letter`` is the target as it is written, such as "(B)" or "No".

    Raises:
        BadRow: The answer names no option.
    """
    if "choices" not in row and "input" in row:
        target = text_of(field_of(row, "target", place), "target", place)
        problem = text_of(row["input"], "input", place)
        return [{**row, "problem": problem, "letter": target, "answer": target}]
    question = text_of(field_of(row, "question", place), "question", place).strip()
    choices = _choices(field_of(row, "choices", place), place)
    number = _number(field_of(row, "answer", place), choices, place)
    options = [f"({letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=False)]
    return [{
        **row,
        "question": question, "options": "\n".join(options),
        "problem": "\n".join([question, *options]),
        "letter": _LETTERS[number], "answer": choices[number],
    }]  # fmt: skip


_LETTERS = string.ascii_uppercase


def _choices(value: Any, place: Place) -> list[str]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(_LETTERS):
        raise BadRow(place, "field 'choices' must be a list of 2 to 26 texts: correct it")
    return [text_of(choice, "choices", place).strip() for choice in value]


def _number(answer: Any, choices: list[str], place: Place) -> int:
    if isinstance(answer, str) and answer.strip().isdecimal():
        answer = int(answer)
    if isinstance(answer, str):
        answer = _LETTERS.find(answer.strip().upper()) if len(answer.strip()) == 1 else -1
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise BadRow(
            place,
            f"field 'answer' must be the number of a choice from 0 to {len(choices) - 1},"
            " or its letter: correct the row",
        )
    return answer
