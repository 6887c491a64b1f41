"""Why a plan cannot be carried out, and the ways on."""

from collections.abc import Sequence

from dlm.errors import DlmError, RunInUse, UserError
from dlm.recipe.manifest import EXPORT
from dlm.recipe.plan import PlannedStage

SHOWN_CHANGES = 12


def refusal(planned: Sequence[PlannedStage]) -> DlmError | None:
    """The error of a plan that cannot be carried out as a whole: nothing of it is begun."""
    if not (refused := [stage for stage in planned if stage.action == "refuse"]):
        return None
    text = "\n".join(_refusal_text(stage, planned) for stage in refused)
    if any(stage.replaced for stage in refused):
        text += _ways_to_redo(planned)
    if any(stage.state.name == "stale" and stage.in_the_way == stage.job.name for stage in refused):
        text += _ways_on(planned)
    in_use = all(stage.state.name == "running" for stage in refused)
    return RunInUse(text) if in_use else UserError(text)


def change_lines(stage: PlannedStage) -> list[str]:
    """What differs, key by key, for a stage that is stale."""
    lines = [str(change) for change in stage.state.changes]
    more = [f"... and {len(lines) - SHOWN_CHANGES} more"] if len(lines) > SHOWN_CHANGES else []
    return lines[:SHOWN_CHANGES] + more


def _refusal_text(stage: PlannedStage, planned: Sequence[PlannedStage]) -> str:
    name, other = stage.job.name, stage.in_the_way
    if stage.state.name == "running":
        holder = stage.reason.removesuffix(" works on it")
        return f"stage {name} is in use by {holder}: wait until it ends, or stop it there"
    if stage.replaced:
        return f"stage {name} would be mixed: {stage.reason}"
    culprit = next(item for item in planned if item.job.name == other)
    changes = "".join(f"\n    {line}" for line in change_lines(culprit))
    if other != name:
        return f"stage {name} {stage.reason}{changes}\n  run that first: --only {other}, or --from"
    return f"stage {name} is stale: {stage.reason} in {stage.job.directory}{changes}"


def _ways_to_redo(planned: Sequence[PlannedStage]) -> str:
    """The choices when earlier stages would be made anew under later ones that exist."""
    mixed = [item for item in planned if item.replaced]
    origins: set[str] = set()
    for item in reversed(planned):
        if item.replaced or item.job.name in origins:
            origins |= set(item.job.exports)
    redone = [item for item in planned if item.action == "run" and item.job.name in origins]
    forced = " ".join(f"--force {item.job.name}" for item in redone if item.forced)
    more = " ".join(f"--force {item.job.name}" for item in mixed)
    within = "" if all(item.selected for item in mixed) else ", and --only, --from or --to wider"
    return "\n".join(
        [
            "\nnothing was touched; ways on:",
            f"    add {more}{within}: run again too (what is there is moved aside, not deleted)",
            *([f"    leave out {forced}: what is there stays"] if forced else []),
            *(
                f"    put {item.job.directory / EXPORT} back as it was: what is there stays"
                for item in redone
                if not item.forced
            ),
        ]
    )


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
