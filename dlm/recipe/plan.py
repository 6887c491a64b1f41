"""What a run would do with each stage, and why; nothing on the disk is changed here."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dlm.config.references import required_stages
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.errors import UserError
from dlm.recipe.fingerprint import LOCAL_FILES, ROWS, StageIdentity, identify
from dlm.recipe.lock import lock_path
from dlm.recipe.manifest import EXPORT, DamagedManifest, read_manifest
from dlm.recipe.origins import directory_contents
from dlm.recipe.selection import select_stages
from dlm.recipe.state import StageState, checkpoint_names, inspect_stage
from dlm.training.job import StageJob

Action = Literal["run", "resume", "skip", "refuse", "not selected", "blocked"]
DataIdentity = Callable[[StageConfig], object]


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan."""

    job: StageJob
    identity: StageIdentity
    state: StageState
    action: Action
    reason: str
    selected: bool = True
    forced: bool = False
    set_aside: bool = False
    """What lies in the directory is moved aside when the stage starts."""
    in_the_way: str = ""
    """refuse and blocked: the name of the stage to deal with."""
    replaced: str = ""
    """refuse: what is there was made from the result of this stage, which would be replaced."""


def plan(
    recipe: RecipeConfig,
    run_dir: Path,
    *,
    start: str | None = None,
    stop: str | None = None,
    only: str | None = None,
    force: Collection[str] = (),
    data_identity: DataIdentity,
    follow: bool = False,
) -> list[PlannedStage]:
    """What ``dlm run`` would do with every stage of the recipe, in order.

    Stages are named as :func:`dlm.recipe.selection.stage_name` reads them.

    ``follow``: this process is a further rank of a running job, so a running stage is its own.

    Raises:
        UserError: an unknown stage, a selection that contradicts itself, or unreadable data.
    """
    selected, forced = select_stages(recipe, start=start, stop=stop, only=only, force=force)
    planned: dict[str, PlannedStage] = {}
    for number, name in enumerate(recipe.stages, start=1):
        config = resolved_stage(recipe, name)
        directory = stage_directory(run_dir, number, name)
        needs = {other: planned[other] for other in required_stages(name, config, recipe)}
        keys = {other: needed.identity.fingerprint for other, needed in needs.items()}
        data = _data_of(config, directory, data_identity, recipe.stages, strict=name in selected)
        identity = identify(config, keys, data)
        exports = {other: needed.job.directory / EXPORT for other, needed in needs.items()}
        job = StageJob(
            recipe.name, name, config, config.seed or 0, identity.fingerprint, directory, exports,
            evaluation_sets(recipe),
        )  # fmt: skip
        lock = None if follow else lock_path(run_dir, name)
        state = inspect_stage(directory, identity, lock)
        stage = PlannedStage(
            job, identity, state, "run", state.reason, name in selected, name in forced
        )
        planned[name] = _decide(stage, needs) if stage.selected else _left_out(stage)
    return list(planned.values()) if follow else _without_mixtures(planned)


def evaluation_sets(recipe: RecipeConfig) -> tuple[tuple[str, str | None], ...]:
    """The tasks that the recipe is evaluated on, each with its ``data.root``."""
    stages = [stage for stage in recipe.stages.values() if stage.kind == "evaluate"]
    pairs = [(task, stage.data.root) for stage in stages for task in stage.evaluation.tasks]
    return tuple(dict.fromkeys(pairs))


def resolved_stage(recipe: RecipeConfig, name: str) -> StageConfig:
    """The stage with its seed filled in."""
    stage = recipe.stages[name]
    return stage if stage.seed is not None else replace(stage, seed=recipe.seed)


def stage_directory(run_dir: Path, number: int, name: str) -> Path:
    """RUN/NN_name. An existing directory of the stage is kept, whatever its number."""
    pattern = re.compile(rf"\d+_{re.escape(name)}")
    entries = sorted(run_dir.iterdir()) if run_dir.is_dir() else []
    found = [path for path in entries if pattern.fullmatch(path.name) and path.is_dir()]
    if len(found) > 1:
        listed = " and ".join(str(path) for path in found)
        raise UserError(f"stage {name} has two directories, {listed}: move one away")
    return found[0] if found else run_dir / f"{number:02d}_{name}"


def _decide(stage: PlannedStage, needs: Mapping[str, PlannedStage]) -> PlannedStage:
    state, name = stage.state, stage.job.name
    if state.name == "running":
        return replace(stage, action="refuse", reason=state.reason, in_the_way=name)
    if state.name == "done" and not stage.forced:
        return replace(stage, action="skip")
    for other, needed in needs.items():
        if needed.action in ("refuse", "blocked"):
            return replace(stage, action="blocked", reason=f"waits for {other}", in_the_way=other)
        if needed.action == "not selected" and needed.state.name != "done":
            reason = f"needs {other}, which is {needed.state.name} ({needed.state.reason})"
            return replace(stage, action="refuse", reason=reason, in_the_way=other)
    if state.name == "stale" and not stage.forced:
        return replace(stage, action="refuse", in_the_way=name)
    return _start(stage)


def _start(stage: PlannedStage) -> PlannedStage:
    """Run or resume. --force begins anew what is done or stale, and goes on with what is begun.

    Otherwise a forced stage that was preempted would never end: each requeue would drop its
    checkpoints.
    """
    if stage.forced and stage.state.name in ("done", "stale"):
        reason = f"--force; {stage.state.reason}; moved aside at the start"
        return replace(stage, action="run", reason=reason, set_aside=True)
    if stage.state.set_aside:
        reason = f"{stage.state.reason}; moved aside at the start"
        return replace(stage, action="run", reason=reason, set_aside=True)
    if checkpoint_names(stage.job.directory):
        kept = f"; to begin anew, move {stage.job.directory} away" if stage.forced else ""
        return replace(stage, action="resume", reason=stage.state.reason + kept)
    return replace(stage, action="run")


def _without_mixtures(planned: Mapping[str, PlannedStage]) -> list[PlannedStage]:
    """Refuse to keep what was made from a result that this run replaces.

    A key says what a stage was asked to do, not from which attempt's weights it went on: the new
    result of an earlier stage would pass for the one that was used.
    """
    checked: list[PlannedStage] = []
    redone: set[str] = set()
    for name, stage in planned.items():
        origins = [other for other in stage.job.exports if other in redone]
        keeps_work = stage.state.name not in ("stale", "running") and _has_work(stage)
        if origins and keeps_work and stage.forced:
            reason = f"--force; {origins[0]} is made anew; moved aside at the start"
            stage = replace(stage, action="run", reason=reason, set_aside=True)
        elif origins and keeps_work:
            done = f"{stage.state.name}, but made from the result of {origins[0]}"
            reason = f"{done}, which this run would make anew"
            stage = replace(stage, action="refuse", reason=reason, replaced=origins[0])
        if origins or stage.action == "run":
            redone.add(name)
        checked.append(stage)
    return checked


def _has_work(stage: PlannedStage) -> bool:
    directory = stage.job.directory
    begun = bool(checkpoint_names(directory)) or (directory / ".partial-export").is_dir()
    return stage.state.name == "done" or begun


def _left_out(stage: PlannedStage) -> PlannedStage:
    reason = f"{stage.state.name}: {stage.state.reason}"
    return replace(stage, action="not selected", reason=reason)


def _data_of(
    config: StageConfig,
    directory: Path,
    data_identity: DataIdentity,
    stages: Collection[str],
    *,
    strict: bool,
) -> Any:
    """What was read. A stage that does not run may have lost its files: its record stands."""
    try:
        files = directory_contents(config, stages)
        rows = data_identity(config)
        return {ROWS: rows, LOCAL_FILES: files} if files else rows
    except (UserError, OSError):
        try:
            manifest = None if strict else read_manifest(directory)
        except DamagedManifest:
            manifest = None
        if manifest is None:
            raise
        return manifest.identity.data
