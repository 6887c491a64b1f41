"""Run a recipe: plan, then stage by stage lock, carry out, record; and say how it ended."""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dlm.config.loading import resolved_yaml
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.errors import DlmError, Preempted, RunInUse, RunMoved, StageFailed
from dlm.files import write_text
from dlm.process import process_rank
from dlm.recipe import console
from dlm.recipe.endings import failure_recorded, moved, stoppable
from dlm.recipe.lock import STALE_AFTER_S, StageLock, live_holder, lock_path
from dlm.recipe.manifest import build_manifest, verify_needed, write_manifest
from dlm.recipe.origins import unpinned
from dlm.recipe.plan import DataIdentity, PlannedStage, plan
from dlm.recipe.ranks import LEADER_ALONE, check_ranks, launcher
from dlm.recipe.ranks_watch import (
    LEADER_VARIABLE,
    LaunchedRanks,
    LeaderGone,
    RankLost,
    leader_watched,
)
from dlm.recipe.refusal import refusal
from dlm.recipe.selection import stage_name
from dlm.recipe.stage_time import StageTime
from dlm.recipe.state import inspect_stage, set_aside, write_config, write_started
from dlm.training.job import StageJob

Execute = Callable[[StageJob], Mapping[str, Any]]
FOLLOW_POLL_S = 1.0


@dataclass
class RecipeRun:
    """One call of ``dlm run`` that carries out a plan."""

    recipe: RecipeConfig
    run_dir: Path
    command: str
    execute: Execute
    planned: list[PlannedStage] = field(default_factory=list)
    begun_anew: list[str] = field(default_factory=list)
    """Stages whose --force was carried out."""
    verified: set[str] = field(default_factory=set)
    """Stages whose exports were read whole and compared."""

    def carry_out(self) -> None:
        """Every stage of the plan in order; nothing is begun if one of them is refused."""
        if (refused := refusal(self.planned)) is not None:
            raise refused
        write_text(self.run_dir / "recipe.yaml", resolved_yaml(self.recipe))
        os.environ[LEADER_VARIABLE] = str(os.getpid())
        try:
            self._set_aside()
            for number, stage in enumerate(self.planned, start=1):
                label = f"[{number}/{len(self.planned)}] {stage.job.name}:"
                if stage.action == "skip":
                    console.say(f"{label} skipped, {stage.reason}")
                elif stage.action != "not selected":
                    self._carry_out_stage(stage, label)
        finally:
            os.environ.pop(LEADER_VARIABLE, None)
            console.make_console().print(console.stage_table(self._rows()))
            console.say(f"run: {self.run_dir}")

    def begun(self, force: Collection[str]) -> list[str]:
        """What --force was given, as written, and is carried out."""
        done = self.begun_anew
        return [word for word in force if done and stage_name(self.recipe, "", word) in done]

    def _set_aside(self) -> None:
        """All at once: a stop between two stages leaves no old result behind a new one."""
        for stage in (stage for stage in self.planned if stage.set_aside):
            with StageLock(lock_path(self.run_dir, stage.job.name), console.say):
                place = set_aside(stage.job.directory)
            console.say(f"{stage.job.name}: what was there is now in {place}")
            if stage.forced:
                self.begun_anew.append(stage.job.name)

    def _carry_out_stage(self, stage: PlannedStage, label: str) -> None:
        job = stage.job
        if not self.run_dir.is_dir():
            raise moved(job)
        with StageLock(lock_path(self.run_dir, job.name), console.say) as lock:
            state = inspect_stage(job.directory, stage.identity, lock=None)
            if state.name == "done":
                console.say(f"{label} skipped, another process has just finished it")
                return
            if state.name == "stale":
                raise RunInUse(f"stage {job.name} was changed by another process: run again")
            console.say(f"{label} {stage.action} in {job.directory}")
            begin = time.monotonic()
            with failure_recorded(job, label), stoppable(job.name):
                metrics = self._work(stage, lock)
            seconds = console.duration(time.monotonic() - begin)
            shown = console.metrics_text(metrics)
            console.say(f"{label} done in {seconds}{', ' if shown else ''}{shown}")

    def _work(self, stage: PlannedStage, lock: StageLock) -> Mapping[str, Any]:
        job = stage.job
        verify_needed(job, self.verified)
        write_config(job)
        attempt = write_started(job, stage.identity, self.command)
        if stage.forced:
            self.begun_anew.append(job.name)
        started = datetime.now(UTC)
        with StageTime(job.directory, attempt=attempt) as spent:
            metrics = self.execute(job)
            manifest = build_manifest(
                job,
                stage.identity,
                metrics,
                started=started,
                seconds=spent.seconds,
                attempts=attempt,
                command=self.command,
            )
        lock.confirm()
        write_manifest(job.directory, manifest)
        return metrics

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for job, identity in ((stage.job, stage.identity) for stage in self.planned):
            state = inspect_stage(job.directory, identity, lock_path(self.run_dir, job.name))
            rows.append(console.state_row(job.name, job.config.kind, job.directory, state))
        return rows


def run_recipe(
    recipe: RecipeConfig,
    run_dir: Path,
    *,
    start: str | None = None,
    stop: str | None = None,
    only: str | None = None,
    force: Collection[str] = (),
    dry_run: bool = False,
    command: str | Sequence[str],
    execute: Execute | None = None,
    data_identity: DataIdentity | None = None,
) -> int:
    """Bring the selected stages to done; gives the exit code and explains every other end.

    ``command`` is what the user called; the last line on stderr repeats it unless all went well.
    ``execute`` (called on every rank) and ``data_identity`` default to :mod:`dlm.recipe.kinds`.
    """
    words = console.words_of(command)

    def farewell(error: BaseException) -> None:
        console.explain(error)
        if isinstance(error, RunMoved):
            return  # the same command would begin anew, in the old place
        code = error.exit_code if isinstance(error, DlmError) else 1
        console.say(console.last_line(code, words, run.begun(force)), stderr=True)

    ranks = LaunchedRanks(farewell)
    run = RecipeRun(recipe, run_dir, " ".join(words), execute or partial(_execute_kind, ranks))
    rank = process_rank()
    # A rank that rank 0 started finds what --force asked for already done.
    forced = () if rank and LEADER_VARIABLE in os.environ else force
    try:
        run.planned = plan(
            recipe,
            run_dir,
            start=start,
            stop=stop,
            only=only,
            force=forced,
            data_identity=data_identity or _data_identity_of_kind,
            follow=rank > 0,
        )
        working = [s.job for s in run.planned if s.action in ("run", "resume")]
        if launcher() is not None or any(job.config.hardware.devices for job in working):
            check_ranks((job.name, job.config.kind, job.config.hardware) for job in working)
        if rank:
            with leader_watched(farewell if rank == 1 else lambda error: None):
                follow(run, rank)
            return 0
        console.say(console.plan_text(recipe.name, run_dir, run.planned))
        if (note := unpinned([job.config for job in working], recipe.stages)) is not None:
            console.say(note)
        if not dry_run:
            run.carry_out()
        return 0
    except BaseException as error:
        if not rank or (rank == 1 and isinstance(error, LeaderGone)):
            farewell(error)
        elif isinstance(error, RankLost):
            console.say(f"rank {rank}: {error}", stderr=True)
        elif isinstance(error, Preempted) and LEADER_VARIABLE in os.environ:
            # Lightning kills rank 0, which still has to say so, when a rank that it started fails.
            return 0
        return console.exit_code(error)


def follow(run: RecipeRun, rank: int) -> None:
    """Take part as a further rank: rank 0 locks, speaks and records, this one only works."""
    if (refused := refusal(run.planned)) is not None:
        raise refused
    for stage in run.planned:
        if stage.action in ("skip", "not selected"):
            continue
        with stoppable(stage.job.name):
            _follow_stage(run, stage, rank)
            _await_manifest(stage, lock_path(run.run_dir, stage.job.name))


def _follow_stage(run: RecipeRun, stage: PlannedStage, rank: int) -> None:
    if stage.job.config.kind in LEADER_ALONE:
        return
    try:
        run.execute(stage.job)
    except (Preempted, RankLost):
        raise
    except DlmError as error:  # rank 0 may not share it
        console.write_traceback(stage.job.directory, error, f"-rank{rank}")
        raise
    except Exception as error:
        place = console.write_traceback(stage.job.directory, error, f"-rank{rank}")
        console.say(f"rank {rank} of stage {stage.job.name}: see {place}", stderr=True)
        raise


def _await_manifest(stage: PlannedStage, lock: Path) -> None:
    """Wait while rank 0 lives and until its manifest is there."""
    last_sign = time.monotonic()
    while inspect_stage(stage.job.directory, stage.identity, lock=None).name != "done":
        if live_holder(lock) is not None:
            last_sign = time.monotonic()
        elif time.monotonic() - last_sign > STALE_AFTER_S:
            raise StageFailed(f"rank 0 ended without finishing stage {stage.job.name}")
        time.sleep(FOLLOW_POLL_S)


def _execute_kind(ranks: LaunchedRanks, job: StageJob) -> Mapping[str, Any]:
    from dlm.recipe.kinds import execute

    if job.config.kind in LEADER_ALONE:
        return execute(job)
    with ranks.watched(job):
        return execute(job)


def _data_identity_of_kind(stage: StageConfig) -> object:
    from dlm.recipe.kinds import data_identity

    return data_identity(stage)
