"""dlm submit, dlm cancel; the state of the queue for dlm status."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.cluster.jobs import (
    ClusterJob,
    Submission,
    check_stage_names,
    cluster_job,
    merged_jobs,
)
from dlm.cluster.queue import cancel_jobs, refuse_active
from dlm.cluster.record import read_record
from dlm.cluster.settings import ClusterConfig, load_cluster
from dlm.cluster.submit import dry_run_text
from dlm.cluster.submit import submit as queue_jobs
from dlm.config.loading import load_recipe, resolved_yaml
from dlm.config.schema import RecipeConfig
from dlm.config.sweep import Cell
from dlm.errors import UserError
from dlm.files import write_text
from dlm.names import LINE
from dlm.recipe.console import say
from dlm.verbs.run import checked

if TYPE_CHECKING:
    from dlm.recipe.plan import PlannedStage


def submit(options: argparse.Namespace) -> int:
    """Queue the stages that are not done; everything about them is checked before."""
    from dlm.recipe.sweep import write_sweep

    cluster = load_cluster(options.cluster)
    found = checked(options)
    cluster = _throttled(cluster, options.max_array_tasks, sweep=bool(found.cells))
    run_dir = found.run_dir.absolute()
    _check_places(run_dir, cluster)
    runs: list[tuple[Cell | None, RecipeConfig]] = [*found.cells] or [(None, found.recipe)]
    for _, recipe in runs:
        check_stage_names(recipe, cluster)
    if (record := read_record(run_dir)) is not None and not options.dry_run:
        refuse_active(record, run_dir)
    of_cells = {
        _name(cell): _jobs(options, cluster, run_dir / _name(cell), cell, recipe)
        for cell, recipe in runs
    }
    jobs = merged_jobs(of_cells) if found.cells else tuple(of_cells[""])
    if not jobs:
        say(f"nothing to submit: every selected stage is done in {run_dir}")
        return 0
    cells = [cell for cell, _ in found.cells]
    names = tuple(cell.name for cell in cells)
    submission = Submission(found.recipe.name, run_dir, Path.cwd(), cluster, jobs, names)
    texts = {_name(cell): resolved_yaml(recipe) for cell, recipe in runs}
    if options.dry_run:
        print(dry_run_text(submission, texts))
        return 0
    if cells:
        write_sweep(run_dir, found.recipe, cells)
    for name, text in texts.items():
        write_text(run_dir / name / "recipe.yaml", text)
    record = queue_jobs(submission, texts)
    for job in record.jobs:
        say(f"queued {job.stage}: job {job.job} ({run_dir / job.file})")
    say(f"look: dlm status {run_dir}\nstop: dlm cancel {run_dir}")
    return 0


def _throttled(cluster: ClusterConfig, at_once: int | None, *, sweep: bool) -> ClusterConfig:
    """The cluster file with ``--max-array-tasks``, which wins in every stage.

    Raises:
        UserError: There are no arrays.
    """
    if at_once is None:
        return cluster
    if cluster.scheduler != "slurm":
        raise UserError(
            f"--max-array-tasks would be ignored: {cluster.scheduler} has no job arrays; remove it"
        )
    if not sweep:
        raise UserError(
            "--max-array-tasks would be ignored: one run is no array; remove it, or give a sweep "
            "or --seeds"
        )
    stages = {n: replace(own, max_array_tasks=at_once) for n, own in cluster.stages.items()}
    return replace(cluster, max_array_tasks=at_once, stages=stages)


def cancel(options: argparse.Namespace) -> int:
    """Take every job of a run out of the queue; what it saved is kept."""
    run_dir = Path(options.run_dir)
    record = read_record(run_dir)
    if record is None:
        raise UserError(
            f"{run_dir} was never submitted: it has no jobs.json. A run that was started with "
            "dlm run is stopped where it runs (Ctrl-C)"
        )
    cancelled = cancel_jobs(record)
    for job in cancelled:
        say(f"cancelled {job.stage}: job {job.job}")
    if not cancelled:
        say(f"no job of {run_dir} is queued or running")
    return 0


def _jobs(
    options: argparse.Namespace,
    cluster: ClusterConfig,
    run_dir: Path,
    cell: Cell | None,
    recipe: RecipeConfig,
) -> list[ClusterJob]:
    """The jobs of one run directory, planned as ``dlm run`` would."""
    from dlm.recipe.kinds import data_identity
    from dlm.recipe.plan import plan
    from dlm.recipe.refusal import refusal

    planned = plan(
        recipe, run_dir, start=options.start, stop=options.stop, only=options.only,
        data_identity=data_identity,
    )  # fmt: skip
    if (refused := refusal(planned)) is not None:
        raise type(refused)(
            f"{refused}\n(--force belongs to dlm run; dlm submit begins nothing anew)"
        )
    working = [stage for stage in planned if stage.action in ("run", "resume")]
    jobs = [cluster_job(stage, cluster) for stage in working]
    _check_shapes(options, cell, jobs)
    queued = {job.stage for job in jobs}
    _say_done(planned)
    return [replace(job, needs=tuple(n for n in job.needs if n in queued)) for job in jobs]


def _check_shapes(
    options: argparse.Namespace, cell: Cell | None, jobs: Sequence[ClusterJob]
) -> None:
    """Refuse a shape that a stage's batch cannot be divided among, before hours in a queue."""
    shapes = [override for job in jobs for override in job.overrides]
    try:
        load_recipe(options.recipe, [*options.overrides, *shapes], cell)
    except UserError as error:
        raise UserError(
            f"{error}\nThe cluster file {options.cluster} sets hardware.num_nodes and "
            "hardware.devices: change its nodes or processes, for one stage under `stages:`, or "
            "the recipe's batch size"
        ) from error


def _check_places(run_dir: Path, cluster: ClusterConfig) -> None:
    """Refuse folders that the lines of a script cannot hold."""
    for what, place in (("the run directory", run_dir), ("the folder of the call", Path.cwd())):
        if reason := LINE.problem(str(place)):
            raise UserError(f"{what}, {str(place)!r}: {reason}")
    if cluster.scheduler == "slurm" and "\\" in str(run_dir):
        raise UserError(
            f"{run_dir}: sbatch writes no log into a folder with a backslash in its name; give "
            "--run-dir another one"
        )


def _name(cell: Cell | None) -> str:
    """What a cell is called; an ordinary run has no name below its directory."""
    return cell.name if cell else ""


def _say_done(planned: "Sequence[PlannedStage]") -> None:
    done = [stage.job.name for stage in planned if stage.action == "skip"]
    if done:
        say(f"done already, not submitted: {', '.join(done)}", stderr=True)
