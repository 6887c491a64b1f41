"""Shipped tasks on the real files: how many rows each has, and answers found in real texts."""

import os
import re
import runpy
from pathlib import Path

import pytest
from babel.numbers import format_decimal
from test_final_numbers import PHRASES, ways_to_write

from dlm.data.sources import Source, stream_rows
from dlm.evaluation.answer_scores import choice_match, number_match
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task, shipped_tasks

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "DLM_REAL_DATA" not in os.environ, reason="DLM_REAL_DATA does not name a folder of data"
    ),
]
COUNTS = {
    "mmlu_0shot": 1_531, "mmlu_2shot": 1_531, "mmlu_0shot_choices": 1_531,
    "tydiqa_english": 440, "tydiqa_finnish": 782, "tydiqa_1shot_english": 440,
    "tydiqa_1shot_finnish": 782, "bbh": 6_511, "gsm8k": 1_319, "svamp": 1_000, "scitldr": 618,
    "wikisplit": 5_000, "mgsm_bn": 250, "mgsm_de": 250, "mgsm_zh": 250,
    "t0_sentiment": 600, "t0_sentiment_yes_no": 600,
}  # fmt: skip
"""The tables in docs/evaluation.md and docs/instruction.md have the same."""


def root() -> Path:
    return Path(os.environ["DLM_REAL_DATA"])


@pytest.mark.parametrize("name", COUNTS)
def test_a_task_reads_every_row_of_its_file(name: str) -> None:
    rows = read_task(load_task(name), root=str(root()), limit=None)
    assert len(rows.prompts) == len(rows.references) == COUNTS[name]


def test_the_subtasks_of_bbh_are_all_its_files_and_rows() -> None:
    names = {name for name in shipped_tasks() if name.startswith("bbh_")}
    assert names == {f"bbh_{path.stem}" for path in (root() / "bbh").glob("*.jsonl")}
    counts = [
        len(read_task(load_task(name).with_few_shot(3), root=str(root()), limit=None).prompts)
        for name in names
    ]
    assert sum(counts) == COUNTS["bbh"]


def test_scitldr_has_several_references() -> None:
    rows = read_task(load_task("scitldr"), root=str(root()), limit=None)
    assert {len(others) for others in rows.others} == {1, 2, 3}


def test_demonstrations_of_gsm8k_are_training_rows() -> None:
    task = load_task("gsm8k").with_few_shot(2)
    (prompt,) = read_task(task, root=str(root()), limit=1).prompts
    questions = re.findall(r"Question: (.*)", prompt)
    train = Source(split="", path=root() / "gsm8k" / "train.jsonl")
    known = {row["question"].split("\n")[0] for _, row in stream_rows(train)}
    assert [question in known for question in questions] == [True, True, False]


def test_the_numbers_of_solutions_written_by_people_are_found() -> None:
    for _, row in stream_rows(Source(split="", path=root() / "gsm8k" / "test.jsonl")):
        *_, answer = row["answer"].split("#### ")
        assert number_match(row["answer"], answer.replace(",", ""))
    read = runpy.run_path(str(root() / "mgsm" / "exemplars.py"))
    shown = [
        (language, text["a"], answer)
        for language, exemplars in read["MGSM_EXEMPLARS"].items()
        for text, answer in zip(exemplars.values(), read["EXEMPLAR_NUMBER_ANSWERS"], strict=True)
    ]
    assert len(shown) == 11 * 8
    missed = [row for row in shown if not number_match(row[1], str(row[2]))]
    assert missed == []


@pytest.mark.parametrize("language", ["bn", "de", "en", "es", "fr", "ja", "ru", "te", "th", "zh"])
def test_right_answers_of_mgsm_count_as_the_language_writes_them(language: str) -> None:
    """Alone and in the sentence that ends MGSM's solutions; the references are written as in
    English in all files."""
    rows = read_task(load_task(f"mgsm_{language}"), root=str(root()), limit=None)
    languages = rows.task.languages
    for reference in rows.references:
        value = int(reference.replace(",", ""))
        for way in ways_to_write(value, language):
            for text in (way, PHRASES[language].format(way)):
                assert number_match(text, reference, languages), (text, reference)
        written = format_decimal(value, locale=language)
        assert number_match(f"-{written}", f"-{reference}", languages)
        assert not number_match(written, f"{reference}0", languages)


def test_the_answers_of_reasoning_about_bbh_are_found() -> None:
    """The demonstrations of its authors: "... So the answer is (B)."."""
    count = 0
    for path in sorted((root() / "bbh" / "cot-prompts").glob("*.txt")):
        for solution in path.read_text(encoding="utf-8").split("\nA: ")[1:]:
            solution = solution.split("\n\nQ:")[0].strip()
            right = re.search(r"answer is ([^\n]*?)\.?$", solution)
            if right is not None:
                count += 1
                assert choice_match(solution, right[1]) == 1, (path.stem, solution[-80:])
    assert count >= 75
