"""dlm submit, dlm cancel; the state of the queue for dlm status."""

import argparse
import re
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
    seed_directory,
)
from dlm.cluster.queue import cancel_jobs, refuse_active
from dlm.cluster.record import read_record
from dlm.cluster.settings import ClusterConfig, load_cluster
from dlm.cluster.submit import dry_run_text
from dlm.cluster.submit import submit as queue_jobs
from dlm.config.loading import load_recipe, resolved_yaml
from dlm.errors import UserError
from dlm.recipe.console import say
from dlm.recipe.manifest import write_text

if TYPE_CHECKING:
    from dlm.recipe.plan import PlannedStage


def submit(options: argparse.Namespace) -> int:
    """Queue the stages that are not done; everything about them is checked before."""
    from dlm.verbs.run import checked

    cluster = load_cluster(options.cluster)
    recipe, run_dir = checked(options)
    run_dir = run_dir.absolute()
    seeds = _seeds(options.seeds)
    check_stage_names(recipe, cluster)
    if (record := read_record(run_dir)) is not None and not options.dry_run:
        refuse_active(record, run_dir)
    if seeds:
        of_seeds = {
            seed: _jobs(options, cluster, seed_directory(run_dir, seed), _with_seed(options, seed))
            for seed in seeds
        }
        jobs = merged_jobs(of_seeds)
    else:
        jobs = tuple(_jobs(options, cluster, run_dir, options.overrides))
    if not jobs:
        say(f"nothing to submit: every selected stage is done in {run_dir}")
        return 0
    submission = Submission(recipe.name, run_dir, Path.cwd(), cluster, jobs, seeds)
    if options.dry_run:
        print(dry_run_text(submission, resolved_yaml(recipe)))
        return 0
    for seed in seeds or (None,):
        place = run_dir if seed is None else seed_directory(run_dir, seed)
        own = recipe if seed is None else load_recipe(options.recipe, _with_seed(options, seed))
        write_text(place / "recipe.yaml", resolved_yaml(own))
    record = queue_jobs(submission, resolved_yaml(recipe))
    for job in record.jobs:
        say(f"queued {job.stage}: job {job.job} ({run_dir / job.file})")
    say(f"look: dlm status {run_dir}\nstop: dlm cancel {run_dir}")
    return 0


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
    options: argparse.Namespace, cluster: ClusterConfig, run_dir: Path, words: Sequence[str]
) -> list[ClusterJob]:
    """The jobs of one run directory, planned as ``dlm run`` would."""
    from dlm.recipe.kinds import data_identity
    from dlm.recipe.plan import plan
    from dlm.recipe.refusal import refusal

    recipe = load_recipe(options.recipe, words)
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
    _check_shapes(options, words, jobs)
    queued = {job.stage for job in jobs}
    _say_done(planned)
    return [replace(job, needs=tuple(n for n in job.needs if n in queued)) for job in jobs]


def _check_shapes(
    options: argparse.Namespace, words: Sequence[str], jobs: Sequence[ClusterJob]
) -> None:
    """Refuse a shape that a stage's batch cannot be divided among, before hours in a queue."""
    shapes = [override for job in jobs for override in job.overrides]
    try:
        load_recipe(options.recipe, [*words, *shapes])
    except UserError as error:
        raise UserError(
            f"{error}\nThe cluster file {options.cluster} sets hardware.num_nodes and "
            "hardware.devices: change its nodes or processes, for one stage under `stages:`, or "
            "the recipe's batch size"
        ) from error


def _say_done(planned: "Sequence[PlannedStage]") -> None:
    done = [stage.job.name for stage in planned if stage.action == "skip"]
    if done:
        say(f"done already, not submitted: {', '.join(done)}", stderr=True)


def _with_seed(options: argparse.Namespace, seed: int) -> list[str]:
    return [*options.overrides, f"seed={seed}"]


def _seeds(given: str | None) -> tuple[int, ...]:
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
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise UserError(f"--seeds {given}: names a seed twice, or none")
    return tuple(seeds)
