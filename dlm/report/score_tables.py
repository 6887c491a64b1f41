"""Scores of evaluate stages, with intervals and settings, one run or several side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dlm.evaluation.table import beside_text, score_digits
from dlm.report.charts import COLOURS, interval_graphic
from dlm.report.run import Run, Scored, Stage
from dlm.report.stage_tables import figures
from dlm.report.tables import Cell, Column, Table

_ORACLE = '<span class="tag" title="the lengths of the references were given">oracle length</span>'
ORACLE_NOTE = (
    "Oracle rows are given the lengths of the references: a bound, not what a user would get."
)
PAIRED = "Paired over rows or clusters: Tango's interval of 0/1 scores, else a bootstrap"


@dataclass(frozen=True)
class Entry:
    """One system of one run on one task."""

    run: Run
    colour: int
    """The run's."""
    stage: Stage
    scored: Scored

    @property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json."""
        return self.scored.metrics

    @property
    def label(self) -> str:
        """The system, and the run where there are several."""
        system = str(self.metrics.get("system"))
        return system if self.run.alone else f"{self.run.label}: {system}"

    @property
    def oracle(self) -> bool:
        """Whether it was given the references' lengths."""
        return (self.metrics.get("generation") or {}).get("length") == "oracle"

    @property
    def source(self) -> str:
        """Its file."""
        return self.run.place(self.scored.file)


def evaluations(runs: Sequence[Run]) -> dict[str, dict[str, list[Entry]]]:
    """Name of the evaluate stage -> task -> every system of every run."""
    found: dict[str, dict[str, list[Entry]]] = {}
    for colour, run in enumerate(runs):
        for stage in run.stages:
            for scored in stage.results:
                tasks = found.setdefault(stage.name, {})
                entry = Entry(run, colour % COLOURS, stage, scored)
                tasks.setdefault(str(scored.metrics.get("task")), []).append(entry)
    return found


def main_metric(entries: Sequence[Entry]) -> str:
    """The first score of a task."""
    return str(next(iter(entries[0].metrics["scores"])))


def score_table(stage: str, task: str, entries: Sequence[Entry]) -> Table:
    """A row a system: scores with intervals, the main one drawn, and what it was made with."""
    names = list(dict.fromkeys(name for e in entries for name in e.metrics["scores"]))
    values = [e.metrics["scores"].get(names[0]) for e in entries]
    scale = _scale([end for value in values if value for end in _ends(value)])
    columns = [Column("system", wide=True), Column(f"{names[0]} [95 % interval]", number=True)]
    columns.append(Column(f"{scale[0]:.3g} to {scale[1]:.3g}", graphic=True))
    columns += [Column(f"{name} [95 % interval]", number=True) for name in names[1:]]
    columns += [Column("rows", number=True), Column("seconds", number=True),
                Column("network calls", number=True), Column("settings", wide=True)]  # fmt: skip
    rows = tuple(_row(entry, names, scale) for entry in entries)
    notes = [f"{task}, version {_one([e.metrics.get('task_version') for e in entries])}."]
    signatures = [
        f"{name}: {value['signature']}" for e in entries
        for name, value in e.metrics["scores"].items() if value.get("signature")
    ]  # fmt: skip
    notes += [f"{text}." for text in dict.fromkeys(signatures)]
    notes += [f"Intervals: {text}." for text in _methods(entries)]
    if any("standard_error" in v for e in entries for v in e.metrics["scores"].values()):
        notes.append("± is the standard error of the estimate; the interval is over rows.")
    if any(entry.oracle for entry in entries):
        notes.append(ORACLE_NOTE)
    return Table(f"scores_{stage}_{task}", f"{stage}: {task}", tuple(columns), rows,
                 " ".join(notes))  # fmt: skip


def _methods(entries: Sequence[Entry]) -> list[str]:
    """How the intervals of each metric were found, where the file says it."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        for name, value in entry.metrics["scores"].items():
            if "interval" in value:
                found.setdefault(value["interval"], {})[name] = None
    return [f"{method} ({', '.join(names)})" for method, names in found.items()]


def comparison_table(stage: str, runs: Sequence[Run]) -> Table | None:
    """The paired differences that the stage itself made; None where it made none."""
    rows = []
    for colour, run in enumerate(runs):
        for one in run.stages:
            if one.name == stage:
                file = run.place(one.directory / "export" / "comparisons.json")
                label = "" if run.alone else run.label
                rows += [
                    difference_cells(
                        label, row, colour % COLOURS, f"{file}: [{number}]", one.comparisons
                    )
                    for number, row in enumerate(one.comparisons)
                ]
    if not rows:
        return None
    title = f"{stage}: paired differences"
    return difference_table(f"comparisons_{stage}", title, rows, f"{PAIRED}.",
                            with_run=not runs[0].alone)  # fmt: skip


def difference_table(name: str, title: str, rows: Sequence[tuple[Cell, ...]], note: str, *,
                     with_run: bool = False) -> Table:  # fmt: skip
    """Rows of :func:`difference_cells` under their head."""
    columns = (
        *((Column("run"),) if with_run else ()),
        Column("task"), Column("metric"), Column("first", wide=True), Column("minus", wide=True),
        Column("difference [95 % interval]", number=True), Column("from zero", graphic=True),
        Column("at 95 %"),
    )  # fmt: skip
    return Table(name, title, columns, tuple(rows), note)


def settings_text(metrics: Mapping[str, Any]) -> str:
    """Everything that a score depends on."""
    given = {**(metrics.get("generation") or {}), **(metrics.get("likelihood") or {})}
    given = {name: value for name, value in given.items() if value is not None}
    given["model"] = metrics.get("model")
    if metrics.get("few_shot"):
        given["few_shot"] = metrics["few_shot"]
    counted = ("answers_not_extracted", "skipped_rows", "empty_answers", "answers_without_end")
    for name in (*counted, *(["length_ratio"] if metrics.get("empty_answers") else [])):
        if metrics.get(name) is not None and (metrics[name] or name == "length_ratio"):
            given[name] = metrics[name]
    return ", ".join(f"{name} {_setting(value)}" for name, value in figures(given))


def score_text(name: str, value: Mapping[str, Any]) -> str:
    """``12.3 [11.0, 13.5]``, and of a rewriting what the unchanged source scores."""
    digits = score_digits(name)
    text = f"{value['score']:.{digits}f}"
    if "standard_error" in value:
        text += f" ± {value['standard_error']:.{digits}f}"
    _, low, high = _ends(value)
    known = math.isfinite(low) and math.isfinite(high)  # not so without resamples
    if known:
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text + beside_text(name, value)


def score_rows(runs: Sequence[Run]) -> Iterator[list[Any]]:
    """Every score as numbers for programs, after a row of names."""
    yield ["run", "stage", "task", "task_version", "system", "metric", "score", "ci95_low",
           "ci95_high", "standard_error", "source_unchanged", "best_reachable", "rows", "seconds",
           "network_calls", "settings", "signature", "source"]  # fmt: skip
    for stage, tasks in evaluations(runs).items():
        for task, entries in tasks.items():
            for e in entries:
                for name, value in e.metrics["scores"].items():
                    yield [
                        e.run.label, stage, task, e.metrics.get("task_version"),
                        e.metrics.get("system"), name, value["score"], value.get("ci95_low"),
                        value.get("ci95_high"), value.get("standard_error"),
                        value.get("source_unchanged"), value.get("best_reachable"),
                        *(e.metrics.get(key) for key in ("rows", "seconds", "network_calls")),
                        settings_text(e.metrics), value.get("signature"),
                        f"{e.source}: scores.{name}",
                    ]  # fmt: skip


def _row(entry: Entry, names: Sequence[str], scale: tuple[float, float]) -> tuple[Cell, ...]:
    scores, source = entry.metrics["scores"], entry.source
    tag = f" {_ORACLE}" if entry.oracle and "oracle" not in entry.label else ""

    def score(name: str) -> Cell:
        if name not in scores:
            return Cell()
        return Cell(score_text(name, scores[name]), scores[name]["score"],
                    f"{source}: scores.{name}")  # fmt: skip

    def figure(name: str, digits: int) -> Cell:
        value = entry.metrics.get(name)
        return Cell() if value is None else Cell(f"{value:,.{digits}f}", value, f"{source}: {name}")

    graphic = Cell()
    main = scores.get(names[0])
    if main and math.isfinite(main["score"]):
        ends = _ends(main)
        drawn = interval_graphic(main["score"], ends[1], ends[2], scale,
                                 colour=entry.colour, hollow=entry.oracle)  # fmt: skip
        graphic = Cell(markup=drawn)
    return (
        Cell(entry.label, markup=escape(entry.label) + tag if tag else "", source=source),
        score(names[0]), graphic, *(score(name) for name in names[1:]),
        figure("rows", 0), figure("seconds", 1), figure("network_calls", 0),
        Cell(settings_text(entry.metrics), source=f"{source}: generation"),
    )  # fmt: skip


def difference_cells(label: str, row: Mapping[str, Any], colour: int, source: str,
                     others: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:  # fmt: skip
    """One paired difference; ``others``: the rows of its table, drawn on one scale a metric."""
    head = (
        *((Cell(label),) if label else ()),
        *(Cell(str(row.get(key, ""))) for key in ("task", "metric", "first", "second")),
    )
    if "not_compared" in row:
        return (*head, Cell("not compared", source=source), Cell(), Cell(str(row["not_compared"])))
    digits = score_digits(row["metric"])
    value, low, high = row["difference"], row["ci95_low"], row["ci95_high"]
    text = f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    alike = [o for o in others if o.get("metric") == row["metric"] and "difference" in o]
    ends = [o[key] for o in alike for key in ("difference", "ci95_low", "ci95_high")]
    drawn = interval_graphic(value, low, high, _scale([*ends, 0.0]), colour=colour, zero=True)
    verdict = "significant" if row["significant"] else "not significant"
    better = ", lower is better" if row.get("lower_is_better") else ""
    return (*head, Cell(text, value, source), Cell(markup=drawn),
            Cell(verdict + better, source=source))  # fmt: skip


def _ends(value: Mapping[str, Any]) -> tuple[float, float, float]:
    nan = math.nan
    return value["score"], value.get("ci95_low", nan), value.get("ci95_high", nan)


def _scale(ends: Sequence[float]) -> tuple[float, float]:
    finite = [end for end in ends if math.isfinite(end)] or [0.0]
    return min(finite), max(finite)


def _one(values: Sequence[Any]) -> str:
    return " and ".join(str(value) for value in dict.fromkeys(values))


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
