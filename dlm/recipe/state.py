"""What state a stage is in, read from the files in its directory, with the reason."""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from dlm.config.schema import SECTIONS_OF_KIND
from dlm.files import aside, make_way, write_json, write_text
from dlm.recipe.fingerprint import Change, StageIdentity, difference, plain
from dlm.recipe.lock import live_holder
from dlm.recipe.manifest import (
    MANIFEST,
    DamagedManifest,
    Manifest,
    missing_exports,
    read_manifest,
)
from dlm.training.job import StageJob

StateName = Literal["missing", "partial", "done", "stale", "running", "failed"]
STARTED = "started.json"
FAILURE = "failure.json"
CHECKPOINTS = "checkpoints"
PROGRESS = "progress.json"
_CHECKPOINT = re.compile(r"step=\d+|(rows|batches)\.jsonl")
"""Of a stage that trains; of one that writes rows."""
_CONFIG_HEAD = ("kind", "description", "seed", "init_from", "tokenizer")
_CONFIG_TAIL = ("checkpoint", "hardware", "logging")


@dataclass(frozen=True)
class StageState:
    """The state of one stage and why."""

    name: StateName
    reason: str
    changes: tuple[Change, ...] = ()
    """stale: what differs, old -> new."""
    manifest: Manifest | None = None
    """done and stale: the manifest found."""
    set_aside: bool = False
    """missing: remains of another configuration, worth nothing, are moved aside first."""


def inspect_stage(directory: Path, expected: StageIdentity, lock: Path | None) -> StageState:
    """The state of a stage directory for the identity the recipe expects.

    Files are looked at by name and size, so this is fast. ``lock`` is None for the lock's holder.
    """
    holder = live_holder(lock) if lock is not None else None
    if holder is not None:
        return StageState("running", f"{holder} works on it")
    try:
        manifest = read_manifest(directory)
    except DamagedManifest as error:
        return _unfinished(directory, expected, note=f"not done, because {error}; ")
    if manifest is None:
        return _unfinished(directory, expected)
    if manifest.identity.fingerprint != expected.fingerprint:
        return _stale(manifest.identity, expected, "finished", manifest)
    problems = missing_exports(directory, manifest)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        return _unfinished(directory, expected, note=f"not done, because {problems[0]}{more}; ")
    return StageState("done", f"finished {manifest.finished}", manifest=manifest)


def checkpoint_names(directory: Path) -> list[str]:
    """The checkpoints in checkpoints/; other files there are nobody's, and in nobody's way."""
    folder = directory / CHECKPOINTS
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if _CHECKPOINT.fullmatch(name)]


def read_started(directory: Path) -> dict[str, Any] | None:
    """started.json, or None where it is missing or damaged."""
    return _read_object(directory / STARTED)


def started_identity(directory: Path) -> StageIdentity | None:
    """What the last attempt in this directory was, or None where nobody can tell."""
    try:
        return StageIdentity.from_json(read_started(directory) or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def set_aside(directory: Path) -> Path:
    """Move a stage's directory to RUN/.trash-<time>/; gives its new place."""
    trash = moment = directory.parent / f".trash-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    count = 1
    while (trash / directory.name).exists():
        count += 1
        trash = moment.with_name(f"{moment.name}-{count}")
    trash.mkdir(exist_ok=True)
    return directory.rename(trash / directory.name)


def write_config(job: StageJob) -> None:
    """config.yaml: what the stage was given, to be read by people."""
    values = plain(job.config, semantic_only=False)
    names = [*_CONFIG_HEAD, *SECTIONS_OF_KIND[job.config.kind], *_CONFIG_TAIL]
    text = yaml.safe_dump({name: values[name] for name in names}, sort_keys=False)
    write_text(job.directory / "config.yaml", text)


def write_started(job: StageJob, identity: StageIdentity, command: str) -> int:
    """Record that an attempt begins; gives its number (1 for the first)."""
    before = read_started(job.directory) or {}
    same = before.get("fingerprint") == identity.fingerprint
    counted = before.get("attempt")
    attempt = (counted if isinstance(counted, int) else 0) + 1 if same else 1
    begun = {"attempt": attempt, "started": _now(), "host": socket.gethostname()}
    place = {"pid": os.getpid(), "command": command}
    names = {"recipe": job.recipe, "stage": job.name}
    write_json(job.directory / STARTED, {**names, **identity.as_json(), **begun, **place})
    _retire(job.directory / MANIFEST)
    make_way(job.directory / FAILURE).unlink(missing_ok=True)
    return attempt


def write_failure(job: StageJob, error: BaseException, traceback: Path | None) -> None:
    """Record a failed attempt and where its traceback lies, if it has one."""
    values = {
        "fingerprint": job.fingerprint,
        "stage": job.name,
        "time": _now(),
        "error": type(error).__name__,
        "message": str(error),
        "traceback": traceback and traceback.relative_to(job.directory).as_posix(),
    }
    write_json(job.directory / FAILURE, values)


def read_progress(directory: Path) -> tuple[int, int] | None:
    """(step, steps) of a stage that trains, as its checkpoints last said."""
    values = _read_object(directory / CHECKPOINTS / PROGRESS) or {}
    try:
        return int(values["step"]), int(values["steps"])
    except (KeyError, TypeError, ValueError):
        return None


def _unfinished(directory: Path, expected: StageIdentity, note: str = "") -> StageState:
    if not directory.is_dir():
        return StageState("missing", "not started")
    checkpoints = checkpoint_names(directory)
    begun = started_identity(directory)
    if checkpoints and begun is None:
        return StageState(
            "stale",
            f"{note}its checkpoints cannot be told to be of this configuration, because "
            f"{directory / STARTED} is missing or damaged",
        )
    differs = begun is not None and begun.fingerprint != expected.fingerprint
    if checkpoints and begun is not None and differs:
        return _stale(begun, expected, "begun", None)
    if differs:
        left = "an attempt with another configuration left no checkpoint"
        return StageState("missing", f"{note}{left}", set_aside=True)
    point = f"checkpoint {checkpoints[-1]}" if len(checkpoints) == 1 else "checkpoints"
    failure = _read_object(directory / FAILURE)
    if failure is not None:
        reason = f"{note}it failed {_failure_text(failure)}; "
        return StageState("failed", reason + (f"has {point}" if checkpoints else "no checkpoint"))
    if checkpoints:
        return StageState("partial", f"{note}has {point}{_progress_text(directory)}")
    return StageState("missing", note + ("an attempt left no checkpoint" if begun else "no work"))


def _stale(
    old: StageIdentity, new: StageIdentity, verb: str, manifest: Manifest | None
) -> StageState:
    changes = tuple(difference(old, new))
    # The same values under another key: the version of the key or of a field's meaning changed.
    reason = f"{verb} with another configuration" if changes else f"{verb} by another version"
    return StageState("stale", reason, changes, manifest)


def _failure_text(failure: Mapping[str, Any]) -> str:
    first_line = str(failure.get("message", "")).partition("\n")[0]
    return f"{failure.get('time')} ({failure.get('error')}: {first_line})"


def _progress_text(directory: Path) -> str:
    progress = read_progress(directory)
    return f", step {progress[0]} of {progress[1]}" if progress else ""


def _retire(manifest: Path) -> None:
    """An invalid manifest must not make the stage done while its export is written anew."""
    invalid = manifest.with_name("manifest.invalid.json")
    if manifest.is_dir():
        aside(manifest)
    elif manifest.exists():
        manifest.replace(make_way(invalid))


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
