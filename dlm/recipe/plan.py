"""What a run would do with each stage, and why; nothing on the disk is changed here."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dlm.config.job import StageJob
from dlm.config.references import required_stages
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.config.shipped import did_you_mean
from dlm.errors import DlmError, RunInUse, UserError
from dlm.recipe.fingerprint import StageIdentity, identify
from dlm.recipe.lock import lock_path
from dlm.recipe.manifest import EXPORT, DamagedManifest, read_manifest
from dlm.recipe.state import StageState, checkpoint_names, inspect_stage

Action = Literal["run", "resume", "skip", "refuse", "not selected", "blocked"]
DataIdentity = Callable[[StageConfig], object]
SHOWN_CHANGES = 12


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan."""

    job: StageJob
    identity: StageIdentity
    state: StageState
    action: Action
    reason: str
    forced: bool = False
    set_aside: bool = False
    """What lies in the directory is moved aside when the stage starts."""
    in_the_way: str = ""
    """refuse and blocked: the name of the stage to deal with."""


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

    ``follow``: this process is a further rank of a running job, so a running stage is its own.

    Raises:
        UserError: an unknown stage, a selection that contradicts itself, or unreadable data.
    """
    selected = select_stages(recipe, start=start, stop=stop, only=only, force=force)
    planned: dict[str, PlannedStage] = {}
    for number, name in enumerate(recipe.stages, start=1):
        config = resolved_stage(recipe, name)
        directory = stage_directory(run_dir, number, name)
        needs = {other: planned[other] for other in required_stages(name, config, recipe)}
        keys = {other: needed.identity.fingerprint for other, needed in needs.items()}
        data = _data_of(config, directory, data_identity, strict=name in selected)
        identity = identify(config, keys, data)
        exports = {other: needed.job.directory / EXPORT for other, needed in needs.items()}
        job = StageJob(
            recipe.name, name, config, config.seed or 0, identity.fingerprint, directory, exports
        )
        lock = None if follow else lock_path(run_dir, name)
        state = inspect_stage(directory, identity, lock)
        stage = PlannedStage(job, identity, state, "run", state.reason, forced=name in force)
        planned[name] = _decide(stage, needs) if name in selected else _left_out(stage)
    return list(planned.values())


def select_stages(
    recipe: RecipeConfig,
    *,
    start: str | None,
    stop: str | None,
    only: str | None,
    force: Collection[str],
) -> list[str]:
    """The names of the stages between ``start`` and ``stop``, or ``only``."""
    names = list(recipe.stages)
    given: dict[str, list[str | None]] = {
        "--from": [start],
        "--to": [stop],
        "--only": [only],
        "--force": [*force],
    }
    for option, values in given.items():
        for value in values:
            if value is not None and value not in names:
                hint = did_you_mean(value, names) or f"; its stages: {', '.join(names)}"
                raise UserError(f"{option} {value}: recipe {recipe.name} has no such stage{hint}")
    if only is not None and (start is not None or stop is not None):
        raise UserError("--only cannot be combined with --from or --to: give one of them")
    if not names:
        raise UserError(f"recipe {recipe.name} has no stages: add one under `stages:`")
    first = names.index(only or start or names[0])
    last = names.index(only or stop or names[-1])
    if first > last:
        raise UserError(f"--from {start} comes after --to {stop}: exchange them")
    selected = names[first : last + 1]
    for name in force:
        if name not in selected:
            raise UserError(
                f"--force {name}: the stage is not among those that run ({', '.join(selected)}): "
                "leave --force out, or change --only, --from or --to"
            )
    return selected


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


def refusal(planned: Sequence[PlannedStage]) -> DlmError | None:
    """The error of a plan that cannot be carried out as a whole: nothing of it is begun."""
    if not (refused := [stage for stage in planned if stage.action == "refuse"]):
        return None
    text = "\n".join(_refusal_text(stage, planned) for stage in refused)
    if any(stage.state.name == "stale" and stage.in_the_way == stage.job.name for stage in refused):
        text += _ways_on(planned)
    in_use = all(stage.state.name == "running" for stage in refused)
    return RunInUse(text) if in_use else UserError(text)


def change_lines(stage: PlannedStage) -> list[str]:
    """What differs, key by key, for a stage that is stale."""
    lines = [str(change) for change in stage.state.changes]
    more = [f"... and {len(lines) - SHOWN_CHANGES} more"] if len(lines) > SHOWN_CHANGES else []
    return lines[:SHOWN_CHANGES] + more


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


def _left_out(stage: PlannedStage) -> PlannedStage:
    reason = f"{stage.state.name}: {stage.state.reason}"
    return replace(stage, action="not selected", reason=reason)


def _data_of(
    config: StageConfig, directory: Path, data_identity: DataIdentity, *, strict: bool
) -> Any:
    """The rows' identity. A stage that does not run may have lost its files: its record stands."""
    try:
        return data_identity(config)
    except (UserError, OSError):
        try:
            manifest = None if strict else read_manifest(directory)
        except DamagedManifest:
            manifest = None
        if manifest is None:
            raise
        return manifest.identity.data


def _refusal_text(stage: PlannedStage, planned: Sequence[PlannedStage]) -> str:
    name, other = stage.job.name, stage.in_the_way
    if stage.state.name == "running":
        holder = stage.reason.removesuffix(" works on it")
        return f"stage {name} is in use by {holder}: wait until it ends, or stop it there"
    culprit = next(item for item in planned if item.job.name == other)
    changes = "".join(f"\n    {line}" for line in change_lines(culprit))
    if other != name:
        return f"stage {name} {stage.reason}{changes}\n  run that first: --only {other}, or --from"
    return f"stage {name} is stale: {stage.reason} in {stage.job.directory}{changes}"


def _ways_on(planned: Sequence[PlannedStage]) -> str:
    """The choices when a result would be lost; what follows is named too, as its input changes."""
    stale = [item for item in planned if item.state.name == "stale" and not item.forced]
    forces = " ".join(f"--force {item.job.name}" for item in stale if item.action != "not selected")
    return (
        "\nnothing was touched; ways on:\n"
        "    --run-dir DIR: keep the result and run the new configuration elsewhere\n"
        f"    {forces}: run again here (what is there is moved aside, not deleted)\n"
        "    restore the old value: what is there counts again"
    )
