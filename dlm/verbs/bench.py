"""dlm bench: what a training step of a stage spends its time on."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from dlm.errors import UserError
from dlm.verbs.data import make_first, training_jobs
from dlm.verbs.run import checked_one

if TYPE_CHECKING:
    from dlm.training.bench import StepCosts
    from dlm.training.job import StageJob


def bench(options: argparse.Namespace) -> int:
    """Measure one stage and print its costs.

    Raises:
        UserError: An option or the recipe does not fit, or an earlier stage is not done.
    """
    from dlm.recipe.kinds import data_identity
    from dlm.recipe.manifest import verify_needed
    from dlm.recipe.plan import plan
    from dlm.training.bench import bench_stage

    recipe, run_dir = checked_one(options)
    planned = {s.job.name: s for s in plan(recipe, run_dir, data_identity=data_identity)}
    lacking = "there is no step to measure"
    job = training_jobs(recipe, planned, options.stage, lacking)[0]
    unfinished = [planned[name] for name in job.exports if planned[name].state.name != "done"]
    if unfinished:
        raise UserError(make_first(options, job, unfinished[-1], run_dir, "its model or tokenizer"))
    verify_needed(job, set())
    # What is said while rows are tokenized must not get into the JSON.
    with redirect_stdout(sys.stderr):
        costs = bench_stage(job, steps=options.steps, warmup=options.warmup)
    if costs is None:
        return 0
    if options.json:
        print(json.dumps(_as_json(recipe.name, job, costs, options), indent=2))
    else:
        _print(recipe.name, job, costs, options)
    return 0


def _as_json(
    recipe: str, job: "StageJob", costs: "StepCosts", options: argparse.Namespace
) -> dict[str, Any]:
    whole = costs.seconds_per_step
    return {
        "recipe": recipe,
        "stage": job.name,
        "kind": job.config.kind,
        "device": costs.device,
        "shape": costs.shape,
        "precision": job.config.train.precision,
        "warmup": options.warmup,
        "steps": options.steps,
        "seconds_per_step": round(whole, 6),
        "parts": {
            name: {"seconds": round(seconds, 6), "share": round(seconds / whole, 4)}
            for name, seconds in costs.seconds.items()
        },
        **costs.figures.as_metrics(),
        "peak_tflops": costs.peak_tflops,
        "recompilations": costs.recompilations,
        "notes": list(costs.notes),
    }


def _print(recipe: str, job: "StageJob", costs: "StepCosts", options: argparse.Namespace) -> None:
    from rich.table import Table

    from dlm.callbacks.throughput import GIB, mfu_text
    from dlm.recipe.console import make_console, say

    figures, whole = costs.figures, costs.seconds_per_step
    say(
        f"{recipe}, stage {job.name} ({job.config.kind}): mean of {options.steps} steps after "
        f"{options.warmup}, {costs.shape}, {costs.device}, {job.config.train.precision}"
    )
    table = Table("part", "seconds a step", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, seconds in costs.seconds.items():
        table.add_row(name, f"{seconds:.4f}", f"{seconds / whole:.1%}")
    table.add_row("whole step", f"{whole:.4f}", f"{1:.1%}")
    make_console().print(table)
    say(
        f"{figures.tokens_per_s:,.0f} tokens/s{mfu_text(figures, costs.peak_tflops)}, padding "
        f"{figures.padding_share:.1%}, peak memory {figures.memory / GIB:.2f} GiB"
    )
    if costs.recompilations is not None:
        say(f"torch.compile: {costs.recompilations} graphs compiled after the warm-up")
    for note in costs.notes:
        say(note)
