"""Instruction data: Alpaca's rows, and conversations of several turns."""

from typing import Any

from dlm.data.sources import BadRow, Place, Row
from dlm.data.tasks.pieces import Fields, text_of

_ROLES = {
    "user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant",
    "system": "System",
}  # fmt: skip
"""Roles of chat messages and of ShareGPT -> the name before the turn."""


def alpaca(row: Row, place: Place) -> list[Fields]:
    """``instruction``, ``input`` (may be missing or empty), ``output``; gives ``request``.

    The request is the instruction, and the input below it after an empty line.
    """
    given = text_of(row.get("input") or "", "input", place).strip()
    instruction = text_of(row.get("instruction"), "instruction", place).strip()
    return [{**row, "request": f"{instruction}\n\n{given}" if given else instruction}]


def conversation(row: Row, place: Place) -> list[Fields]:
    """``messages`` (role, content) or ShareGPT's ``conversations`` (from, value).

    Every turn of the assistant is the ``reply`` of an example; its ``dialogue`` is the turns
    before it, each "User: ...", "Assistant: ..." or "System: ..." with an empty line between them,
    and "Assistant:" at the end.

    Raises:
        BadRow: There is no such list, a turn has another role or no text, or no turn is the
            assistant's.
    """
    name = "messages" if "messages" in row else "conversations"
    turns = row.get(name)
    if not isinstance(turns, list):
        raise BadRow(
            place,
            f"neither 'messages' nor 'conversations' is a list of turns (the row has "
            f"{', '.join(map(str, row))}): correct the row, or set `fields` of the source",
        )
    said: list[str] = []
    examples: list[Fields] = []
    for number, turn in enumerate(turns, start=1):
        role, text = _turn(turn, number, place)
        if role == "Assistant":
            examples.append({"dialogue": "\n\n".join([*said, "Assistant:"]), "reply": text})
        said.append(f"{role}: {text}")
    if not examples:
        raise BadRow(place, "no turn is the assistant's: nothing to learn; remove the row")
    return examples


def _turn(turn: Any, number: int, place: Place) -> tuple[str, str]:
    values = turn if isinstance(turn, dict) else {}
    role = _ROLES.get(str(values.get("role", values.get("from"))).lower())
    if role is None:
        raise BadRow(
            place,
            f"turn {number}: needs `role` and `content` (or `from` and `value`), the role one of "
            f"{', '.join(_ROLES)}: correct the row",
        )
    return role, text_of(values.get("content", values.get("value")), "content", place).strip()
