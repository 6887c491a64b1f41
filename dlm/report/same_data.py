"""Whether runs read the same rows: side by side, anything else compares two things at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlm.recipe.fingerprint import LOCAL_FILES, ROWS, StageIdentity, difference
from dlm.report.run import Run

_SHOWN = 4


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
            changes = difference(_rows_alone(other.identity), _rows_alone(stage.identity))
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
