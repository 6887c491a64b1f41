"""Two runs side by side: their scores row by row, and whether they read the same data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlm.evaluation.metrics import METRICS, difference, not_comparable
from dlm.recipe.fingerprint import LOCAL_FILES, ROWS, StageIdentity
from dlm.recipe.fingerprint import difference as changes_of
from dlm.report.run import Run
from dlm.report.score_tables import PAIRED, Entry, difference_cells, difference_table
from dlm.report.tables import Table

_RESAMPLES = 1000


def run_differences(stage: str, task: str, entries: Sequence[Entry]) -> Table | None:
    """Every later run minus the first, by system and metric; None where nothing pairs."""
    first = {entry.metrics.get("system"): entry for entry in entries if entry.colour == 0}
    pairs = [
        (entry, first[entry.metrics.get("system")])
        for entry in entries
        if entry.colour and entry.metrics.get("system") in first
    ]
    found = [_differences(entry, base) for entry, base in pairs]
    every = [row for rows in found for row in rows]
    rows = [
        difference_cells("", row, entry.colour, f"{_file(entry)} and {_file(base)}", every)
        for (entry, base), rows in zip(pairs, found, strict=True)
        for row in rows
    ]
    if not rows:
        return None
    title = f"{stage}: {task}, differences between runs"
    note = (
        f"{PAIRED} ({_RESAMPLES:,} resamples); rows and samples are as they lie "
        "in the files, settings as in the table of scores."
    )
    return difference_table(f"run_differences_{stage}_{task}", title, rows, note)


def _differences(entry: Entry, base: Entry) -> list[dict[str, Any]]:
    kinds = METRICS[str(entry.metrics.get("task_kind", "generation"))]
    names = [name for name in entry.metrics["scores"] if name in base.metrics["scores"]]
    task = entry.metrics.get("task")
    return [
        {"task": task, "metric": name, "first": entry.label, "second": base.label}
        | _difference(entry, base, kinds[name])
        for name in names
    ]


def _difference(entry: Entry, base: Entry, metric: Any) -> dict[str, Any]:
    versions = [one.metrics.get("task_version") for one in (base, entry)]
    if versions[0] != versions[1]:
        return {"not_compared": f"version {versions[0]} of the task and version {versions[1]}"}
    samples = entry.scored.samples, base.scored.samples
    if not all(samples):
        return {"not_compared": "samples.jsonl of one is missing or empty"}
    if reason := not_comparable(metric, *samples):
        return {"not_compared": reason}
    found = difference(metric, *samples, resamples=_RESAMPLES)
    return {
        "difference": found.value, "ci95_low": found.low, "ci95_high": found.high,
        "significant": found.low > 0 or found.high < 0,
        "lower_is_better": metric.lower_is_better,
    }  # fmt: skip


def _file(entry: Entry) -> str:
    return entry.run.place(entry.scored.file.with_name("samples.jsonl"))


_SHOWN = 4  # changes of a stage


def data_differences(runs: Sequence[Run]) -> list[str]:
    """One line a stage whose rows differ between the first run and another.

    Stages are matched by name; those that have not begun have no rows yet. Models and tokenizers
    read from directories are what a comparison may be about, and are left aside.
    """
    first = {stage.name: stage for stage in runs[0].stages}
    lines = []
    for run in runs[1:]:
        for stage in run.stages:
            other = first.get(stage.name)
            if other is None or other.identity is None or stage.identity is None:
                continue
            changes = changes_of(_rows_alone(other.identity), _rows_alone(stage.identity))
            if changes:
                shown = "; ".join(str(change) for change in changes[:_SHOWN])
                more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
                lines.append(f"{stage.name}, {runs[0].label} -> {run.label}: {shown}{more}")
    return lines


def _rows_alone(identity: StageIdentity) -> StageIdentity:
    data: Any = identity.data
    if isinstance(data, Mapping) and LOCAL_FILES in data:
        data = data.get(ROWS)
    return replace(identity, config={}, needs={}, kind="", data=data)
