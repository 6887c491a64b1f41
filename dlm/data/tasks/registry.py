"""Every task: what its rows look like, how they become examples, and its templates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dlm.data.tasks.choices import multiple_choice
from dlm.data.tasks.instructions import TELLING, alpaca, conversation, open_conversation
from dlm.data.tasks.maths import word_problem
from dlm.data.tasks.pieces import Adapter, as_it_is, first_of
from dlm.data.tasks.questions import answered, summarised


@dataclass(frozen=True)
class TaskShape:
    """How rows of a task are read."""

    fields: str
    """The fields that a row has."""
    adapt: Adapter = as_it_is
    """A row -> the fields of its examples."""
    telling: tuple[str, ...] = ()
    """Fields that such rows often have, that say something, and that are read or refused."""
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Field that ``adapt`` makes -> fields of the row that are read with it."""
    conditional: bool = True
    """Whether there is a prompt; a text alone has none."""
    adapt_open: Adapter | None = None
    """``adapt`` of rows whose response a model is to write; None: the same."""
    cluster: str = ""
    """The field whose value rows share that are not independent of each other; most have none."""


_LIST = "(a text, or a list: the first; all are references)"

TASKS: dict[str, TaskShape] = {
    "text": TaskShape("text", conditional=False),
    "translation": TaskShape(f"src, tgt {_LIST}", first_of("tgt")),
    "summarization": TaskShape(f"document, summary {_LIST}", summarised),
    "headline": TaskShape(f"document, headline {_LIST}", first_of("headline")),
    "paraphrase": TaskShape(f"src, tgt {_LIST}", first_of("tgt")),
    "simplification": TaskShape(f"src, tgt {_LIST}", first_of("tgt")),
    "question_generation": TaskShape(
        "context, answers or answer, question", answered, cluster="context"
    ),
    "question_answering": TaskShape(
        "context, question, answers.text, answers or answer", answered, cluster="context"
    ),
    "math": TaskShape("question, answer; or Body, Question, Answer", word_problem),
    "reasoning": TaskShape("question, rationale, answer"),
    "multiple_choice": TaskShape(
        "question, choices (a list, or an object with text and label), answer; or input, target",
        multiple_choice,
    ),
    "instruction": TaskShape(f"inputs, targets {_LIST}", first_of("targets"), TELLING),
    "alpaca": TaskShape(
        "instruction, input (may be missing), output",
        alpaca,
        TELLING,
        {"request": ("instruction", "input")},
    ),
    "chat": TaskShape(
        "messages (role, content) or conversations (from, value)",
        conversation,
        TELLING,
        adapt_open=open_conversation,
    ),
}
"""Task -> its shape. The templates over the fields are in templates.yaml."""


@cache
def shipped_templates() -> dict[str, list[tuple[str, str]]]:
    """Task -> its prompt and response templates; the first is the default."""
    text = (Path(__file__).parent / "templates.yaml").read_text(encoding="utf-8")
    raw: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return {task: [(row["prompt"], row["response"]) for row in rows] for task, rows in raw.items()}
