"""dlm evaluate."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.distributed.share import Share
from dlm.errors import UserError
from dlm.names import TABLE
from dlm.recipe.locate import locate_model
from dlm.recipe.serving import chosen_settings, open_located
from dlm.verbs.generation_settings import asked_settings
from dlm.verbs.ranks import sharing

if TYPE_CHECKING:
    from dlm.evaluation.tasks import Task

_BEGUN = ".evaluation.json"
"""In the output from the first batch to the table: what was asked."""
_LIKELIHOOD_OPTION_OF = {"estimator": "--estimator", "likelihood_samples": "--likelihood-samples"}


def evaluate(options: argparse.Namespace) -> int:
    """Score a model on tasks; several ranks share the rows."""
    with sharing(options.devices) as share:
        try:
            return _evaluate(options, share)
        except KeyboardInterrupt:
            if share.first and (Path(options.output) / _BEGUN).is_file():
                left = "what is done is kept, and the same command goes on from there"
                print(f"{options.output}: {left}", file=sys.stderr)
            raise


def _evaluate(options: argparse.Namespace, share: Share) -> int:
    tasks = _tasks(options)
    output = share.of_first(lambda: _output(options))
    located = locate_model(options.model)

    from rich.console import Console

    from dlm.evaluation.evaluate import (
        check_system,
        evaluate_system,
        oracle_name,
        with_oracle_lengths,
    )
    from dlm.evaluation.results import UNPAIRED
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
    model = open_located(located, trust_remote_code=options.trust_remote_code)
    settings = chosen_settings(asked_settings(options), located, model)
    if share.first:
        check_system(located.name, model, settings, rows)
        _begin(options, output)
    lengths_given = asked_settings(options).values.get("length") is not None
    oracle = None if lengths_given else with_oracle_lengths(model, settings)
    results = []
    for task_rows in rows:
        systems = [(located.name, settings, output / task_rows.task.name)]
        if oracle is not None and task_rows.task.kind == "generation":
            place = output / task_rows.task.name / "oracle_length"
            systems.append((oracle_name(located.name), oracle, place))
        results += [
            evaluate_system(
                name, located.place, model, task_rows, of_system, place,
                bootstrap_samples=1000, share=share,
            )
            for name, of_system, place in systems
        ]  # fmt: skip
    if share.first:
        table = markdown_table(results, [])
        (output / TABLE).write_text(table, encoding="utf-8", errors=UNPAIRED)
        (output / _BEGUN).unlink()
        Console(highlight=False).print(score_table(results))
        print(f"results: {output}")
    return 0


def _tasks(options: argparse.Namespace) -> "list[Task]":
    from dlm.evaluation.tasks import load_tasks

    tasks = load_tasks([name.strip() for name in options.tasks.split(",") if name.strip()])
    if not tasks:
        raise UserError("--tasks names no task: `dlm ls tasks` lists them")
    generates = [task.kind == "generation" for task in tasks]
    if not any(generates):
        given = [*asked_settings(options).written.values()]
        given += ["--few-shot"] * (options.few_shot is not None)
        _refuse(given, "no task of --tasks generates")
    if all(generates):
        given = [option for name, option in _LIKELIHOOD_OPTION_OF.items()
                 if getattr(options, name) is not None]  # fmt: skip
        _refuse(given, "no task of --tasks estimates a likelihood")
    if options.few_shot and not all(generates):
        others = [task.name for task in tasks if task.kind != "generation"]
        raise UserError(
            f"--few-shot would be ignored by {', '.join(others)}: only tasks that generate have "
            "demonstrations; evaluate the others by themselves"
        )
    changes = {"estimator": options.estimator, "samples": options.likelihood_samples}
    return [task.with_few_shot(options.few_shot).with_likelihood(changes) for task in tasks]


def _asked(options: argparse.Namespace) -> str:
    """What decides the results, in a line."""
    where = ("output", "devices", "target", "verb")
    said = {
        name: value
        for name, value in vars(options).items()
        if name not in where and isinstance(value, str | int | float | list) and value is not False
    }
    return json.dumps(said, sort_keys=True) + "\n"


def _begin(options: argparse.Namespace, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / _BEGUN).write_text(_asked(options), encoding="utf-8")


def _refuse(given: list[str], reason: str) -> None:
    if given:
        raise UserError(f"{given[0]} would be ignored: {reason}; remove it")


def _output(options: argparse.Namespace) -> Path:
    """The place of the results: new, or one that the same command began and did not end."""
    output = Path(options.output)
    if (output / _BEGUN).is_file():
        begun = (output / _BEGUN).read_text(encoding="utf-8", errors="replace")
        if begun == _asked(options):
            print(f"{output}: begun before by the same command; it goes on", flush=True)
            return output
        raise UserError(
            f"{output} holds an evaluation that another command began ({begun.strip()}): run that "
            "one again, or give --output a new directory"
        )
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file: give --output a new directory")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give --output a new directory")
    return output
