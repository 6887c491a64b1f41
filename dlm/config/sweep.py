"""A sweep: one recipe run once for every cell of a grid of settings."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from dlm.config.ranges import MOST_CELLS
from dlm.config.references import Problem, same_place
from dlm.errors import UserError
from dlm.names import LABEL, LONGEST_NAME

Settings = tuple[tuple[str, Any], ...]
"""Keys as on the command line, with their values."""
RESERVED = ("slurm", "kubernetes")
"""Folders that a run directory has for other things."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str
    """Its directory below the sweep's: the labels, joined by ``_``."""
    labels: dict[str, str]
    """Axis -> what the cell is called on it."""
    settings: Settings
    """What it changes in the recipe."""


def sweep_cells(sweep: Mapping[str, Any]) -> list[Cell]:
    """The grid of all axes, the last one changing fastest; one nameless cell without any.

    Expects a sweep in which :func:`sweep_problems` finds nothing.
    """
    axes = [[(axis, *group) for group in _groups(axis, values)] for axis, values in sweep.items()]
    return [
        Cell(
            "_".join(label for _, label, _ in chosen),
            {axis: label for axis, label, _ in chosen},
            tuple(setting for _, _, settings in chosen for setting in settings),
        )
        for chosen in product(*axes)
    ]


def sweep_problems(sweep: Mapping[str, Any]) -> Iterator[Problem]:
    """Whatever keeps the sweep from being a grid of runs with a directory each."""
    found = [problem for axis, values in sweep.items() for problem in _axis(axis, values)]
    yield from found
    if found:
        return
    keys = {axis: _keys(axis, values) for axis, values in sweep.items()}
    for number, (axis, own) in enumerate(keys.items()):
        for other in list(keys)[:number]:
            for key in own:
                if any(same_place(key, theirs) for theirs in keys[other]):
                    yield Problem(f"sweep.{axis}", f"{key} is set by the axis {other} too")
    count = math.prod(len(_groups(axis, values)) for axis, values in sweep.items())
    if count > MOST_CELLS:
        yield Problem("sweep", f"it has {count:,} cells, and there can be {MOST_CELLS:,}")
        return
    for cell in sweep_cells(sweep):
        if len(cell.name) > LONGEST_NAME:
            reason = f"a cell would be called {cell.name}: a name has at most {LONGEST_NAME} bytes"
            yield Problem("sweep", f"{reason}; give the steps of an axis short names")
            return
    counted = Counter(cell.name.casefold() for cell in sweep_cells(sweep))
    for name in (name for name, count in counted.items() if count > 1):
        yield Problem("sweep", f"{counted[name]} cells would be called {name}: name them apart")
    for name in (name for name in counted if name in RESERVED):
        yield Problem("sweep", f"a cell cannot be called {name}: a run directory has a folder so")


def with_seeds(sweep: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The sweep with the axis of ``--seeds``, which wins over its own.

    Raises:
        UserError: Another axis sets the seed.
    """
    if not seeds:
        return dict(sweep)
    others = {axis: values for axis, values in sweep.items() if axis != "seed"}
    for axis, values in others.items():
        if "seed" in _keys(axis, values):
            raise UserError(f"--seeds: the recipe's sweep.{axis} sets seeds already: leave it out")
    return {**others, "seed": list(seeds)}


def check_overrides(sweep: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse overrides of what every cell sets for itself.

    Raises:
        UserError: It names the key and the axis.
    """
    for axis, values in sweep.items():
        for own in _keys(axis, values):
            for key in keys:
                if same_place(key, own):
                    raise UserError(
                        f"override {key}: the sweep sets {own} in its cells (sweep.{axis}); change "
                        f"it there, such as sweep.{axis}='...'"
                    )


def _groups(axis: str, values: Any) -> list[tuple[str, Settings]]:
    """Label and settings of every step along an axis."""
    if isinstance(values, Mapping):
        given = {label: group for label, group in values.items() if group is not None}
        return [(str(label), tuple(group.items())) for label, group in given.items()]
    last = axis.rpartition(".")[2]
    return [(f"{last}-{_text(value)}", ((axis, value),)) for value in values]


def _keys(axis: str, values: Any) -> list[str]:
    """The settings that an axis decides in any of its cells."""
    return list(dict.fromkeys(key for _, group in _groups(axis, values) for key, _ in group))


def _axis(axis: str, values: Any) -> Iterator[Problem]:
    at = f"sweep.{axis}"
    if not isinstance(values, Mapping | list) or not values:
        yield Problem(at, "must be a list of this setting's values, or a mapping from names to the "
                      "settings of each", values)  # fmt: skip
        return
    if isinstance(values, list):
        for value in values:
            if isinstance(value, Mapping | list) or value is None:
                yield Problem(at, "a list holds numbers, texts or truth values; write "
                              "{name: {key: value}, ...} for others", value)  # fmt: skip
                return
    for label, group in values.items() if isinstance(values, Mapping) else ():
        if group is not None and not isinstance(group, Mapping):
            yield Problem(f"{at}.{label}", "must be settings, {key: value, ...}", group)
            return
    groups = _groups(axis, values)
    if not groups:
        yield Problem(at, "nothing is left of it")
    for label, settings in groups:
        if reason := LABEL.problem(label):
            yield Problem(f"{at}.{label}", reason)
        for key, _ in settings:
            if not all(str(key).split(".")) or key.split(".")[0] in ("sweep", "extends", "name"):
                yield Problem(f"{at}.{label}", f"{key} is no setting that a cell can change")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
