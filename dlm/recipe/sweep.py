"""A sweep: its cells, each an ordinary run below one directory, carried out one after the other."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.config.schema import RecipeConfig
from dlm.config.sweep import Cell
from dlm.errors import Preempted, RunInUse, StageFailed, UserError, did_you_mean
from dlm.files import write_json
from dlm.process import process_rank
from dlm.recipe.console import last_line, say
from dlm.recipe.ranks import launcher

SWEEP = "sweep.json"
INTERRUPTED = 130
_STOP = (Preempted.exit_code, INTERRUPTED)
_ENDINGS = {
    RunInUse.exit_code: "in use by another process",
    StageFailed.exit_code: "failed",
    UserError.exit_code: "refused",
}
"""Exit code -> what became of the cell; the gravest last."""


@dataclass(frozen=True)
class SweepRecord:
    """sweep.json: what makes a directory that of a sweep."""

    recipe: str
    """Name of the recipe."""
    description: str
    cells: tuple[Cell, ...]

    def begun(self, run_dir: Path) -> list[Cell]:
        """The cells whose run directory is there."""
        return [cell for cell in self.cells if (run_dir / cell.name / "recipe.yaml").is_file()]

    def directories(self, run_dir: Path) -> list[Path]:
        """Their run directories."""
        return [run_dir / cell.name for cell in self.begun(run_dir)]


def write_sweep(run_dir: Path, recipe: RecipeConfig, cells: Sequence[Cell]) -> None:
    """Record the cells, after those of the same axes that were begun before: a study is extended
    by further seeds or sizes.

    Raises:
        UserError: The record that is there is damaged.
    """
    known, names = read_sweep(run_dir), [cell.name for cell in cells]
    before = [
        cell
        for cell in (known.begun(run_dir) if known else ())
        if cell.name not in names and cells and cell.labels.keys() == cells[0].labels.keys()
    ]
    write_json(run_dir / SWEEP, {
        "recipe": recipe.name,
        "description": recipe.description,
        "cells": [
            {"name": c.name, "labels": c.labels, "settings": dict(c.settings)}
            for c in (*before, *cells)
        ],
    })  # fmt: skip


def read_sweep(run_dir: Path) -> SweepRecord | None:
    """The record of a sweep's directory, None where there is none.

    Raises:
        UserError: It is damaged.
    """
    path = run_dir / SWEEP
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(
            Cell(cell["name"], dict(cell["labels"]), tuple(cell["settings"].items()))
            for cell in values["cells"]
        )
        return SweepRecord(values["recipe"], values["description"], cells)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and `dlm run` the recipe again, which writes "
            "it anew and keeps every cell"
        ) from error


def check_place(run_dir: Path, *, sweep: bool) -> None:
    """Refuse a sweep where an ordinary run lies, and the other way round.

    Raises:
        UserError: It says which.
    """
    if sweep and (run_dir / "recipe.yaml").exists():
        raise UserError(f"{run_dir} holds one run, not those of a sweep: give another --run-dir")
    if not sweep and (run_dir / SWEEP).exists():
        raise UserError(
            f"{run_dir} holds the runs of a sweep, and this recipe has none: give another --run-dir"
        )


def chosen_cells(
    cells: Sequence[tuple[Cell, RecipeConfig]], names: Sequence[str], flag: str = "--cells"
) -> list[tuple[Cell, RecipeConfig]]:
    """Those that ``flag`` names, all where none is named.

    Raises:
        UserError: There is no such cell.
    """
    known = [cell.name for cell, _ in cells]
    for name in names:
        if not cells:
            raise UserError(f"{flag} {name}: the recipe has no sweep, and so no cells")
        if name not in known:
            hint = did_you_mean(name, known) or f"; its cells: {', '.join(known)}"
            raise UserError(f"{flag} {name}: the sweep has no such cell{hint}")
    return [pair for pair in cells if not names or pair[0].name in names]


def run_cells(
    cells: Sequence[tuple[Cell, RecipeConfig]],
    run_dir: Path,
    run: Callable[[RecipeConfig, Path], int],
    *,
    words: Sequence[str],
) -> int:
    """``run`` every cell in its directory; gives the exit code of the whole.

    A cell that is refused, fails or is in use holds up no other one. A preempted or interrupted one
    ends the whole, and so does any where ranks work together: those of a failed cell are gone.
    ``words``: the command, which the last line repeats unless all went well.
    """
    ended: dict[str, int] = {}
    for number, (cell, recipe) in enumerate(cells, start=1):
        if not process_rank():
            say(f"cell {number} of {len(cells)}: {cell.name} ({settings_text(cell)})")
        ended[cell.name] = code = run(recipe, run_dir / cell.name)
        if code in _STOP or (code and _several_ranks()) or len(cells) == 1:
            return code  # which has said itself how to continue
    if process_rank():
        return 0
    left = {name: code for name, code in ended.items() if code}
    if not left:
        return 0
    say(f"sweep: {len(cells) - len(left)} of {len(cells)} cells ended well ({run_dir})")
    told = ", ".join(
        f"{name} ({_ENDINGS.get(code, f'exit {code}')})" for name, code in left.items()
    )
    say(f"error: not all cells ended well: {told}; what was said of each stands above", stderr=True)
    order = [*_ENDINGS]
    worst = max(left.values(), key=lambda code: order.index(code) if code in order else len(order))
    say(last_line(worst, words), stderr=True)
    return worst


def settings_text(cell: Cell) -> str:
    """What a cell changes, in a line."""
    return ", ".join(_shown(key, value) for key, value in cell.settings) or "nothing changed"


def _shown(key: str, value: Any) -> str:
    if value is None and re.fullmatch(r"stages\.[^.]+", key):
        return f"without {key.removeprefix('stages.')}"
    shown = "..." if isinstance(value, Mapping | list) else "null" if value is None else value
    return f"{key}={shown}"


def _several_ranks() -> bool:
    return launcher() is not None or "LOCAL_RANK" in os.environ
