"""Scores as the code of arXiv 2308.12219 computes them (yegcjs/DiffusionLLM, bb6d337)."""

import json
from pathlib import Path

import pytest
import sacrebleu

from dlm.evaluation.scores import SCORES, Texts, score
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task

RIGHT = [
    "„Die Größe der Tür“, sagte sie – „reicht für alle“.",
    "Das Parlament hat 2014 – wie erwartet – zugestimmt…",
    "Er kam um 8:30 Uhr; niemand war da.",
]
GIVEN = [
    "„die Größe der Tür“, sagte er – „reicht für alle“.",
    "Das Parlament hat 2014 – wie erhofft – Zugestimmt…",
    "Sie kam um 8:30 Uhr; niemand war da!",
]


def of_the_papers_script(given: list[str], right: list[str], tokenize: str) -> float:
    """``eval_translate`` of its scripts/metric_instruct.py, and ``decode`` of its generator."""
    lower = [[text.lower() for text in texts] for texts in (given, right)]
    return sacrebleu.corpus_bleu(lower[0], [lower[1]], tokenize=tokenize).score


def test_english_to_german_is_cut_by_sacrebleus_intl() -> None:
    found = score("bleu_lowercase_intl", GIVEN, RIGHT, samples=0).value
    assert found == of_the_papers_script(GIVEN, RIGHT, "intl")
    assert found != of_the_papers_script(GIVEN, RIGHT, "13a")
    signature = SCORES["bleu_lowercase_intl"].signature(Texts(GIVEN, [[text] for text in RIGHT]))
    assert signature == (
        f"nrefs:1|case:lc|eff:no|tok:intl|smooth:exp|version:{sacrebleu.__version__}"
    )


def test_german_to_english_is_cut_by_13a() -> None:
    found = score("bleu_lowercase", GIVEN, RIGHT, samples=0).value
    assert found == of_the_papers_script(GIVEN, RIGHT, "13a")


def test_the_translation_tasks_give_the_papers_score_beside_the_usual_one() -> None:
    assert {"bleu", "bleu_lowercase_intl"} <= set(load_task("wmt14_en_de").metrics)
    assert {"bleu", "bleu_lowercase"} <= set(load_task("iwslt14_de_en").metrics)


@pytest.mark.parametrize(("name", "shots"), [("tydiqa_paper", 0), ("tydiqa_1shot_paper", 1)])
def test_tydiqa_is_exact_match_in_lower_case_over_the_papers_file(
    name: str, shots: int, tmp_path: Path
) -> None:
    """Its ``flan2022.jsonl``: eight languages, without English."""
    file = tmp_path / "tydiqa" / f"{shots}-shot" / "flan2022.jsonl"
    file.parent.mkdir(parents=True)
    rows = [("context: Helsinki on. Q: mikä? A:", "Noin vuonna 4000 eaa"),
            ("context: Helsinki on. Q: missä? A:", "Suomessa"),
            ("context: Киев Q: кто? A:", "Иван")]  # fmt: skip
    lines = [json.dumps({"inputs": asked, "targets": right}) for asked, right in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = load_task(name)
    read = read_task(task, root=str(tmp_path), limit=None)
    assert task.metrics[0] == "exact_match_lowercase"
    assert read.clusters == [0, 0, 2]
    given = ["noin vuonna 4000 EAA", "suomessa.", "иван"]
    assert score(task.metrics[0], given, read.references, samples=0).value == pytest.approx(200 / 3)
    assert score("exact_match", given, read.references, samples=0).value == 0
    texts = Texts(given, [[text] for text in read.references])
    assert SCORES[task.metrics[0]].signature(texts) == "exact string match|case:lc"
