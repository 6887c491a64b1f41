"""The shapes of rows: each becomes the prompt and the response that its task documents."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from dlm.config.schema import DataTask
from dlm.data.prompts import Template
from dlm.data.sources import Place
from dlm.data.task_modules import DATA_MODULES
from dlm.data.tasks.registry import TASKS, shipped_templates
from dlm.errors import UserError

FIRST = Place("file", 1)
SQUAD = {"context": "It is red.", "question": "What colour?", "answers": {"text": ["red", "Red"]}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Bye!"},
]
MMLU = {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
PRIMES = {"question": "Even?", "choices": ["1", "3", "5", "7"]}
PLANETS = {"question": "Red?", "choices": ["Venus", "Mars", "Pluto", "Moon"]}
ARC = {"question": "Red?", "choices": {"text": ["2", "Mars", "Pluto"], "label": ["1", "2", "3"]}}
PRIMES_ASKED = "Even?\n(A) 1\n(B) 3\n(C) 5\n(D) 7\n\nAnswer:"
PLANETS_ASKED = "Red?\n(A) Venus\n(B) Mars\n(C) Pluto\n(D) Moon\n\nAnswer:"
ARC_ASKED = "Red?\n(A) 2\n(B) Mars\n(C) Pluto\n\nAnswer:"

ROWS: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("text", {"text": "one"}, [("", "one")]),
    ("translation", {"src": "eins", "tgt": "one"}, [("eins", "one")]),
    ("summarization", {"document": "long", "summary": ["s", "t"]}, [("long", "s")]),
    ("summarization", {"document": "long", "summary": "s"}, [("long", "s")]),
    ("headline", {"document": "long", "headline": "H"}, [("long", "H")]),
    ("paraphrase", {"src": "a", "tgt": "b"}, [("a", "b")]),
    ("simplification", {"src": "a", "tgt": "b"}, [("a", "b")]),
    ("question_answering", SQUAD, [("It is red.\n\nQuestion: What colour?\n\nAnswer:", "red")]),
    (
        "question_answering",
        {"context": "c", "question": "q", "answers": ["x"]},
        [("c\n\nQuestion: q\n\nAnswer:", "x")],
    ),
    ("question_generation", SQUAD, [("It is red.\n\nAnswer: red\n\nQuestion:", "What colour?")]),
    ("math", {"question": "q", "answer": "a #### 4"}, [("Question: q\n\nAnswer:", "a #### 4")]),
    (
        "math",
        {"Body": "Dan has 3", "Question": "How many?", "Answer": 51.0},
        [("Question: Dan has 3, How many?\n\nAnswer:", "51")],
    ),
    (
        "math",
        {"Body": "Dan has 3.", "Question": "How many?", "Answer": 0.5},
        [("Question: Dan has 3. How many?\n\nAnswer:", "0.5")],
    ),
    ("math", {"question": "q", "answer": Decimal("2.50")}, [("Question: q\n\nAnswer:", "2.50")]),
    ("math", {"Body": None, "question": "q", "answer": 2}, [("Question: q\n\nAnswer:", "2")]),
    (
        "question_answering",
        {"context": "c", "question": "q", "answers": None, "answer": "x"},
        [("c\n\nQuestion: q\n\nAnswer:", "x")],
    ),
    (
        "reasoning",
        {"question": "q", "rationale": "Because.", "answer": "(C)"},
        [("Question: q\n\nLet's think step by step.", "Because. So the answer is (C).")],
    ),
    ("multiple_choice", MMLU, [("2 + 2?\n(A) 3\n(B) 4\n\nAnswer:", "B")]),
    ("multiple_choice", MMLU | {"answer": "b"}, [("2 + 2?\n(A) 3\n(B) 4\n\nAnswer:", "B")]),
    ("multiple_choice", {"input": "Go?", "target": "No"}, [("Go?\n\nAnswer:", "No")]),
    ("multiple_choice", PRIMES | {"answer": "3"}, [(PRIMES_ASKED, "B")]),
    ("multiple_choice", PRIMES | {"answer": 3}, [(PRIMES_ASKED, "D")]),
    ("multiple_choice", PLANETS | {"answer": "0"}, [(PLANETS_ASKED, "A")]),
    ("multiple_choice", PLANETS | {"answer": "Mars"}, [(PLANETS_ASKED, "B")]),
    ("multiple_choice", ARC | {"answer": "2"}, [(ARC_ASKED, "B")]),
    ("multiple_choice", ARC | {"answer": "Pluto"}, [(ARC_ASKED, "C")]),
    ("instruction", {"inputs": "say", "targets": "one"}, [("say", "one")]),
    ("alpaca", {"instruction": "Add", "input": "1 1", "output": "2"}, [("Add\n\n1 1", "2")]),
    ("alpaca", {"instruction": "Sing", "input": "", "output": "La"}, [("Sing", "La")]),
    ("alpaca", {"instruction": "Sing", "output": "La"}, [("Sing", "La")]),
    ("alpaca", {"instruction": "Sing", "input": None, "output": "La"}, [("Sing", "La")]),
    ("alpaca", {"instruction": "Square", "input": 0, "output": "0"}, [("Square\n\n0", "0")]),
    (
        "chat",
        {"messages": CHAT},
        [
            ("System: Be brief.\n\nUser: Hi\n\nAssistant:", "Hello"),
            (
                "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Bye\n\nAssistant:",
                "Bye!",
            ),
        ],
    ),
    (
        "chat",
        {
            "messages": None,
            "conversations": [
                {"from": "human", "value": "Hi", "role": None},
                {"from": "gpt", "value": "Ho", "content": None},
            ],
        },
        [("User: Hi\n\nAssistant:", "Ho")],
    ),
]


def fill(task: str, row: dict[str, Any]) -> list[tuple[str, str]]:
    return [Template.of(task).fill(fields, FIRST) for fields in TASKS[task].adapt(row, FIRST)]


@pytest.mark.parametrize(("task", "row", "filled"), ROWS)
def test_a_row_becomes_its_examples(
    task: str, row: dict[str, Any], filled: list[tuple[str, str]]
) -> None:
    assert fill(task, row) == filled


def test_every_task_has_a_choice_a_module_templates_and_a_row_above() -> None:
    tasks = set(TASKS)
    assert tasks == set(get_args(DataTask)) == set(DATA_MODULES) == set(shipped_templates())
    assert tasks == {task for task, _, _ in ROWS}


@pytest.mark.parametrize("task", TASKS)
def test_every_template_of_a_task_fits_its_rows(task: str) -> None:
    for other, row, _ in ROWS:
        for prompt, response in shipped_templates()[task] if other == task else ():
            for fields in TASKS[task].adapt(row, FIRST):
                assert all(
                    Template(prompt, response).fill(fields, FIRST)[not TASKS[task].conditional :]
                )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("summarization", {"document": "x"}, "field 'summary' is missing (the row has document)"),
    ("summarization", {"document": "x", "summary": []}, "field 'summary' is a list, where text"),
    ("question_answering", SQUAD | {"answers": {"text": []}}, "no answer in 'answers.text'"),
    ("question_answering", {"question": "q", "answer": "a"}, "field 'context' is missing"),
    ("math", {"question": "q", "answer": True}, "field 'answer' is true or false, where text or"),
    ("math", {"question": "q", "answer": float("nan")}, "field 'answer' is NaN, where text"),
    ("math", {"question": "q", "answer": float("inf")}, "field 'answer' is infinity (or a number"),
    ("multiple_choice", MMLU | {"choices": ["one"]}, "'choices' must be a list of 2 to 26 texts"),
    ("multiple_choice", MMLU | {"answer": 2}, "must be the number of a choice from 0 to 1"),
    ("multiple_choice", MMLU | {"answer": "C"}, "must be the number of a choice from 0 to 1"),
    ("multiple_choice", MMLU | {"answer": True}, "must be the number of a choice from 0 to 1"),
    ("multiple_choice", PLANETS | {"answer": "2"}, "may count choices from 0 or from 1: write a"),
    ("multiple_choice", PLANETS | {"answer": "5"}, "'answer' = '5' names no choice"),
    ("multiple_choice", MMLU | {"choices": ["4", "4"], "answer": "4"}, "names no choice, or two"),
    ("alpaca", {"Instruction": "a", "output": "x"},
     "field 'instruction' is missing (the row has Instruction, output; did you mean 'Instruction'"),
    ("alpaca", {"instruction": None, "output": "x"}, "field 'instruction' is null"),
    ("alpaca", {"instruction": "a", "input": False, "output": "x"}, "'input' is true or false"),
    ("question_answering", SQUAD | {"answers": None}, "no answer in 'answers.text'"),
    ("math", {f"id{n}": {} for n in range(3000)}, "(the row has id0, id1, id2, "),
    ("chat", {"text": "x"}, "neither 'messages' nor 'conversations' is a list of turns"),
    ("chat", {"messages": [{"role": "user", "content": "Hi"}]}, "no turn is the assistant's"),
    ("chat", {"messages": [{"role": "cat", "content": "Hi"}]}, "turn 1: needs `role` and"),
    ("chat", {"messages": ["Hi"]}, "turn 1: needs `role` and"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "row", "words"), WRONG)
def test_a_row_of_another_shape_is_named(task: str, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        fill(task, row)
    assert str(refused.value).startswith("file, row 1")
    assert words in str(refused.value)


def test_the_turns_of_a_conversation_keep_the_rows_other_fields() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    (fields,) = TASKS["chat"].adapt({"messages": turns, "system": "Be brief."}, Place("rows", 1))
    assert (fields["system"], fields["reply"]) == ("Be brief.", "Ho")
