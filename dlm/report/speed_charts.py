"""Quality against work: systems that differ in their iterations alone."""

import math
import re
from collections.abc import Callable, Iterator, Sequence

from dlm.recipe.fingerprint import canonical_json
from dlm.report.charts import COLOURS, Series, line_chart
from dlm.report.curve_charts import Drawn
from dlm.report.score_tables import Entry, main_metric

_ITERATIONS = "num_iterations"


def speed_charts(task: str, entries: Sequence[Entry]) -> Iterator[Drawn]:
    """The task's main score over iterations and over seconds, a line a group of systems."""
    groups = _groups(entries)
    if not groups:
        return
    metric = main_metric(entries)
    sources = [entry.source for group in groups for entry in group]
    labels = _labels(groups)
    for title, x_label, work in (
        ("iterations", "iterations of the sampler", _iterations),
        ("seconds", "seconds for all rows", _seconds),
    ):
        series = [
            _line(sorted(group, key=work), metric, work, label, number % COLOURS)
            for number, (group, label) in enumerate(zip(groups, labels, strict=True))
        ]
        yield Drawn(line_chart(f"{task}: {metric} over {title}", x_label, metric, series), sources)


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries of one run and model whose settings are alike but for the iterations."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        settings = dict(entry.metrics.get("generation") or {})
        if settings.pop(_ITERATIONS, None) is not None and "seconds" in entry.metrics:
            key = canonical_json([entry.run.label, entry.metrics.get("model"), settings])
            found.setdefault(key, []).append(entry)
    return [group for group in found.values() if len({_iterations(one) for one in group}) > 1]


def _labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """The run where each has one line, else the shortest name of the line's systems, in which a
    number of iterations says nothing."""
    runs = [group[0].run for group in groups]
    if not runs[0].alone and len({run.label for run in runs}) == len(runs):
        return [run.label for run in runs]
    return [min(map(_name, group), key=len) for group in groups]


def _name(entry: Entry) -> str:
    said = re.sub(r"\b\d+ iterations?\b", "", str(entry.metrics.get("system")))
    system = ", ".join(part.strip() for part in said.split(",") if part.strip())
    run = "" if entry.run.alone else entry.run.label
    return ": ".join(filter(None, (run, system))) or str(entry.metrics.get("model"))


def _line(
    group: Sequence[Entry],
    metric: str,
    work: Callable[[Entry], float],
    label: str,
    colour: int,
) -> Series:
    scores = [entry.metrics["scores"][metric] for entry in group]
    return Series(
        label,
        [(work(entry), score["score"]) for entry, score in zip(group, scores, strict=True)],
        colour,
        intervals=tuple(
            (score.get("ci95_low", math.nan), score.get("ci95_high", math.nan)) for score in scores
        ),
    )


def _iterations(entry: Entry) -> float:
    return float(entry.metrics["generation"][_ITERATIONS])


def _seconds(entry: Entry) -> float:
    return float(entry.metrics["seconds"])
