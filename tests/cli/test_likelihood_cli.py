"""dlm evaluate and the evaluate stage on tasks that estimate a likelihood."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import RECIPE, Caller, TrainedRun, read_scores

from dlm.cli import main
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task
from dlm.generation.likelihood import (
    conditional_bounds,
    multiple_choice,
    perplexity,
    rolling_bounds,
)
from dlm.generation.model import open_model
from dlm.generation.scored_rows import LikelihoodSettings

TASKS = ("perplexity_counting", "perplexity_numbers_en_de", "choose_number_de")
SETTINGS = LikelihoodSettings(samples=4)


def rows_of(task: str, limit: int) -> Any:
    return read_task(load_task(task), root=None, limit=limit)


@pytest.fixture(scope="module")
def scores(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three tasks of a stage that has no length predictor, and needs none."""
    output = tmp_path_factory.mktemp("likelihood") / "scores"
    words = ["--tasks", ",".join(TASKS), "--limit", "6", "--likelihood-samples", "4"]
    assert main(["evaluate", str(trained.stage("adapt")), *words, "--output", str(output)]) == 0
    return output


def test_a_perplexity_is_that_of_the_bounds_with_all_that_made_it(
    scores: Path, trained: TrainedRun
) -> None:
    metrics, samples = read_scores(scores / "perplexity_counting")
    model = open_model(trained.stage("adapt") / "export")
    bounds = rolling_bounds(model, rows_of("perplexity_counting", 6).references, SETTINGS)
    expected = perplexity(bounds)
    score = metrics["scores"]["perplexity"]
    assert score["score"] == pytest.approx(expected.value)
    assert score["standard_error"] == pytest.approx(expected.standard_error)
    assert score["ci95_low"] < expected.value < score["ci95_high"]
    nats = metrics["scores"]["nats_per_token"]
    assert nats["score"] == pytest.approx(expected.bound.per_token.value)
    assert nats["standard_error"] == pytest.approx(expected.bound.per_token.standard_error)
    assert metrics["likelihood"] == {"estimator": "exactly_l", "samples": 4, "seed": 0}
    assert (metrics["task_kind"], metrics["rows"]) == ("perplexity", 6)
    assert (metrics["tokens"], metrics["unknown_tokens"]) == (expected.bound.tokens, 0)
    assert "generation" not in metrics
    assert [sample["bound"] for sample in samples] == [b.nats.value for b in bounds]
    assert [sample["tokens"] for sample in samples] == [b.tokens for b in bounds]
    errors = [sample["standard_error"] for sample in samples]
    assert errors == [b.nats.standard_error for b in bounds]


def test_responses_are_bounded_behind_their_prompts(scores: Path, trained: TrainedRun) -> None:
    _, samples = read_scores(scores / "perplexity_numbers_en_de")
    rows = rows_of("perplexity_numbers_en_de", 6)
    model = open_model(trained.stage("adapt") / "export")
    bounds = conditional_bounds(model, rows.prompts, rows.references, SETTINGS)
    assert [sample["bound"] for sample in samples] == [b.nats.value for b in bounds]
    assert [(s["source"], s["text"]) for s in samples] == list(
        zip(rows.prompts, rows.references, strict=True)
    )


def test_the_choice_of_the_lowest_bound_per_token_is_marked(
    scores: Path, trained: TrainedRun
) -> None:
    metrics, samples = read_scores(scores / "choose_number_de")
    rows = rows_of("choose_number_de", 6)
    model = open_model(trained.stage("adapt") / "export")
    expected = multiple_choice(model, rows.prompts, rows.choices, SETTINGS)
    assert [sample["chosen"] for sample in samples] == [choice.index for choice in expected]
    assert [sample["right"] for sample in samples] == rows.right
    for sample, choice in zip(samples, expected, strict=True):
        assert sample["nats_per_token"] == [b.per_token.value for b in choice.bounds]
        assert min(sample["standard_error"]) > 0
    right = sum(sample["chosen"] == sample["right"] for sample in samples)
    assert metrics["scores"]["accuracy"]["score"] == pytest.approx(100 * right / 6)
    assert metrics["chance"] == 25


def test_the_estimator_of_the_command_line_wins(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "perplexity_counting", "--limit", "2", "--output", tmp_path / "scores")
    assert call("evaluate", trained.directory, *words, "--estimator", "chain_rule").code == 0
    metrics, samples = read_scores(tmp_path / "scores" / "perplexity_counting")
    assert metrics["likelihood"] == {"estimator": "chain_rule"}
    assert metrics["scores"]["perplexity"]["standard_error"] == 0
    assert all(sample["standard_error"] == 0 for sample in samples)


REFUSED: dict[tuple[str, ...], str] = {
    ("numbers_en_de,choose_number_de", "--few-shot", "2"): (
        "--few-shot would be ignored by choose_number_de"
    ),
    ("choose_number_de", "--few-shot", "2"): "--few-shot would be ignored: no task of --tasks gen",
    ("perplexity_counting", "--steps", "4"): "--num-iterations would be ignored: no task",
    ("perplexity_counting", "--length", "oracle"): "--length would be ignored: no task",
    ("numbers_en_de", "--likelihood-samples", "4"): (
        "--likelihood-samples would be ignored: no task of --tasks estimates a likelihood"
    ),
    ("perplexity_counting", "--likelihood-samples", "1"): "gives no standard error",
    (
        "perplexity_counting",
        "--likelihood-samples",
        "0",
    ): "--likelihood-samples must be at least 1 and",
    ("perplexity_novels_en", "--data-root", "/nowhere"): "cannot read /nowhere/novels_en/valid.txt",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_wrong_likelihood_is_refused_and_writes_nothing(
    words: tuple[str, ...], call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    outcome = call("evaluate", trained.directory, "--tasks", *words, "--output", output)
    assert outcome.code == 2
    assert REFUSED[words] in outcome.err
    assert not output.exists()


def test_a_pair_that_does_not_fit_is_named_before_anything_is_written(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    rows = [{"src": "one", "tgt": "eins"}, {"src": "one", "tgt": "eins " * 80}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "pairs.yaml"
    task.write_text(
        f"{{version: 1, kind: perplexity, source: {{path: {tmp_path / 'rows.jsonl'}}}, "
        'prompt: "{src}", response: "{tgt}", metrics: [perplexity]}'
    )
    output = tmp_path / "scores"
    outcome = call("evaluate", trained.directory, "--tasks", task, "--output", output)
    assert outcome.code == 2
    assert "task pairs: row 2: prompt and response take" in outcome.err
    assert not output.exists()


def test_the_listing_of_tasks_shows_their_kinds(call: Caller) -> None:
    lines = {line.split()[0]: line.split()[1] for line in call("ls", "tasks").out.splitlines()}
    assert lines["numbers_en_de"] == "generation"
    assert [lines[task] for task in TASKS] == ["perplexity", "perplexity", "multiple_choice"]


TWIN = (
    RECIPE.replace(
        "  evaluate:\n",
        "  twin: {kind: autoregressive, init_from: pretrain, data: *pairs}\n  evaluate:\n",
    )
    .replace("tasks: [numbers_en_de]", "tasks: [numbers_en_de, perplexity_counting, "
             "choose_number_de]\n      likelihood: {samples: 3, seed: 5}")
    .replace("compare: [[predicted, oracle]]", "compare: [[predicted, adapted], [predicted, all]]")
    .replace("oracle: {model: length, generation: {length: oracle}}",
             "adapted: {model: adapt}\n        all: {model: pretrain}\n        "
             "left to right: {model: twin}\n      only:\n"
             "        adapted: [perplexity_counting, choose_number_de]\n"
             "        all: [perplexity_counting]\n"
             "        left to right: [numbers_en_de, perplexity_counting]")
)  # fmt: skip


def test_a_twin_stands_beside_where_a_likelihood_is_asked_for(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    recipe = tmp_path / "twin.yaml"
    recipe.write_text(TWIN)
    outcome = call("run", recipe, "--run-dir", tmp_path / "run", "--dry-run")
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_an_evaluate_stage_has_all_kinds_of_tasks(call: Caller, tmp_path: Path) -> None:
    recipe = tmp_path / "twin.yaml"
    recipe.write_text(TWIN)
    run = tmp_path / "run"
    outcome = call("run", recipe, "--run-dir", run)
    assert outcome.code == 0, outcome.err
    assert "exactly_l bound, 3 samples, seed 5" in " ".join(outcome.out.split())
    export = next(run.glob("*_evaluate")) / "export"
    one, other = (
        read_scores(export / system / "perplexity_counting")[1]
        for system in ("predicted", "adapted")
    )
    assert one == other, "a length predictor changes no likelihood"
    differences = json.loads((export / "comparisons.json").read_text())
    assert {(row["second"], row["task"]) for row in differences} == {
        ("adapted", "perplexity_counting"), ("adapted", "choose_number_de"),
        ("all", "perplexity_counting"),
    }  # fmt: skip
    assert "perplexity_counting: predicted - all = " in (export / "table.md").read_text()
    twin = next(run.glob("*_twin"))
    chosen = call("evaluate", twin, "--tasks", TASKS[2], "--output", tmp_path / "scores")
    assert chosen.code == 0 and "next token, exact" in " ".join(chosen.out.split())
    alone = read_scores(export / "left to right" / "perplexity_counting")[0]
    assert alone["likelihood"] == {"estimator": "next_token"}
    assert alone["scores"]["perplexity"]["score"] > 1
    again = call("run", recipe, "--run-dir", run)
    assert again.out.count("skipped, finished") == 6
    stale = call("run", recipe, "--run-dir", run, "evaluation.likelihood.samples=4")
    assert stale.code == 2 and "evaluation.likelihood.samples" in stale.out + stale.err
