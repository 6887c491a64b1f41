"""dlm run, dlm status."""

import argparse
import re
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dlm.config.loading import load_cells
from dlm.config.ranges import MOST_CELLS, SEED
from dlm.config.references import missing_files
from dlm.config.schema import RecipeConfig
from dlm.config.sweep import Cell
from dlm.errors import UserError
from dlm.names import LINE
from dlm.verbs.names import unknown_names


@dataclass(frozen=True)
class Checked:
    """What is to be run, after everything that can be known before any work."""

    recipe: RecipeConfig
    run_dir: Path
    cells: list[tuple[Cell, RecipeConfig]]
    """Those of the sweep, with their recipes; none for an ordinary run."""


def run(options: argparse.Namespace) -> int:
    """Run a recipe, or continue it; of a sweep, cell after cell."""
    from dlm.process import process_rank
    from dlm.recipe.console import explain, words_of
    from dlm.recipe.endings import leave_exit_code
    from dlm.recipe.runner import run_recipe
    from dlm.recipe.sweep import chosen_cells, run_cells, write_sweep

    command = ["dlm", *sys.argv[1:]]
    try:
        found = checked(options)
        chosen = chosen_cells(found.cells, _names(options.cells))
        if options.force and len(chosen) > 1:
            raise UserError(
                f"--force {options.force[0]}: of a sweep, name the one run to begin anew: "
                f"--cells {chosen[0][0].name}"
            )
        if found.cells and not options.dry_run and process_rank() == 0:
            write_sweep(found.run_dir, found.recipe, [cell for cell, _ in found.cells])
    except UserError as error:
        if process_rank() == 0:
            explain(error)
        return leave_exit_code(error.exit_code)

    def run_one(recipe: RecipeConfig, run_dir: Path) -> int:
        return run_recipe(
            recipe,
            run_dir,
            start=options.start,
            stop=options.stop,
            only=options.only,
            force=options.force,
            dry_run=options.dry_run,
            command=command,
        )

    # What a dry run says is printed as a whole, so that `dlm run --dry-run | head` ends well.
    with redirect_stdout(StringIO()) if options.dry_run else nullcontext() as plan:
        if found.cells:
            code = run_cells(chosen, found.run_dir, run_one, words=words_of(command))
        else:
            code = run_one(found.recipe, found.run_dir)
    if plan is not None:
        print(plan.getvalue(), end="")
    return leave_exit_code(code)


def checked(options: argparse.Namespace) -> Checked:
    """The recipe, that of each cell, and their directory.

    Raises:
        UserError: A recipe or its files are wrong, or the directory is something else's.
    """
    from dlm.recipe.sweep import check_place

    recipe, cells = load_cells(options.recipe, options.overrides, seeds_of(options.seeds))
    for name, one in [(c.name, r) for c, r in cells] or [("", recipe)]:
        _check_names(one, f"{recipe.name}, cell {name}," if name else recipe.name)
    run_dir = _directory(options, recipe)
    check_place(run_dir, sweep=bool(cells))
    return Checked(recipe, run_dir, cells)


def checked_one(options: argparse.Namespace) -> tuple[RecipeConfig, Path]:
    """The recipe of one run and its directory, for a verb that is about one: with a sweep, that of
    ``--cell``.

    Raises:
        UserError: As :func:`checked`; a sweep of which no cell is named.
    """
    recipe, cell = recipe_of_cell(options)
    _check_names(recipe, recipe.name)
    run_dir = _directory(options, recipe)
    return recipe, run_dir / cell


def recipe_of_cell(options: argparse.Namespace) -> tuple[RecipeConfig, str]:
    """The recipe of the cell that ``--cell`` names, and its name; without a sweep the recipe.

    Raises:
        UserError: It names none of a sweep, or there is none.
    """
    from dlm.recipe.sweep import chosen_cells

    recipe, cells = load_cells(options.recipe, options.overrides)
    if not cells and options.cell is None:
        return recipe, ""
    if options.cell is None:
        names = ", ".join(cell.name for cell, _ in cells)
        raise UserError(f"{recipe.name} is a sweep: say which of its runs by --cell ({names})")
    [(cell, own)] = chosen_cells(cells, [options.cell], flag="--cell")
    return own, cell.name


def _check_names(recipe: RecipeConfig, place: str) -> None:
    problems = [*missing_files(recipe), *unknown_names(recipe)]
    if problems:
        raise UserError(f"{place} cannot run:\n  " + "\n  ".join(problems))


def _directory(options: argparse.Namespace, recipe: RecipeConfig) -> Path:
    run_dir = Path(options.run_dir) if options.run_dir else Path("runs") / recipe.name
    if reason := LINE.problem(str(run_dir)):
        raise UserError(f"--run-dir {str(run_dir)!r}: {reason}")
    for path in (run_dir, *run_dir.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: give --run-dir a directory")
    return run_dir


def seeds_of(given: str | None) -> tuple[int, ...]:
    """1,2,3 or 1-3 as numbers.

    Raises:
        UserError: It is something else, or names one twice.
    """
    if given is None:
        return ()
    seeds: list[int] = []
    for part in given.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if found is None:
            raise UserError(f"--seeds {given}: must be numbers such as 1,2,3 or 1-3")
        first, last = int(found[1]), int(found[2] or found[1])
        if not SEED.fits(last) or last - first >= MOST_CELLS:
            raise UserError(
                f"--seeds {given}: a seed must be {SEED}, and there can be {MOST_CELLS:,} of them"
            )
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise UserError(f"--seeds {given}: names a seed twice, or none")
    return tuple(seeds)


def _names(given: str | None) -> list[str]:
    return [] if given is None else [name.strip() for name in given.split(",")]


def status(options: argparse.Namespace) -> int:
    """Print the state of every stage and its job, of a sweep cell by cell."""
    from dlm.cluster.queue import states_by_stage
    from dlm.cluster.record import read_record
    from dlm.recipe.status import render_status, rendered, status_line
    from dlm.recipe.status import status as read_status
    from dlm.recipe.sweep import read_sweep, settings_text

    run_dir = Path(options.run_dir)
    record, sweep = read_record(run_dir), read_sweep(run_dir)
    if sweep is None:
        queue = states_by_stage(record) if record else {}
        print(render_status(run_dir, options.json, queue))
        return 0
    queued = set(record.cells) if record else set()
    found = {cell.name: read_status(run_dir / cell.name) for cell in sweep.begun(run_dir)}
    texts = {
        name: rendered(
            rows, run_dir / name, options.json,
            states_by_stage(record, name) if record and name in queued else {},
        )
        for name, rows in found.items()
    }  # fmt: skip
    if options.json:
        print("[" + ",\n".join(texts.values()) + "]")
        return 0
    for cell in sweep.cells:
        print(f"cell {cell.name} ({settings_text(cell)}):")
        print(texts.get(cell.name, "not begun"))
    print()
    for cell in sweep.cells:
        line = status_line(found[cell.name]) if cell.name in found else "not begun"
        print(f"{cell.name}: {line}")
    return 0
