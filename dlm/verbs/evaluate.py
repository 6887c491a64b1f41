"""dlm evaluate."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.distributed.share import Share
from dlm.errors import UserError
from dlm.recipe.locate import locate_model
from dlm.verbs.models import OPTION_OF, chosen_settings, open_located
from dlm.verbs.ranks import sharing

if TYPE_CHECKING:
    from dlm.evaluation.tasks import Task

_GENERATION_OPTION_OF = {**OPTION_OF, "few_shot": "--few-shot"}
_LIKELIHOOD_OPTION_OF = {"estimator": "--estimator", "likelihood_samples": "--likelihood-samples"}


def evaluate(options: argparse.Namespace) -> int:
    """Score a model on tasks; several ranks share the rows."""
    with sharing(options.devices) as share:
        return _evaluate(options, share)


def _evaluate(options: argparse.Namespace, share: Share) -> int:
    tasks = _tasks(options)
    output = share.of_first(lambda: _output(options))
    located = locate_model(options.model)

    from rich.console import Console

    from dlm.evaluation.evaluate import check_system, evaluate_system
    from dlm.evaluation.table import markdown_table, score_table
    from dlm.evaluation.task_rows import read_task
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    rows = [
        read_task(
            task, root=options.data_root, limit=options.limit, skip_too_long=options.skip_too_long
        )
        for task in tasks
    ]
    model = open_located(located)
    settings = chosen_settings(options, located, model)
    if share.first:
        check_system(located.name, model, settings, rows)
    results = [
        evaluate_system(
            located.name, located.place, model, task_rows, settings,
            output / task_rows.task.name, bootstrap_samples=1000, share=share,
        )
        for task_rows in rows
    ]  # fmt: skip
    if share.first:
        (output / "table.md").write_text(markdown_table(results, []), encoding="utf-8")
        Console(highlight=False).print(score_table(results))
        print(f"results: {output}")
    return 0


def _tasks(options: argparse.Namespace) -> "list[Task]":
    from dlm.evaluation.tasks import load_tasks

    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")
    tasks = load_tasks([name.strip() for name in options.tasks.split(",") if name.strip()])
    if not tasks:
        raise UserError("--tasks names no task: `dlm ls tasks` lists them")
    generates = [task.kind == "generation" for task in tasks]
    if not any(generates):
        _refuse(options, _GENERATION_OPTION_OF, "no task of --tasks generates")
    if all(generates):
        _refuse(options, _LIKELIHOOD_OPTION_OF, "no task of --tasks estimates a likelihood")
    if options.few_shot is not None and options.few_shot < 0:
        raise UserError(f"--few-shot must be at least 0, not {options.few_shot}")
    if options.few_shot and not all(generates):
        others = [task.name for task in tasks if task.kind != "generation"]
        raise UserError(
            f"--few-shot would be ignored by {', '.join(others)}: only tasks that generate have "
            "demonstrations; evaluate the others by themselves"
        )
    changes = {"estimator": options.estimator, "samples": options.likelihood_samples}
    return [task.with_few_shot(options.few_shot).with_likelihood(changes) for task in tasks]


def _refuse(options: argparse.Namespace, option_of: dict[str, str], reason: str) -> None:
    for name, option in option_of.items():
        if getattr(options, name, None) is not None:
            raise UserError(f"{option} would be ignored: {reason}; remove it")


def _output(options: argparse.Namespace) -> Path:
    output = Path(options.output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file: give --output a new directory")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give --output a new directory")
    return output
