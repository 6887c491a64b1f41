"""What an evaluation writes is JSON: a number that is not finite is an error that names its row."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dlm.diffusion.likelihood import Estimate
from dlm.errors import StageFailed
from dlm.evaluation.results import Result, read_result, write_result
from dlm.generation.scored_rows import Bound, _finite

METRICS: dict[str, Any] = {"rows": 1, "scores": {"bleu": {}}}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_row_whose_number_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    samples = [{"bound": 1.0}, {"bound": 2.0, "standard_error": value}]
    with pytest.raises(StageFailed, match=rf"texts, row 2: standard_error is {value}, which is no"):
        write_result(Result("s", "texts", {}, samples), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_score_that_is_not_finite_is_named(tmp_path: Path) -> None:
    metrics: dict[str, Any] = {"scores": {"bleu": {"interval": [0.5, math.nan]}}}
    with pytest.raises(StageFailed, match=r"texts, metrics: scores\.bleu\.interval\[1\] is nan"):
        write_result(Result("s", "texts", metrics, []), tmp_path)


def test_numbers_are_written_as_they_are(tmp_path: Path) -> None:
    result = Result(
        "s",
        "texts",
        {"rows": 1, "scores": {"bleu": {}}},
        [{"bound": 1.5, "text": "größe", "right": True}],
    )
    write_result(result, tmp_path)
    assert read_result("s", "texts", tmp_path) == result
    assert json.loads((tmp_path / "samples.jsonl").read_text(encoding="utf-8"))["bound"] == 1.5


def test_half_a_surrogate_pair_is_written_and_read_back(tmp_path: Path) -> None:
    result = Result(
        "s",
        "texts",
        {"rows": 1, "scores": {"bleu": {}}},
        [{"source": "a \ud83d b", "hypothesis": "\u2028"}],
    )
    write_result(result, tmp_path)
    assert read_result("s", "texts", tmp_path) == result


@pytest.mark.parametrize("row_id", [6, (3 << 32) + 6])
def test_a_likelihood_that_is_not_finite_names_the_row(row_id: int) -> None:
    whole, broken = (Bound(Estimate(v, 0.0, 1), 9) for v in (3.0, math.inf))
    assert _finite([whole], [0]) == [whole]
    with pytest.raises(StageFailed, match="row 7: its likelihood is inf nats of 9 tokens"):
        _finite([whole, broken], [0, row_id])
