"""What a sweep tells as a whole: the same systems in every cell, by size and over seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.config.sweep import Cell
from dlm.evaluation.metrics import (
    METRICS,
    RowMetric,
    difference_of_runs,
    mean_of_runs,
    not_comparable,
)
from dlm.recipe.sweep import SweepRecord
from dlm.report.run import Run, read_run
from dlm.report.score_tables import Entry, evaluations, main_metric

SEED = "seed"
"""The axis whose cells are attempts at one thing."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Study:
    """The runs of a sweep."""

    directory: Path
    name: str
    description: str
    cells: dict[str, Cell]
    runs: list[Run]
    """Of the cells that have begun, labelled by the cell's name."""

    @property
    def not_begun(self) -> list[str]:
        """Cells without a run directory."""
        begun = {run.label for run in self.runs}
        return [name for name in self.cells if name not in begun]

    def group_of(self, run: Run) -> str:
        """What a run is called beside its seed."""
        labels = self.cells[run.label].labels
        return "_".join(label for axis, label in labels.items() if axis != SEED)


@dataclass(frozen=True)
class Group:
    """One system on one task, in the cells that differ in their seed alone."""

    name: str
    """Of the cells without the seed; empty where seeds are all that differs."""
    entries: list[Entry]
    """One a seed."""

    @property
    def system(self) -> str:
        """Its name in the table."""
        return str(self.entries[0].metrics.get("system"))

    @property
    def label(self) -> str:
        """Cell and system."""
        return f"{self.name}: {self.system}" if self.name else self.system

    @property
    def size(self) -> int | None:
        """Parameters of the network without its embeddings, where that was recorded."""
        counted = self.entries[0].metrics.get("parameters") or {}
        return counted.get("without_embeddings")

    def values(self, metric: str) -> list[float]:
        """The score of every seed."""
        return [entry.metrics["scores"][metric]["score"] for entry in self.entries]

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds (n - 1)."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def mean(self, metric: str) -> tuple[float, float, float]:
        """The mean over seeds and its 95 % interval over rows."""
        runs = [entry.scored.samples for entry in self.entries]
        if len(runs) == 1 or not all(runs):
            value = self.entries[0].metrics["scores"][metric]
            low, high = value.get("ci95_low", float("nan")), value.get("ci95_high", float("nan"))
            return statistics.mean(self.values(metric)), low, high
        found = mean_of_runs(self._metric(metric), runs, resamples=RESAMPLES)
        return found.value, found.low, found.high

    def minus(self, other: "Group", metric: str) -> dict[str, Any]:
        """The paired difference on the same rows, as comparisons.json has it."""
        pairs = [(mine, theirs) for mine in self.entries for theirs in other.entries]
        if reason := next((r for pair in pairs if (r := self._apart(*pair, metric))), None):
            return {"not_compared": reason}
        found = difference_of_runs(
            self._metric(metric), [entry.scored.samples for entry in self.entries],
            [entry.scored.samples for entry in other.entries], resamples=RESAMPLES,
        )  # fmt: skip
        return {
            "difference": found.value, "ci95_low": found.low, "ci95_high": found.high,
            "significant": found.low > 0 or found.high < 0,
            "lower_is_better": self._metric(metric).lower_is_better,
        }  # fmt: skip

    def _metric(self, name: str) -> RowMetric:
        return METRICS[str(self.entries[0].metrics.get("task_kind", "generation"))][name]

    def _apart(self, mine: Entry, theirs: Entry, metric: str) -> str | None:
        versions = [one.metrics.get("task_version") for one in (mine, theirs)]
        if versions[0] != versions[1]:
            return f"version {versions[1]} of the task and version {versions[0]}"
        if not (mine.scored.samples and theirs.scored.samples):
            return "samples.jsonl of one is missing or empty"
        return not_comparable(self._metric(metric), mine.scored.samples, theirs.scored.samples)


@dataclass(frozen=True)
class Scores:
    """One task of one evaluate stage in all cells."""

    stage: str
    task: str
    metrics: list[str]
    """The main one first."""
    groups: list[Group]
    """In the order of cells, then of systems."""

    @property
    def systems(self) -> list[str]:
        """In the order of the first cell that has them."""
        return list(dict.fromkeys(group.system for group in self.groups))

    @property
    def by_size(self) -> dict[str, list[Group]]:
        """System -> its groups from small to large, of systems that come in several sizes."""
        found: dict[str, list[Group]] = {}
        for group in sorted((g for g in self.groups if g.size), key=lambda g: g.size or 0):
            found.setdefault(group.system, []).append(group)
        return {
            system: found[system]
            for system in self.systems
            if len({group.size for group in found.get(system, [])}) > 1
        }

    @property
    def seeds(self) -> int:
        """The most seeds of a group."""
        return max(len(group.entries) for group in self.groups)


def read_study(run_dir: Path, record: SweepRecord) -> Study:
    """Read the runs of every cell that has begun.

    Raises:
        UserError: A recipe of them cannot be read.
    """
    runs = [read_run(place, place.name, alone=False) for place in record.directories(run_dir)]
    cells = {cell.name: cell for cell in record.cells}
    return Study(run_dir, record.recipe, record.description, cells, runs)


def study_scores(study: Study) -> list[Scores]:
    """Every task of every evaluate stage, its entries by cell, system and seed, systems in the
    order of the recipe."""
    found = []
    for stage, tasks in evaluations(study.runs).items():
        for task, entries in tasks.items():
            groups: dict[tuple[str, str], list[Entry]] = {}
            places = {run.label: place for place, run in enumerate(study.runs)}
            for entry in sorted(entries, key=lambda e: (places[e.run.label], _place(e))):
                key = (study.group_of(entry.run), str(entry.metrics.get("system")))
                groups.setdefault(key, []).append(entry)
            names = _metrics(entries)
            made = [Group(name, own) for (name, _), own in groups.items()]
            found.append(Scores(stage, task, names, made))
    return found


def _place(entry: Entry) -> int:
    """Where the recipe names the system; last where it is not known."""
    systems = [*((entry.stage.settings.get("evaluation") or {}).get("systems") or {})]
    system = entry.metrics.get("system")
    return systems.index(system) if system in systems else len(systems)


def _metrics(entries: Sequence[Entry]) -> list[str]:
    main = main_metric(entries)
    return [main, *(name for name in entries[0].metrics["scores"] if name != main)]
