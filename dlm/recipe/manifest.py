"""The manifest: written last and atomically, it says that a stage is done and with what."""

import json
import platform
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from dlm.errors import StageFailed, UserError, reason_of
from dlm.files import json_ready, sha256_of, write_json
from dlm.models.sums import SUMS, write_sums
from dlm.recipe.fingerprint import StageIdentity
from dlm.training.job import StageJob

FORMAT = 1
MANIFEST = "manifest.json"
EXPORT = "export"
_PACKAGES = ("dlm", "torch", "lightning", "transformers")


class DamagedManifest(UserError):
    """A manifest that cannot be read: the stage counts as not done."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} {reason}. Put it back as it was written, or `dlm run` the recipe again, which "
            "makes the stage anew, from its last checkpoint if it has one"
        )


@dataclass(frozen=True)
class ExportFile:
    """One file of the export."""

    path: str
    """Relative to the stage's directory, with forward slashes."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished stage says about itself."""

    recipe: str
    stage: str
    identity: StageIdentity
    metrics: dict[str, Any]
    exports: tuple[ExportFile, ...]
    started: str
    """Start of the attempt that finished the stage; ISO 8601, UTC."""
    finished: str
    seconds: float
    """Duration of all attempts together."""
    attempts: int
    """How often the stage was started, this attempt included."""
    provenance: dict[str, Any]
    """Git commit, versions, host and command: told, never compared."""

    def as_json(self) -> dict[str, Any]:
        """As written."""
        values = vars(self) | {"exports": [vars(item) for item in self.exports]}
        identity, provenance = values.pop("identity").as_json(), values.pop("provenance")
        return {"format": FORMAT, **identity, **values, **provenance}


def build_manifest(
    job: StageJob,
    identity: StageIdentity,
    metrics: Mapping[str, Any],
    *,
    started: datetime,
    seconds: float,
    attempts: int,
    command: str,
) -> Manifest:
    """The manifest of a stage that has just been carried out; hashes its export.

    ``seconds`` is measured, not the difference of two times: a machine's clock may be set back.
    """
    exports = export_files(job.directory)
    if not exports and identity.kind != "evaluate":  # which hands on tables, not a model
        raise StageFailed(f"stage {job.name} ended without files in {job.directory / EXPORT}")
    if identity.kind not in ("evaluate", "generate"):  # whose files nobody opens as a model
        sums = {item.path.removeprefix(f"{EXPORT}/"): item.sha256 for item in exports}
        exports += (_export_file(job.directory, write_sums(job.directory / EXPORT, sums)),)
    return Manifest(
        recipe=job.recipe,
        stage=job.name,
        identity=identity,
        metrics=json_ready(metrics),
        exports=exports,
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        attempts=attempts,
        provenance={
            "git_commit": _git_commit(),
            "versions": _versions(),
            "host": socket.gethostname(),
            "command": command,
        },
    )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make the stage done."""
    write_json(directory / MANIFEST, manifest.as_json())


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a stage directory; None where there is none, DamagedManifest if broken."""
    path = directory / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DamagedManifest(path, f"cannot be read ({reason_of(error)})") from error
    try:
        if values["format"] > FORMAT:
            raise UserError(
                f"{path} was written by a newer dlm (format {values['format']}, known: {FORMAT}); "
                "use that version, or another --run-dir"
            )
        return _manifest_of(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedManifest(path, f"is incomplete ({error!r})") from error


def export_files(directory: Path) -> tuple[ExportFile, ...]:
    """Every file under export/ with its size and hash, flushed to the disk on the way; without
    the list of these hashes."""
    export = directory / EXPORT
    paths = [path for path in sorted(export.rglob("*")) if path.is_file() and path != export / SUMS]
    return tuple(_export_file(directory, path) for path in paths)


def _export_file(directory: Path, path: Path) -> ExportFile:
    name = path.relative_to(directory).as_posix()
    return ExportFile(name, path.stat().st_size, sha256_of(path, flush=True))


def missing_exports(directory: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the export by names and sizes; empty when nothing is."""
    problems = []
    for item in manifest.exports:
        path = directory / item.path
        if not path.is_file():
            problems.append(f"{item.path} is missing")
        elif (size := path.stat().st_size) != item.bytes:
            problems.append(f"{item.path} has {size} bytes in place of {item.bytes}")
    return problems


def verify_exports(directory: Path, manifest: Manifest) -> list[str]:
    """As :func:`missing_exports`, and every file is read and its hash compared."""
    return missing_exports(directory, manifest) or [
        f"{name} {why}" for name, why in changed_exports(directory, manifest).items()
    ]


def changed_exports(directory: Path, manifest: Manifest) -> dict[str, str]:
    """The files of an export that are not as they were written, and why, as a verb."""
    changed = {}
    for item in manifest.exports:
        path = directory / item.path
        if not path.is_file():
            changed[item.path] = "is missing"
        elif sha256_of(path) != item.sha256:
            changed[item.path] = "has other contents than when it was written"
    return changed


def _git_commit() -> str | None:
    """Commit of the source tree, ``+changes`` if edited; None for an installed package."""
    package = Path(__file__).parents[1]
    # An installed package may lie in a virtual environment inside somebody else's repository.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    return commit and commit + ("+changes" if _git(package, "status", "--porcelain", ".") else "")


def _versions() -> dict[str, str | None]:
    """Python and the packages that decide numbers, without importing them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _manifest_of(values: Any) -> Manifest:
    return Manifest(
        recipe=str(values["recipe"]),
        stage=str(values["stage"]),
        identity=StageIdentity.from_json(values),
        metrics=dict(values["metrics"]),
        exports=tuple(ExportFile(**item) for item in values["exports"]),
        started=str(values["started"]),
        finished=str(values["finished"]),
        seconds=float(values["seconds"]),
        attempts=int(values["attempts"]),
        provenance={key: values[key] for key in ("git_commit", "versions", "host", "command")},
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def verify_needed(job: StageJob, verified: set[str]) -> None:
    """Compare the exports that a stage starts from with their hashes; each one once a run.

    Raises:
        StageFailed: A file was changed, damaged or removed.
    """
    for name in (name for name in job.exports if name not in verified):
        directory = job.exports[name].parent
        manifest = read_manifest(directory)
        problems = verify_exports(directory, manifest) if manifest else ["its manifest is missing"]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise StageFailed(
                f"stage {job.name} cannot start from stage {name}: in {directory}, "
                f"{problems[0]}{more}. Put the file back as it was written, or make the stage anew "
                f"with --force {name}"
            )
        verified.add(name)
