"""Scores from the rows that are written, and how tables show them."""

import math
from typing import Any

import numpy as np
import pytest

from dlm.evaluation.evaluate import compare
from dlm.evaluation.metrics import (
    METRICS,
    best_reachable,
    difference,
    exact_interval,
    interval,
    not_comparable,
)
from dlm.evaluation.results import Result
from dlm.evaluation.table import beside_text, comparison_text, markdown_table, sample_text
from dlm.evaluation.task_rows import TaskRows
from dlm.evaluation.tasks import load_task

LIKELIHOOD = {"estimator": "exactly_l", "samples": 8, "seed": 3}


def bound(nats: float, tokens: int) -> dict[str, Any]:
    return {"source": "", "text": "x", "bound": nats, "standard_error": 0.1, "tokens": tokens}


def result(system: str, task: str, samples: list[dict[str, Any]], **metrics: Any) -> Result:
    return Result(system, task, {"likelihood": LIKELIHOOD, "scores": {}, **metrics}, samples)


def differences(task: str, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Any:
    results = [result("a", task, first), result("b", task, second)]
    return compare([("a", "b")], results, [TaskRows(load_task(task), [], [])], 200)


def test_a_perplexity_weighs_texts_by_their_tokens() -> None:
    metric = METRICS["perplexity"]["perplexity"]
    found = interval(metric, [bound(10.0, 2), bound(2.0, 10)], resamples=200)
    assert found.value == pytest.approx(math.e)  # not the mean of exp(5) and exp(0.2)
    # Resamples are (10, 10), (10, 2) or (2, 2).
    assert (found.low, found.high) == pytest.approx((math.exp(0.2), math.exp(5)))


def test_an_accuracy_counts_the_right_choices() -> None:
    marks = [{"chosen": n % 2, "right": 0} for n in range(8)]
    assert interval(METRICS["multiple_choice"]["accuracy"], marks, resamples=10).value == 50


def test_equal_bounds_are_credited_to_each_choice_alike() -> None:
    """A model that knows nothing scores as chance does, whichever choice is the right one."""
    accuracy = METRICS["multiple_choice"]["accuracy"]
    for right in range(4):
        row = {"chosen": 0, "equal": [0, 1, 2, 3], "right": right}
        assert interval(accuracy, [row], resamples=10).value == 25
    rows = [{"chosen": 1, "equal": [1, 2], "right": right} for right in (0, 1, 2)]
    assert accuracy.statistics(rows)[:, 0].tolist() == [0, 0.5, 0.5]
    assert "1/k" in accuracy.signature(rows)


def test_equal_bounds_are_said_in_the_table_and_the_sample() -> None:
    row = {"source": "q", "choices": ["a", "b", "c"], "chosen": 1, "equal": [1, 2], "right": 2}
    assert sample_text(row) == "q  ->  b = c  (right: c)"
    table = markdown_table([result("s", "t", [row], rows=9, equal_bounds=1)], [])
    assert "equal bounds in 1 of 9 (1/k for each of k choices)" in table


def test_rows_of_one_cluster_widen_the_interval_and_the_difference() -> None:
    metric = METRICS["multiple_choice"]["accuracy"]
    alone = [{"source": "", "chosen": int(n < 60), "right": 1} for n in range(100)]
    shared = [row | {"cluster": n // 5 * 5} for n, row in enumerate(alone)]
    of_rows, of_clusters = (interval(metric, rows, resamples=10) for rows in (alone, shared))
    assert of_clusters.method == "Wilson, 20 clusters"
    assert of_clusters.low < of_rows.low < 60 < of_rows.high < of_clusters.high
    assert exact_interval(metric, alone) == pytest.approx((49.72, 69.67), abs=0.01)
    assert exact_interval(metric, shared) is None
    wrong = [row | {"chosen": int(n < 55)} for n, row in enumerate(shared)]
    found = difference(metric, shared, wrong, resamples=100)
    assert found.method == "paired bootstrap, 100 resamples of 20 clusters"


def test_perplexities_are_compared_row_by_row_and_lower_is_better() -> None:
    texts = np.random.default_rng(0).uniform(2, 6, size=30)
    worse, better = ([bound(t * 5 + add, 5) for t in texts] for add in (1.0, 0.0))
    perplexity, nats = differences("perplexity_counting", worse, better)
    assert nats["difference"] == pytest.approx(0.2)
    assert nats["ci95_low"] == pytest.approx(nats["ci95_high"]), "the texts' own spread is paired"
    assert perplexity["significant"] and perplexity["difference"] > 0
    assert "+0.200 nats_per_token" in comparison_text(nats)
    assert "lower is better, significant" in comparison_text(nats)


def test_perplexities_over_other_tokens_are_not_compared_and_it_is_said() -> None:
    rows = differences("perplexity_counting", [bound(9.0, 3)], [bound(9.0, 4)])
    assert [sorted(row) for row in rows] == [
        ["first", "metric", "not_compared", "second", "task"]
    ] * 2
    assert "a and b are not compared by perplexity: their tokenizers cut" in comparison_text(
        rows[0]
    )


def test_a_table_shows_estimator_samples_and_both_kinds_of_doubt() -> None:
    scores = {
        "perplexity": {
            "score": 12.5, "ci95_low": 10.0, "ci95_high": 15.0, "standard_error": 0.25,
            "signature": "",
        },
        "nats_per_token": {
            "score": 2.5257, "ci95_low": 2.3, "ci95_high": 2.7, "standard_error": 0.02,
            "signature": "",
        },
    }  # fmt: skip
    shown = markdown_table(
        [result("a", "texts", [], scores=scores, tokens=40, unknown_tokens=2)], []
    )
    assert (
        "| texts | a | perplexity 12.50 ± 0.25 [10.00, 15.00], nats_per_token 2.526 ± 0.020 "
        "| exactly_l bound, 8 samples, seed 3; 2 of 40 tokens unknown |" in shown
    )
    assert "± is the standard error of the estimate" in shown
    exact = result("a", "t", [], scores=scores, likelihood={"estimator": "chain_rule"})
    assert "| chain_rule bound |" in markdown_table([exact], [])


def test_a_table_says_how_much_of_the_prompts_was_unknown() -> None:
    generation = {"kind": "diffusion", "num_iterations": 4, "length": "oracle"}
    metrics = {"generation": generation, "scores": {}, "unknown_tokens": 2, "tokens": 40}
    shown = markdown_table([Result("a", "t", {"system": "a", "task": "t", **metrics}, [])], [])
    assert "| 4 iterations, oracle length; 2 of 40 tokens unknown |" in shown


def test_a_sample_shows_what_was_chosen_and_what_was_right() -> None:
    question = {"source": "2", "choices": ["eins", "zwei"], "right": 1}
    assert sample_text(question | {"chosen": 0}) == "2  ->  eins  (right: zwei)"
    assert sample_text(question | {"chosen": 1}) == "2  ->  zwei"
    assert sample_text(bound(9.0, 3)) == "x  ->  3.000 nats a token"


def test_systems_that_skipped_other_rows_are_not_compared_and_it_is_said() -> None:
    metric = METRICS["generation"]["exact_match"]
    both = [{"source": text, "hypothesis": "a", "reference": "a"} for text in ("one", "two")]
    assert not_comparable(metric, both, both) is None
    said = not_comparable(metric, both, both[:1])
    assert said == "rows that were too long for one of them were skipped"


def test_the_best_that_a_tokenizer_can_write_stands_beside_a_score() -> None:
    metric = METRICS["generation"]["exact_match"]
    rows = [
        {"source": "", "reference": text, "hypothesis": "x"} for text in ("Two dogs .", "a cat")
    ]
    assert best_reachable(metric, rows, ["two dogs.", "a cat"]) == 50
    chrf = best_reachable(METRICS["generation"]["chrf"], rows, ["two dogs.", "a cat"])
    assert chrf is not None and 50 < chrf < 100
    assert best_reachable(metric, rows, []) is None
    assert best_reachable(METRICS["perplexity"]["perplexity"], rows, ["a", "b"]) is None
    value = {"score": 12.3, "best_reachable": 50.0}
    assert beside_text("exact_match", value) == " (of 50.0 that its tokenizer can write)"


def test_systems_that_score_alike_are_not_significantly_different() -> None:
    rows = [bound(nats, 3) for nats in (4.0, 6.0, 9.0)]
    for found in differences("perplexity_counting", rows, rows):
        assert (found["difference"], found["ci95_low"], found["ci95_high"]) == (0, 0, 0)
        assert not found["significant"]
