"""The stages of a run as a table: how far, how long, from what, with which versions."""

from collections.abc import Iterator, Mapping
from typing import Any

from dlm.recipe.console import duration
from dlm.recipe.stage_time import TIME
from dlm.report.run import Run, Stage
from dlm.report.tables import Cell, Column, Table

_COLUMNS = (
    Column("#", number=True),
    Column("stage"),
    Column("state"),
    Column("kind"),
    Column("time", number=True),
    Column("steps", number=True),
    Column("exported", number=True),
    Column("attempts", number=True),
)
_DETAILS = (
    Column("stage"),
    Column("figures", wide=True),
    Column("starts from", wide=True),
    Column("fingerprint"),
)
_SHOWN_ELSEWHERE = ("steps", "exported_step")
_PROVENANCE = ("git_commit", "host", "versions", "device")


def stage_table(run: Run) -> Table:
    """A line a stage: how far, how long."""
    rows = tuple(_row(run, number, stage) for number, stage in enumerate(run.stages, start=1))
    return Table(f"stages_{run.label}", f"Stages of {run.label}", _COLUMNS, rows)


def detail_table(run: Run) -> Table:
    """What a stage says of itself beside that, of those that have begun."""
    rows = tuple(_details(run, stage) for stage in run.stages if stage.identity or stage.metrics)
    return Table(f"details_{run.label}", f"Figures of the stages of {run.label}", _DETAILS, rows)


def provenance_table(run: Run) -> Table:
    """What the stages ran on and with: one row for all stages that say the same."""
    told: dict[tuple[tuple[str, str], ...], list[Stage]] = {}
    for stage in run.stages:
        if facts := tuple(_facts(stage)):
            told.setdefault(facts, []).append(stage)
    rows = []
    for facts, stages in told.items():
        file = run.place(stages[0].directory / _file_of(stages[0]))
        names = ", ".join(stage.name for stage in stages)
        rows += [
            (Cell(names if not number else "", names), Cell(key, key), Cell(value, source=file))
            for number, (key, value) in enumerate(facts)
        ]
    columns = (Column("stages", wide=True), Column("what"), Column("value", wide=True))
    title = f"Commands, devices and versions of {run.label}"
    return Table(f"provenance_{run.label}", title, columns, tuple(rows))


def figures(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and plain values, nested ones with their path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from figures(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def figure_text(value: Any) -> str:
    """A figure for people: whole numbers with commas, others to four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def badge(state: str) -> str:
    """A state as HTML; the word says it, the colour helps."""
    return f'<span class="badge {state}">{state}</span>'


def _row(run: Run, number: int, stage: Stage) -> tuple[Cell, ...]:
    file = run.place(stage.directory / _file_of(stage))
    manifest = f"{run.place(stage.directory)}/manifest.json" if stage.manifest else ""
    seconds = stage.seconds
    attempts = stage.manifest.attempts if stage.manifest else stage.started.get("attempt")
    return (
        Cell(str(number)),
        Cell(stage.name),
        Cell(stage.state, markup=badge(stage.state), source=file if stage.identity else ""),
        Cell(stage.kind),
        _cell("" if seconds is None else duration(seconds), seconds,
              manifest or f"{run.place(stage.directory)}/{TIME}", "seconds"),
        _steps(run, stage, manifest),
        _cell(figure_text(stage.exported_step) if stage.exported_step is not None else "",
              stage.exported_step, manifest, "metrics.exported_step"),
        _cell("" if attempts is None else str(attempts), attempts, file,
              "attempts" if stage.manifest else "attempt"),
    )  # fmt: skip


def _details(run: Run, stage: Stage) -> tuple[Cell, ...]:
    file = run.place(stage.directory / _file_of(stage))
    manifest = f"{run.place(stage.directory)}/manifest.json" if stage.manifest else ""
    told = [] if stage.kind == "evaluate" else [
        (name, value) for name, value in figures(stage.metrics) if name not in _SHOWN_ELSEWHERE
    ]  # fmt: skip
    text = " · ".join(f"{name} {figure_text(value)}" for name, value in told)
    needs = stage.identity.needs if stage.identity else {}
    fingerprint = stage.identity.fingerprint if stage.identity else ""
    return (
        Cell(stage.name),
        _cell(text, None, manifest, "metrics"),
        _cell(", ".join(f"{name} {key[:8]}" for name, key in needs.items()), None, file, "needs"),
        _cell(fingerprint[:8], fingerprint or None, file, "fingerprint"),
    )


def _cell(text: str, value: Any, file: str, place: str) -> Cell:
    return Cell(text, value, f"{file}: {place}" if text and file else "")


def _steps(run: Run, stage: Stage, manifest: str) -> Cell:
    step, steps = stage.progress
    if (trained := stage.metrics.get("steps")) is not None:
        return _cell(figure_text(trained), trained, manifest, "metrics.steps")
    if step is None or steps is None:
        return Cell()
    progress = f"{run.place(stage.directory)}/checkpoints/progress.json"
    return _cell(f"{step:,} of {steps:,}", step, progress, "step")


def _file_of(stage: Stage) -> str:
    return "manifest.json" if stage.manifest else "started.json"


def _facts(stage: Stage) -> Iterator[tuple[str, str]]:
    told: Mapping[str, Any] = stage.manifest.provenance if stage.manifest else stage.started
    if command := told.get("command"):
        yield "command", str(command)
    for name in _PROVENANCE:
        value = told.get(name)
        if isinstance(value, Mapping):
            yield name, ", ".join(f"{key} {item}" for key, item in value.items())
        elif value:
            yield name, str(value)
    hardware, train = (stage.settings.get(name) or {} for name in ("hardware", "train"))
    keys = ("accelerator", "devices", "num_nodes", "strategy", "offload", "num_threads")
    shown = [f"{key} {hardware[key]}" for key in keys if hardware.get(key) not in (None, "none")]
    if "precision" in train:
        shown.append(f"precision {train['precision']}")
    if shown:
        yield "hardware asked for", ", ".join(shown)
