"""Where a run stands, read from its directory alone."""

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from dlm.config.loading import load_recipe
from dlm.config.references import required_stages
from dlm.errors import UserError
from dlm.recipe.console import PLAIN_WIDTH, make_console, stage_table, state_row
from dlm.recipe.fingerprint import StageIdentity, identify
from dlm.recipe.lock import lock_path
from dlm.recipe.manifest import DamagedManifest, read_manifest
from dlm.recipe.plan import resolved_stage, stage_directory
from dlm.recipe.state import inspect_stage, read_progress, started_identity


def status(run_dir: Path) -> list[dict[str, Any]]:
    """State, reason, progress and metrics of each stage, by the recipe last run there.

    The rows of the data are not read again: they are taken to be those that were recorded.
    ``dlm run --dry-run`` looks at them too.

    Raises:
        UserError: the directory is no run directory, or its recipe cannot be read.
    """
    recipe_file = run_dir / "recipe.yaml"
    if not recipe_file.is_file():
        raise UserError(
            f"{run_dir} is no run directory: it has no recipe.yaml. Give a run's directory; "
            "if this was one, `dlm run` its recipe there, which writes the file anew"
        )
    recipe = load_recipe(recipe_file)
    rows = []
    fingerprints: dict[str, str] = {}
    for number, name in enumerate(recipe.stages, start=1):
        config = resolved_stage(recipe, name)
        directory = stage_directory(run_dir, number, name)
        recorded = _recorded(directory)
        keys = {other: fingerprints[other] for other in required_stages(name, config, recipe)}
        if recorded is not None:
            # Nothing is known of an earlier stage whose directory is gone.
            keys = {other: key or recorded.needs.get(other, "") for other, key in keys.items()}
        identity = identify(config, keys, recorded.data if recorded else None)
        fingerprints[name] = identity.fingerprint if recorded else ""
        state = inspect_stage(directory, identity, lock_path(run_dir, name))
        row = state_row(name, config.kind, directory, state)
        if (progress := read_progress(directory)) is not None:
            row["step"], row["steps"] = progress
        rows.append(row)
    return rows


def render_status(run_dir: Path, as_json: bool, queue: Mapping[str, str] | None = None) -> str:
    """The status as a table, or as JSON with a list under ``stages``; ``queue``: the state of a
    stage's job on a cluster."""
    return rendered(status(run_dir), run_dir, as_json, queue)


def rendered(
    rows: list[dict[str, Any]], run_dir: Path, as_json: bool, queue: Mapping[str, str] | None = None
) -> str:
    """A status that was read, as :func:`render_status` shows it."""
    for row in rows if queue else ():
        row["queue"] = (queue or {}).get(row["stage"], "")
    if as_json:
        return json.dumps({"run_dir": str(run_dir), "stages": rows}, indent=2, ensure_ascii=False)
    width = make_console().width if make_console().is_terminal else PLAIN_WIDTH
    console = Console(file=StringIO(), width=width)
    console.print(stage_table(rows))
    for row in rows:
        if row["state"] != "done":
            console.print(f"{row['stage']}: {row['reason']}", markup=False, soft_wrap=True)
            for change in row["changes"]:
                console.print(f"    {change}", markup=False, soft_wrap=True)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().rstrip()


def status_line(rows: list[dict[str, Any]]) -> str:
    """A status in a line: how many stages are done, and how far the first open one is."""
    open_ = [row for row in rows if row["state"] != "done"]
    text = f"{len(rows) - len(open_)} of {len(rows)} stages done"
    if open_:
        first = open_[0]
        at = f" at step {first['step']} of {first['steps']}" if first["step"] is not None else ""
        text += f", {first['stage']} {first['state']}{at}"
    return text


def _recorded(directory: Path) -> StageIdentity | None:
    """The identity of the finished stage in a directory, else of its last attempt."""
    try:
        manifest = read_manifest(directory)
    except DamagedManifest:
        manifest = None
    return manifest.identity if manifest else started_identity(directory)
