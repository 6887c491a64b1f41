"""The curves of the stages as charts, several runs over each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dlm.report.charts import Series, bar_chart, line_chart
from dlm.report.curves import at_step
from dlm.report.run import Run, Stage
from dlm.report.tables import Cell, Column, Table

NOISE = "validation_noise/"
_UNITS = {
    "loss": "loss", "bleu": "BLEU (percent)", "chrf": "chrF (percent)",
    "exact_match": "exact match (percent)", "learning_rate": "learning rate",
    "gradient_norm": "gradient norm before clipping",
}  # fmt: skip
_FIRST = ("loss", "bleu", "chrf", "exact_match", "learning_rate", "gradient_norm")


@dataclass(frozen=True)
class Drawn:
    """A chart and what it is from."""

    figure: str
    sources: list[str]


def stages_by_name(runs: Sequence[Run]) -> dict[str, list[tuple[int, Run, Stage]]]:
    """Stage name -> (colour, run, stage) of every run that has logged something there."""
    found: dict[str, list[tuple[int, Run, Stage]]] = {}
    for colour, run in enumerate(runs):
        for stage in run.stages:
            if stage.curves.values:
                found.setdefault(stage.name, []).append((colour, run, stage))
    return found


def charts(stages: Sequence[tuple[int, Run, Stage]]) -> Iterator[Drawn]:
    """Loss, scores and learning rate first, the loss by noise level, and then the rest."""
    names = _names(stages)
    order = [name for name in _FIRST if name in names]
    order += [name for name in names if name not in order]
    scores = sum(name in _FIRST for name in order)
    for name in order[:scores]:
        yield from _lines(name, stages)
    for kind in ("loss", "masked_accuracy"):
        yield from _noise_levels(kind, stages)
    for name in order[scores:]:
        yield from _lines(name, stages)


def validation_table(name: str, stages: Sequence[tuple[int, Run, Stage]]) -> Table | None:
    """What validation found, a row a run and step; None where nothing was validated."""
    metrics = list(dict.fromkeys(
        metric for _, _, stage in stages for metric in stage.curves.values
        if metric.startswith("validation/")
    ))  # fmt: skip
    alone = all(run.alone for _, run, _ in stages)
    rows = []
    for _, run, stage in stages:
        file = _file(run, stage)
        values = {metric: dict(stage.curves.values.get(metric, [])) for metric in metrics}
        for step in sorted({step for points in values.values() for step in points}):
            mark = "exported" if step == stage.exported_step else ""
            cells = [_figure(values[metric].get(step), f"{file}: {metric}") for metric in metrics]
            own = () if alone else (Cell(run.label),)
            rows.append((*own, Cell(f"{step:,.0f}", int(step)), *cells, Cell(mark)))
    if not rows:
        return None
    columns = [] if alone else [Column("run")]
    columns += [Column("step", number=True)]
    columns += [Column(metric.removeprefix("validation/"), number=True) for metric in metrics]
    return Table(f"validation_{name}", f"{name}: validation", (*columns, Column("")), tuple(rows))


def curve_rows(runs: Sequence[Run]) -> Iterator[list[Any]]:
    """Every logged value, after a row of names."""
    yield ["run", "stage", "metric", "step", "value", "source"]
    for run in runs:
        for stage in run.stages:
            file = _file(run, stage)
            for metric, points in stage.curves.values.items():
                yield from ([run.label, stage.name, metric, int(x), y, file] for x, y in points)


def _names(stages: Sequence[tuple[int, Run, Stage]]) -> list[str]:
    """What there is to draw; training and validation share a chart."""
    metrics = (metric for _, _, stage in stages for metric in stage.curves.values)
    return list(dict.fromkeys(
        metric.removeprefix("train/").removeprefix("validation/")
        for metric in metrics if not metric.startswith(NOISE)
    ))  # fmt: skip


def _lines(name: str, stages: Sequence[tuple[int, Run, Stage]]) -> Iterator[Drawn]:
    series, files = [], []
    for colour, run, stage in stages:
        for split in ("train/", "validation/", ""):
            if points := stage.curves.values.get(split + name):
                what = split.rstrip("/").replace("train", "training") or name
                label = what if run.alone else f"{run.label}, {what}"
                series.append(Series(
                    label, points, colour, pale=split == "train/", dashed=colour % 2 == 1,
                    marked_x=stage.exported_step if split == "validation/" else None,
                ))  # fmt: skip
                files.append(f"{_file(run, stage)}: {split}{name}")
    title = name.replace("_", " ")
    if figure := line_chart(title, "step", _UNITS.get(name, title), series):
        yield Drawn(figure, files)


def _noise_levels(kind: str, stages: Sequence[tuple[int, Run, Stage]]) -> Iterator[Drawn]:
    """Bars over the share of tokens that is noise, at the exported step."""
    prefix = f"{NOISE}{kind}_"
    levels = sorted({
        metric.removeprefix(prefix) for _, _, stage in stages for metric in stage.curves.values
        if metric.startswith(prefix)
    })  # fmt: skip
    series, files = [], []
    for colour, run, stage in stages:
        found = {
            place: at_step(stage.curves.values.get(prefix + level, []), stage.exported_step)
            for place, level in enumerate(levels)
        }
        points = [(float(place), value[1]) for place, value in found.items() if value]
        if not points:
            continue
        step = next(value[0] for value in found.values() if value)
        label = f"step {step:,.0f}" if run.alone else f"{run.label}, step {step:,.0f}"
        series.append(Series(label, points, colour))
        files.append(f"{_file(run, stage)}: {prefix}*")
    what = "loss (nats a token)" if kind == "loss" else "share right"
    title = f"validation {kind.replace('_', ' ')} by noise level"
    names = [level.removeprefix("0") for level in levels]
    axis = "share of tokens masked, up to"
    if figure := bar_chart(title, axis, what, names, series):
        yield Drawn(figure, files)


def _figure(value: float | None, source: str) -> Cell:
    return Cell() if value is None else Cell(f"{value:.4g}", value, source)


def _file(run: Run, stage: Stage) -> str:
    return run.place(stage.directory / "logs" / "metrics.csv")
