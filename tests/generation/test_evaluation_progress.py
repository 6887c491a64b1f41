"""An evaluation that is killed in the middle of a task goes on, with the same numbers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_generation import PROMPTS, tiny_model

from dlm.distributed.share import ALONE, Alone
from dlm.evaluation.evaluate import evaluate_system
from dlm.evaluation.progress import FILE, Progress, Told
from dlm.evaluation.results import Result
from dlm.evaluation.task_rows import TaskRows
from dlm.evaluation.tasks import load_task
from dlm.generation.rerank import Candidate
from dlm.generation.settings import GenerationSettings

SETTINGS = GenerationSettings(num_iterations=2, length="oracle", batch_tokens=40)
TASKS = ("numbers_en_de", "choose_number_de", "perplexity_numbers_en_de")


class Killed(Exception):
    """In place of a kill: the process ends at once."""


class DiesAfter(Alone):
    """One process that is killed after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def map(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The work, until the end comes."""
        self.left -= len(items)
        if self.left < 0:
            raise Killed
        return super().map(work, items)


def rows_of(name: str, batch_tokens: int = 40) -> TaskRows:
    likelihood = {"estimator": "exactly_l", "samples": 2, "batch_tokens": batch_tokens}
    task = replace(load_task(name), likelihood=likelihood)
    references = PROMPTS[::-1]
    choices = [[reference, f"{reference} ran"] for reference in references]
    return TaskRows(task, PROMPTS, references, choices=choices, right=[0] * len(PROMPTS))


def run(rows: TaskRows, directory: Path, share: Alone = ALONE, **changes: Any) -> Result:
    settings = replace(SETTINGS, **changes)
    return evaluate_system(
        "tiny", "tiny", tiny_model(), rows, settings, directory, bootstrap_samples=5, share=share
    )


def lasting(result: Result) -> dict[str, Any]:
    timed = ("seconds", "rows_per_second")
    return {name: value for name, value in result.metrics.items() if name not in timed}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_killed_in_its_middle_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    rows = rows_of(name)
    whole = run(rows, tmp_path / "whole")
    place = tmp_path / "killed"
    with pytest.raises(Killed):
        run(rows, place, DiesAfter(3))
    lines = (place / FILE).read_bytes()
    assert lines.count(b"\n") == 1 + 3
    (place / FILE).write_bytes(lines[:-20])  # the kill came in mid-write
    counted = DiesAfter(10_000)
    resumed = run(rows, place, counted)
    assert (lasting(resumed), resumed.samples) == (lasting(whole), whole.samples)
    own = (place / "samples.jsonl").read_bytes()
    assert own == (tmp_path / "whole" / "samples.jsonl").read_bytes()
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
    again = DiesAfter(10_000)
    run(rows, tmp_path / "again", again)
    assert counted.left - again.left == 2, "two whole batches were not computed again"


def test_progress_of_other_settings_or_rows_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("numbers_en_de")
    with pytest.raises(Killed):
        run(rows, tmp_path / "scores", DiesAfter(3))
    changed = run(rows, tmp_path / "scores", num_iterations=3)
    assert "begun before with other rows, settings or weights" in capsys.readouterr().out
    whole = run(rows, tmp_path / "whole", num_iterations=3)
    assert changed.samples == whole.samples


@pytest.mark.parametrize("batch_tokens", [30, 100, 10_000])
@pytest.mark.parametrize("name", TASKS)
def test_any_batch_size_gives_the_same_samples(
    name: str, batch_tokens: int, tmp_path: Path
) -> None:
    one = run(rows_of(name, 1), tmp_path / "one", batch_tokens=1).samples
    many = run(rows_of(name, batch_tokens), tmp_path / "many", batch_tokens=batch_tokens).samples
    for given, other in zip(many, one, strict=True):
        assert list(given) == list(other)
        for key, value in given.items():
            numbers = isinstance(value, float) or key in ("nats_per_token", "standard_error")
            assert value == (pytest.approx(other[key], abs=1e-4) if numbers else other[key])


def test_results_come_back_as_what_they_were(tmp_path: Path) -> None:
    made: tuple[list[Candidate], int, list[Any]] = (
        [Candidate(0, [1, 2], -0.1, -1e-300), Candidate(1, [], -0.5, 0.0)], 3, [],
    )  # fmt: skip
    for _ in range(2):
        progress = Progress(ALONE, tmp_path / FILE, "key")
        ((candidates, calls, kept),) = progress.map(lambda item: made, [[0, 1]])
        assert (candidates, calls, kept) == made
    with pytest.raises(TypeError, match="Path cannot be kept"):
        Progress(ALONE, tmp_path / FILE, "key").map(lambda item: tmp_path, [[2]])
    assert json.loads((tmp_path / FILE).read_text().splitlines()[0]) == {"key": "key"}


def test_long_calls_say_how_far_they_are_and_short_ones_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    told = Told("task, system", clock=lambda: now[0])
    for call, begun in ((0, 1), (1, 11)):  # ten batches of the second were there before
        for done in range(begun, begun + 10):
            told(call, done, 20)
            now[0] += 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "task, system: 4 of 20 batches, 64 s left"
    assert len(lines) == 6 and lines[-1] == "task, system: 19 of 20 batches, 4 s left"
