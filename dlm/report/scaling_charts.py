"""Scores over the size of the network, and the power law through the bounds."""

import math
from collections.abc import Iterator

from dlm.report.charts import COLOURS, Series, line_chart
from dlm.report.curve_charts import Drawn
from dlm.report.power_law import PowerLaw, fit_power_law
from dlm.report.study import Group, Scores

BOUND = "nats_per_token"
"""The metric that a law is fitted to."""
_X = "parameters without embeddings"
_LAW_POINTS = 40


def scaling_charts(scores: Scores) -> Iterator[Drawn]:
    """The task's main score over the size, a line a system; a bound with its law."""
    by_size = scores.by_size
    if not by_size:
        return
    metric = scores.metrics[0]
    bound = metric == BOUND
    drawn, files = [], []
    for system, groups in by_size.items():
        colour = scores.systems.index(system) % COLOURS
        drawn.append(_measured(system, groups, metric, colour))
        files += [entry.source for group in groups for entry in group.entries]
    for system, groups, law in laws(scores):
        drawn.append(_law(system, groups, law, scores.systems.index(system) % COLOURS))
    title = f"{scores.task}: {metric.replace('_', ' ')} over size"
    label = "bound (nats a token)" if bound else metric
    # A bound may be drawn in logarithms, where its law is a line; a score of 0 may not.
    yield Drawn(line_chart(title, _X, label, drawn, log_x=True, log_y=bound), files)


def laws(scores: Scores) -> Iterator[tuple[str, list[Group], PowerLaw]]:
    """System, its groups by size, and the law through their bounds; only where there is one."""
    if scores.metrics[0] != BOUND:
        return
    for system, groups in scores.by_size.items():
        points = [(group.size or 0, value) for group in groups for value in group.values(BOUND)]
        try:
            yield system, groups, fit_power_law(*zip(*points, strict=True))
        except ValueError:  # too few sizes, or a bound of 0
            continue


def _measured(system: str, groups: list[Group], metric: str, colour: int) -> Series:
    means = [group.mean(metric) for group in groups]
    points = [(float(group.size or 0), mean[0]) for group, mean in zip(groups, means, strict=True)]
    return Series(system, points, colour, intervals=tuple((low, high) for _, low, high in means))


def _law(system: str, groups: list[Group], law: PowerLaw, colour: int) -> Series:
    low, high = math.log(groups[0].size or 1), math.log(groups[-1].size or 1)
    places = [math.exp(low + (high - low) * i / (_LAW_POINTS - 1)) for i in range(_LAW_POINTS)]
    return Series(
        f"{system}: size^-{law.exponent:.2f} [{law.exponent_low:.2f}, {law.exponent_high:.2f}]",
        [(place, law(place)) for place in places], colour, dashed=True, band=True,
        intervals=tuple(law.interval(place) for place in places),
    )  # fmt: skip
