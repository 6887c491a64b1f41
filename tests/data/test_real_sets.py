"""Every set of the shared data, read through its task with the counts that its README gives."""

import os
from pathlib import Path

import pytest

from dlm.data.examples import TaskSource
from dlm.data.prompts import Template
from dlm.data.sources import Source
from dlm.data.tasks.registry import TASKS

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "DLM_REAL_DATA" not in os.environ, reason="DLM_REAL_DATA does not name a folder of data"
    ),
]
SCITLDR = {"document": "src", "summary": "refs"}
TITLES = {"document": "src", "headline": "title"}
SETS: list[tuple[str, str, dict[str, str], int]] = [
    ("tatoeba_de_en/train.jsonl", "translation", {}, 46_732),
    ("tatoeba_de_en/valid.jsonl", "translation", {}, 1_000),
    ("tatoeba_de_en/test.jsonl", "translation", {}, 1_000),
    ("wikisplit/train.jsonl", "simplification", {}, 9_000),
    ("wikisplit/valid.jsonl", "simplification", {}, 1_000),
    ("wikisplit/test.jsonl", "paraphrase", {}, 5_000),
    ("scitldr/train.jsonl", "summarization", SCITLDR, 1_992),
    ("scitldr/dev.jsonl", "headline", TITLES, 619),
    ("scitldr/test.jsonl", "summarization", SCITLDR, 618),
    ("t0/train.jsonl", "instruction", {}, 35_174),
    ("t0/heldout.jsonl", "instruction", {}, 3_762),
    ("flan_cot/train.jsonl", "reasoning", {}, 33_443),
    ("gsm8k/train.jsonl", "math", {}, 7_473),
    ("gsm8k/test.jsonl", "math", {}, 1_319),
    ("svamp/test.jsonl", "math", {}, 1_000),
    ("bbh/*.jsonl", "multiple_choice", {}, 6_511),
    ("mmlu/0-shot/*.jsonl", "instruction", {}, 1_531),
    ("mmlu/2-shot/*.jsonl", "instruction", {}, 1_531),
    ("tydiqa/0-shot/english.jsonl", "instruction", {}, 440),
    ("tydiqa/0-shot/finnish.jsonl", "instruction", {}, 782),
    ("tydiqa/1-shot/finnish.jsonl", "instruction", {}, 782),
    ("novels_en/valid.txt", "text", {}, 5_313),
    ("novels_de/valid.txt", "text", {}, 2_113),
]


def read(pattern: str, task: str, fields: dict[str, str]) -> list[tuple[str, str]]:
    from collections import Counter

    found = []
    for path in sorted(Path(os.environ["DLM_REAL_DATA"]).glob(pattern)):
        source = Source(split="", path=path, fields=fields)
        rows = TaskSource(path.stem, source, task, (Template.of(task),))
        found += [(e.prompt, e.response) for e in rows.stream(0, Counter())]
    return found


@pytest.mark.parametrize(("pattern", "task", "fields", "count"), SETS)
def test_a_set_is_read_whole_through_its_task(
    pattern: str, task: str, fields: dict[str, str], count: int
) -> None:
    rows = read(pattern, task, fields)
    assert len(rows) == count
    assert all(response for _, response in rows)
    assert all(bool(prompt) == TASKS[task].conditional for prompt, _ in rows)


def test_svamps_numbers_are_whole_numbers_in_text() -> None:
    answers = [response for _, response in read("svamp/test.jsonl", "math", {})]
    assert answers[:2] == ["51", "1"]
    assert not any(answer.endswith(".0") for answer in answers)
