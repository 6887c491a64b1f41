"""Instruction data: Alpaca's rows, and conversations of several turns."""

from collections.abc import Collection
from typing import Any

from dlm.data.sources import BadRow, Place, Row, names_of
from dlm.data.tasks.pieces import Fields, field_of, text_of

ROLES = {
    "user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant",
    "system": "System",
}  # fmt: skip
"""Roles of chat messages and of ShareGPT -> the name before the turn."""
BETWEEN_TURNS, BEFORE_A_REPLY = "\n\n", "Assistant:"

TELLING = (
    "system", "system_prompt", "instruction", "input", "context", "history", "documents",
    "knowledge", "tools", "functions", "reasoning", "thinking", "images", "image", "audio",
)  # fmt: skip
"""Fields of instruction and chat sets that change what a right answer is, or are a part of it:
those of Alpaca, Dolly (context), LLaMA-Factory (history, system, tools, images), UltraChat and
the chat formats of Hugging Face and OpenAI."""
_TELLING_IN_TURNS = (
    "tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "images", "audio",
)  # fmt: skip
_NOT_LEARNT = {"weight": (0,), "train": (False,), "training": (False,)}
"""Marks of a turn that is not learnt (OpenAI's, Axolotl's), and their values."""


def alpaca(row: Row, place: Place) -> list[Fields]:
    """``instruction``, ``input`` (may be missing, null or empty), ``output``; gives ``request``.

    The request is the instruction, and the input below it after an empty line.
    """
    given = "" if row.get("input") is None else text_of(row["input"], "input", place)
    instruction = text_of(field_of(row, "instruction", place), "instruction", place)
    both = f"{instruction.rstrip()}\n\n{given}"
    return [{**row, "request": both if given.strip() else instruction}]


def conversation(row: Row, place: Place) -> list[Fields]:
    """``messages`` (role, content) or ShareGPT's ``conversations`` (from, value).

    Every turn of the assistant is the ``reply`` of an example; its ``dialogue`` is the turns
    before it, each "User: ...", "Assistant: ..." or "System: ..." with an empty line between them,
    and "Assistant:" at the end. The row's other fields are there for templates.

    Raises:
        BadRow: There is no such list, a turn has another role or no text, or no turn is the
            assistant's.
    """
    examples: list[Fields] = []
    turns = _turns(row, place)
    for number, (role, text) in enumerate(turns):
        if role == "Assistant":
            examples.append({**row, "dialogue": _dialogue(turns[:number]), "reply": text})
    if not examples:
        raise BadRow(place, "no turn is the assistant's: nothing to learn; remove the row")
    return examples


def open_conversation(row: Row, place: Place) -> list[Fields]:
    """The same of rows whose replies a model is to write: one that ends before a reply is asked
    for that one.

    Raises:
        BadRow: As :func:`conversation`.
    """
    if _turns(row, place)[-1][0] == "Assistant":
        return conversation(row, place)
    return [{**row, "dialogue": open_dialogue(row, place)}]


def open_dialogue(row: Row, place: Place) -> str:
    """What a reply is to be written to: all turns, and the assistant's name.

    Raises:
        BadRow: It is no conversation, or its last turn is the assistant's.
    """
    turns = _turns(row, place)
    if turns[-1][0] == "Assistant":
        raise BadRow(place, "the last turn is the assistant's: remove it, and it is written anew")
    return _dialogue(turns)


def _dialogue(turns: list[tuple[str, str]]) -> str:
    return BETWEEN_TURNS.join(
        [*(f"{role}: {text.strip()}" for role, text in turns), BEFORE_A_REPLY]
    )


def _turns(row: Row, place: Place) -> list[tuple[str, str]]:
    """The name before each turn, and its text."""
    turns = _given(row, "messages", "conversations")
    if not isinstance(turns, list) or not turns:
        raise BadRow(
            place,
            f"neither 'messages' nor 'conversations' is a list of turns (the row has "
            f"{names_of(row)}): correct the row, or set `fields` of the source",
        )
    return [_turn(turn, number, place) for number, turn in enumerate(turns, start=1)]


def says_something(value: Any) -> bool:
    """Whether a field is more than empty; the number 0 is."""
    return bool(value) or (isinstance(value, int | float) and not isinstance(value, bool))


def unread_in_turns(row: Row, ignored: Collection[str]) -> str:
    """What of a conversation's turns says something and is not read; empty where nothing is."""
    turns = _given(row, "messages", "conversations")
    for number, turn in enumerate(turns if isinstance(turns, list) else (), start=1):
        given = turn if isinstance(turn, dict) else {}
        found = [name for name in _TELLING_IN_TURNS if says_something(given.get(name))]
        found += [name for name, values in _NOT_LEARNT.items()
                  if name in given and given[name] in values]  # fmt: skip
        for name in found:
            if name not in ignored:
                return (
                    f"turn {number}: '{name}' says something, and is not read: write it into the "
                    "turn's text, remove the row, or say that it is left out with "
                    f"`ignored_fields: [{name}]` of the source"
                )
    return ""


def _turn(turn: Any, number: int, place: Place) -> tuple[str, str]:
    values = turn if isinstance(turn, dict) else {}
    role = ROLES.get(str(_given(values, "role", "from")).lower())
    if role is None:
        raise BadRow(
            place,
            f"turn {number}: needs `role` and `content` (or `from` and `value`), the role one of "
            f"{', '.join(ROLES)}: correct the row",
        )
    return role, text_of(_given(values, "content", "value"), "content", place)


def _given(fields: Fields, name: str, other: str) -> Any:
    """The first of two fields of one meaning, where it is there and no null; else the other."""
    return fields.get(other) if fields.get(name) is None else fields[name]
