"""What the report says of a sweep as a whole: by size, over seeds, with the law through bounds."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_run import SYSTEMS, make_run

from dlm.cli import main
from dlm.config.sweep import Cell
from dlm.evaluation.metrics import METRICS, difference_of_runs, mean_of_runs
from dlm.files import write_json
from dlm.report.markdown import report_markdown, write_csv
from dlm.report.page import report_page
from dlm.report.study import Study, read_study, study_scores
from dlm.report.study_tables import first_system_table, laws_table, scores_table, sizes_table

EXACT = METRICS["generation"]["exact_match"]
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def answers(right: Sequence[bool]) -> list[dict[str, Any]]:
    """Rows of samples.jsonl, right or wrong."""
    return [
        {"source": word, "reference": word, "hypothesis": word if good else "x"}
        for word, good in zip(WORDS, right, strict=True)
    ]


def bounds(nats: float) -> list[dict[str, Any]]:
    return [{"source": w, "text": w, "bound": nats * 4, "tokens": 4} for w in WORDS]


def write_result(
    run: Path, system: str, task: str, samples: list[dict[str, Any]], size: int, kind: str
) -> None:
    names = {"generation": ["exact_match"], "perplexity": ["nats_per_token"]}[kind]
    place = run / "04_evaluate" / "export" / system / task
    place.mkdir(parents=True, exist_ok=True)
    (place / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    scores = {}
    for name in names:
        found = mean_of_runs(METRICS[kind][name], [samples], resamples=50)
        scores[name] = found.as_dict()
    write_json(place / "metrics.json", {
        "system": system, "model": "adapt", "task": task, "task_version": 1, "task_kind": kind,
        "rows": len(samples), "scores": scores, "seconds": 1.0,
        "parameters": {"total": size + 1000, "without_embeddings": size},
    })  # fmt: skip


def study_of(place: Path, cells: dict[str, dict[str, str]]) -> Study:
    """A sweep directory whose cells are made runs without scores of their own."""
    place.mkdir()
    listed = [{"name": name, "labels": labels, "settings": {}} for name, labels in cells.items()]
    write_json(place / "sweep.json", {"recipe": "made", "description": "it", "cells": listed})
    return Study(place, "made", "it", {n: Cell(n, labels, ()) for n, labels in cells.items()}, [])


def read(place: Path) -> Study:
    from dlm.recipe.sweep import read_sweep

    record = read_sweep(place)
    assert record is not None
    return read_study(place, record)


@pytest.fixture
def by_size(tmp_path: Path) -> Path:
    """Three sizes; the more parameters the more rows are right, and the bound is size^-1/2."""
    place = tmp_path / "sizes"
    cells = {"small": 100, "middle": 400, "large": 1600}
    study_of(place, {name: {"size": name} for name in cells})
    for number, (name, size) in enumerate(cells.items()):
        run = make_run(place / name, systems={})
        right = [index < 2 + 4 * number for index in range(len(WORDS))]
        write_result(run, "diffusion", "words", answers(right), size, "generation")
        write_result(run, "diffusion", "bound", bounds(10 * size**-0.5), size, "perplexity")
    return place


@pytest.fixture
def by_seed(tmp_path: Path) -> Path:
    """Two systems and three seeds: the second system is right in three rows more, in each."""
    place = tmp_path / "seeds"
    study_of(place, {f"seed-{n}": {"seed": f"seed-{n}"} for n in (1, 2, 3)})
    for seed in (1, 2, 3):
        run = make_run(place / f"seed-{seed}", systems={})
        config = "evaluation: {systems: {the first: {}, second: {}}}"
        (run / "04_evaluate" / "config.yaml").write_text(config)
        for system, more in (("the first", 0), ("second", 3)):
            right = [index < 3 + seed + more for index in range(len(WORDS))]
            write_result(run, system, "words", answers(right), 100, "generation")
    return place


def test_sizes_are_compared_row_by_row_with_the_next_smaller_and_the_smallest(
    by_size: Path,
) -> None:
    words = study_scores(read(by_size))[1]
    assert words.task == "words"
    table = sizes_table(words)
    assert table is not None
    told = [(row[2].text, row[3].text, row[4].value) for row in table.rows]
    assert told == [
        ("middle: diffusion", "small: diffusion", 40.0),
        ("large: diffusion", "middle: diffusion", 40.0),
        ("large: diffusion", "small: diffusion", 80.0),
    ]
    assert all("samples.jsonl" in row[4].source for row in table.rows)


def test_the_law_through_the_bounds_stands_in_a_table_and_a_chart(by_size: Path) -> None:
    study = read(by_size)
    bound, words = study_scores(study)
    table = laws_table(bound)
    assert table is not None and table.rows[0][1].value == pytest.approx(0.5)
    assert "0.500 [0.500, 0.500]" in table.rows[0][1].text
    assert laws_table(words) is None
    page = report_page(study.runs, "made now", [], by_size / "report.html", study)
    assert "diffusion: size^-0.50 [0.50, 0.50]" in page and '<polygon class="band c0"' in page
    assert "words: exact match over size" in page and ">1,000<" in page


def test_of_rows_that_are_not_the_same_no_difference_is_told(by_size: Path) -> None:
    samples = by_size / "large/04_evaluate/export/diffusion/words/samples.jsonl"
    samples.write_text(samples.read_text().replace('"source": "one"', '"source": "1"'))
    table = sizes_table(study_scores(read(by_size))[1])
    assert table is not None
    assert [row[4].text for row in table.rows].count("not compared") == 2


def test_seeds_are_one_row_with_mean_and_deviation(by_seed: Path) -> None:
    [words] = study_scores(read(by_seed))
    table = scores_table(words)
    assert [column.title for column in table.columns][:1] == ["system"]
    first = table.rows[0]
    assert first[2].value == pytest.approx(50.0)
    assert first[4].value == pytest.approx(statistics.stdev([40, 50, 60]))
    assert first[5].text == "40.0, 50.0, 60.0"
    # In the order of the recipe, not of the folders.
    assert first[0].text == "the first"
    against = first_system_table(words)
    assert against is not None and len(against.rows) == 1
    assert against.rows[0][4].value == pytest.approx(30.0)


def test_a_difference_of_means_resamples_the_rows_of_all_seeds_together() -> None:
    right = [index < 5 for index in range(len(WORDS))]
    runs = [answers(right), answers(right)]
    # Two runs that are alike say no more than one, so the interval must not be narrower.
    one = mean_of_runs(EXACT, runs[:1], resamples=500)
    assert mean_of_runs(EXACT, runs, resamples=500) == one
    same = difference_of_runs(EXACT, runs, runs[:1], resamples=100)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_sweep_is_reported_as_page_markdown_and_csv(by_size: Path, tmp_path: Path) -> None:
    study = read(by_size)
    assert "power law" in report_markdown(study.runs, "made now", [], study)
    names = {path.name for path in write_csv(study.runs, tmp_path / "csv", study)}
    assert {"cells.csv", "study_evaluate_bound.csv", "power_law_evaluate_bound.csv",
            "by_size_evaluate_words.csv"} <= names  # fmt: skip
    assert main(["report", str(by_size)]) == 0
    assert (by_size / "report.html").is_file()


def test_a_cell_that_has_not_begun_is_named(by_size: Path) -> None:
    (by_size / "middle").rename(by_size / "elsewhere")
    study = read(by_size)
    page = report_page(study.runs, "made now", [], by_size / "report.html", study)
    assert "not begun" in page and laws_table(study_scores(study)[0]) is None


def test_a_sweep_among_runs_and_one_without_runs_are_refused(
    by_size: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "run", systems=SYSTEMS)
    words = ["report", str(by_size), str(other), "--output", str(tmp_path / "r.html")]
    assert main(words) == 2
    assert f"holds the runs of a sweep: report it by itself, or name runs of it, such as " \
        f"{by_size / 'small'}" in capsys.readouterr().err  # fmt: skip
    study_of(tmp_path / "empty", {"a": {"size": "a"}})
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "no cell of this sweep has begun" in capsys.readouterr().err


def test_more_runs_than_colours_have_scores_but_no_curves(tmp_path: Path) -> None:
    names = [f"seed-{n}" for n in range(9)]
    study_of(tmp_path / "many", {name: {"seed": name} for name in names})
    for name in names:
        make_run(tmp_path / "many" / name)
    study = read(tmp_path / "many")
    page = report_page(study.runs, "made now", [], tmp_path / "report.html", study)
    assert "curves of 9 runs cannot be told apart" in page and "c8" not in page
