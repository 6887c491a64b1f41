"""Stage kind ``evaluate``: every system on every task, and the tables."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dlm.config.schema import SystemConfig
from dlm.distributed.joining import own_device
from dlm.distributed.share import Share
from dlm.evaluation.evaluate import (
    check_system,
    compare,
    evaluate_system,
    oracle_name,
    with_oracle_lengths,
)
from dlm.evaluation.results import UNPAIRED, Result
from dlm.evaluation.table import comparison_text, markdown_table, sample_text, score_table
from dlm.evaluation.task_rows import TaskRows, read_task
from dlm.evaluation.tasks import load_tasks
from dlm.generation.model import GenerativeModel, open_model
from dlm.generation.settings import GenerationSettings
from dlm.names import COMPARISONS, TABLE
from dlm.recipe.console import make_console, say
from dlm.recipe.manifest import EXPORT
from dlm.recipe.shared_stage import carry_out_shared
from dlm.training.job import StageJob

_SHOWN_SAMPLES = 2


def evaluate_stage(job: StageJob) -> dict[str, Any]:
    """Write a folder a system and task, comparisons.json and table.md; show them.

    Called on every rank: the ranks share the work, rank 0 writes and speaks.
    """
    return carry_out_shared(job, _evaluate)


def _evaluate(job: StageJob, share: Share) -> dict[str, Any]:
    config = job.config.evaluation
    tasks = [
        read_task(
            task.with_likelihood(asdict(config.likelihood)),
            root=job.config.data.root, limit=config.limit,
            skip_too_long=config.too_long == "skip",
        )
        for task in load_tasks(config.tasks)
    ]  # fmt: skip
    partial = job.directory / ".partial-export"
    device = own_device(cpu=job.config.hardware.accelerator == "cpu")
    trusted = job.config.model.trust_remote_code
    results: list[Result] = []
    chosen = {
        name: [t for t in tasks if t.task.name in config.only.get(name, [t.task.name])]
        for name in config.systems
    }
    if share.first:
        _take_up(job.directory / EXPORT, partial)
        partial.mkdir(exist_ok=True)
        _check_all(job, chosen)
    for name, system in config.systems.items():
        model = open_model(
            job.exports.get(system.model, system.model), device=device, trust_remote_code=trusted
        )
        settings = replace(job.config.generation, **system.generation)
        results += _evaluate_system(
            job, name, system, settings, model, chosen[name], partial, share
        )
        oracle = with_oracle_lengths(model, settings) if config.oracle_lengths else None
        if oracle is not None and oracle_name(name) not in config.systems:
            unpaired = _without_oracle_row(job, system.model, chosen, chosen[name])
            results += _evaluate_system(
                job, oracle_name(name), system, oracle, model, unpaired, partial, share
            )
    if share.first:
        pairs = [(first, second) for first, second in config.compare]
        # Those of the oracle rows that were added; pairs without results are passed over.
        pairs += [(oracle_name(first), oracle_name(second)) for first, second in pairs]
        comparisons = compare(list(dict.fromkeys(pairs)), results, tasks, config.bootstrap_samples)
        _write_tables(partial, results, comparisons)
        partial.rename(job.directory / EXPORT)
        show(results, comparisons)
    return {
        f"{result.system}/{result.task}": {
            name: round(value["score"], 2) for name, value in result.metrics["scores"].items()
        }
        for result in results
    }


def _take_up(export: Path, partial: Path) -> None:
    """Go on with an export that has no manifest: all that is missing may be a line on a screen."""
    if export.exists() and not partial.exists():
        export.rename(partial)
    shutil.rmtree(export, ignore_errors=True)


def _without_oracle_row(
    job: StageJob, model: str, chosen: Mapping[str, list[TaskRows]], tasks: Sequence[TaskRows]
) -> list[TaskRows]:
    """The tasks that generate and that no system of the recipe has this model answer with the
    references' lengths."""
    systems = job.config.evaluation.systems
    there = {
        rows.task.name
        for name, system in systems.items()
        if system.model == model
        and replace(job.config.generation, **system.generation).length == "oracle"
        for rows in chosen[name]
    }
    return [t for t in tasks if t.task.kind == "generation" and t.task.name not in there]


def _check_all(job: StageJob, chosen: Mapping[str, list[TaskRows]]) -> None:
    """Every system before any of them is run: the last one is not refused after hours.

    Models are opened one at a time here and again for their run: not all of them fit in memory.
    """
    systems = job.config.evaluation.systems
    for place in dict.fromkeys(system.model for system in systems.values()):
        model = open_model(
            job.exports.get(place, place), trust_remote_code=job.config.model.trust_remote_code
        )
        for name, system in systems.items():
            if system.model == place:
                settings = replace(job.config.generation, **system.generation)
                check_system(name, model, settings, chosen[name])


def _evaluate_system(
    job: StageJob,
    name: str,
    system: SystemConfig,
    settings: GenerationSettings,
    model: GenerativeModel,
    tasks: list[TaskRows],
    directory: Path,
    share: Share,
) -> list[Result]:
    results = []
    for rows in tasks:
        result = evaluate_system(
            name, system.model, model, rows, settings, directory / name / rows.task.name,
            bootstrap_samples=job.config.evaluation.bootstrap_samples, share=share,
        )  # fmt: skip
        scores = result.metrics["scores"].items()
        text = ", ".join(f"{metric} {value['score']:.2f}" for metric, value in scores)
        if share.first:
            print(f"{job.name}: {name} on {rows.task.name}: {text}", flush=True)
        results.append(result)
    return results


def _write_tables(
    directory: Path, results: list[Result], comparisons: list[dict[str, Any]]
) -> None:
    text = json.dumps(comparisons, indent=2, ensure_ascii=False) + "\n"
    (directory / COMPARISONS).write_text(text, encoding="utf-8", errors=UNPAIRED)
    (directory / TABLE).write_text(
        markdown_table(results, comparisons), encoding="utf-8", errors=UNPAIRED
    )


def show(results: list[Result], comparisons: list[dict[str, Any]]) -> None:
    """Scores, differences in each task's main score, and a few answers."""
    console = make_console()
    console.print(score_table(results))
    main_metric = {result.task: next(iter(result.metrics["scores"])) for result in results}
    for row in comparisons:
        if row["metric"] == main_metric[row["task"]]:
            say(comparison_text(row))
    first_systems = {result.task: result for result in reversed(results)}
    for result in reversed(first_systems.values()):
        say(f"{result.task}, {result.system}:")
        for sample in result.samples[:_SHOWN_SAMPLES]:
            say(f"  {sample_text(sample)}")
