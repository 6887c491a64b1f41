"""dlm run, dlm status."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

from dlm.config.loading import load_recipe
from dlm.config.references import missing_files
from dlm.config.schema import RecipeConfig
from dlm.errors import UserError
from dlm.verbs.names import unknown_names


def run(options: argparse.Namespace) -> int:
    """Run a recipe, or continue it."""
    from dlm.recipe.console import continue_line, explain, words_of
    from dlm.recipe.endings import leave_exit_code
    from dlm.recipe.ranks import process_rank
    from dlm.recipe.runner import run_recipe

    command = ["dlm", *sys.argv[1:]]
    try:
        recipe, run_dir = checked(options)
    except UserError as error:
        if process_rank() == 0:
            explain(error)
            print(continue_line(words_of(command), ()), file=sys.stderr)
        return leave_exit_code(error.exit_code)
    # What a dry run says is printed as a whole, so that `dlm run --dry-run | head` ends well.
    with redirect_stdout(StringIO()) if options.dry_run else nullcontext() as plan:
        code = run_recipe(
            recipe,
            run_dir,
            start=options.start,
            stop=options.stop,
            only=options.only,
            force=options.force,
            dry_run=options.dry_run,
            command=command,
        )
    if plan is not None:
        print(plan.getvalue(), end="")
    return leave_exit_code(code)


def checked(options: argparse.Namespace) -> tuple[RecipeConfig, Path]:
    """The recipe and its directory, after everything that can be known before any work."""
    recipe = load_recipe(options.recipe, options.overrides)
    problems = [*missing_files(recipe), *unknown_names(recipe)]
    if problems:
        raise UserError(f"{recipe.name} cannot run:\n  " + "\n  ".join(problems))
    run_dir = Path(options.run_dir) if options.run_dir else Path("runs") / recipe.name
    for path in (run_dir, *run_dir.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: give --run-dir a directory")
    return recipe, run_dir


def status(options: argparse.Namespace) -> int:
    """Print the state of every stage, and of its job if the run was submitted."""
    from dlm.cluster.jobs import seed_directory
    from dlm.cluster.queue import states_by_stage
    from dlm.cluster.record import read_record
    from dlm.recipe.status import render_status

    run_dir = Path(options.run_dir)
    record = read_record(run_dir)
    if record is None or not record.seeds:
        queue = states_by_stage(record) if record else {}
        print(render_status(run_dir, options.json, queue))
        return 0
    texts = [
        render_status(seed_directory(run_dir, seed), options.json, states_by_stage(record, seed))
        for seed in record.seeds
    ]
    if options.json:
        print("[" + ",\n".join(texts) + "]")
    else:
        for seed, text in zip(record.seeds, texts, strict=True):
            print(f"seed {seed}:\n{text}")
    return 0
