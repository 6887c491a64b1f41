"""dlm run, dlm status."""

import argparse
import sys
from pathlib import Path

from dlm.config.loading import load_recipe
from dlm.config.references import missing_files
from dlm.errors import UserError


def run(options: argparse.Namespace) -> int:
    """Run a recipe, or continue it."""
    from dlm.recipe.runner import run_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    missing = missing_files(recipe)
    if missing:
        raise UserError(f"{recipe.name} cannot run:\n  " + "\n  ".join(missing))
    run_dir = Path(options.run_dir) if options.run_dir else Path("runs") / recipe.name
    return run_recipe(
        recipe,
        run_dir,
        start=options.start,
        stop=options.stop,
        only=options.only,
        force=options.force,
        dry_run=options.dry_run,
        command=["dlm", *sys.argv[1:]],
    )


def status(options: argparse.Namespace) -> int:
    """Print the state of every stage."""
    from dlm.recipe.status import render_status

    print(render_status(Path(options.run_dir), options.json), end="")
    return 0


