"""What a report knows of a run, read from the files of its directory alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlm.errors import reason_of
from dlm.evaluation.metrics import METRICS
from dlm.recipe.fingerprint import StageIdentity
from dlm.recipe.manifest import (
    EXPORT,
    DamagedManifest,
    Manifest,
    changed_exports,
    read_manifest,
)
from dlm.recipe.state import STARTED, read_started, started_identity
from dlm.recipe.status import status
from dlm.report.curves import Curves, read_curves

_TRACE_MARK = '<script type="application/json" id="trace">'
_TRACE_TITLE = "<title>Denoising trace</title>"


@dataclass(frozen=True)
class Scored:
    """One system on one task."""

    metrics: dict[str, Any]
    """What metrics.json holds."""
    file: Path
    samples: list[dict[str, Any]]
    """What samples.jsonl beside it holds."""


@dataclass(frozen=True)
class Stage:
    """One stage and everything its directory says."""

    name: str
    kind: str
    directory: Path
    state: str
    reason: str
    changes: list[str]
    progress: tuple[int | None, int | None]
    """Steps done and wanted, of a stage that trains and has begun."""
    seconds: float | None
    """Time of all attempts so far; None: there was none."""
    manifest: Manifest | None
    started: Mapping[str, Any]
    """Its last attempt, as started.json tells it."""
    identity: StageIdentity | None
    config: str
    """config.yaml."""
    curves: Curves
    samples: dict[int, list[dict[str, Any]]]
    """Step -> generated answers to validation prompts."""
    results: list[Scored]
    comparisons: list[dict[str, Any]]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the manifest keeps."""
        return self.manifest.metrics if self.manifest else {}

    @property
    def exported_step(self) -> int | None:
        """The step whose weights were exported."""
        return self.metrics.get("exported_step")

    @property
    def settings(self) -> Mapping[str, Any]:
        """config.yaml as values."""
        try:
            values = yaml.safe_load(self.config)
        except yaml.YAMLError:
            return {}
        return values if isinstance(values, Mapping) else {}


@dataclass(frozen=True)
class Run:
    """One run directory."""

    directory: Path
    label: str
    """What tells it from the others of the report."""
    recipe: str
    name: str
    """The recipe's name."""
    description: str
    stages: list[Stage]
    traces: list[Path]
    """Denoising traces that lie in it."""
    problems: list[str] = field(default_factory=list)
    """What is there and could not be read."""
    alone: bool = True
    """Whether it is the report's only run."""

    @property
    def state(self) -> str:
        """The most pressing state of its stages, ``done`` if all are."""
        states = [stage.state for stage in self.stages]
        for name in ("running", "failed", "stale"):
            if name in states:
                return name
        done = states.count("done")
        return "done" if done == len(states) else "partial" if done or set(states) != {"missing"} \
            else "missing"  # fmt: skip

    def place(self, path: Path) -> str:
        """A file's name below the run; of several runs, below the label."""
        below = path.relative_to(self.directory).as_posix()
        return below if self.alone else f"{self.label}/{below}"


def read_runs(directories: Sequence[Path]) -> list[Run]:
    """Every run under the shortest ends of their paths that tell them apart."""
    paths = [directory.resolve() for directory in directories]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    labels = ["/".join(path.parts[-depth:]) for path in paths]
    return [
        read_run(directory, label, alone=len(paths) == 1)
        for directory, label in zip(directories, labels, strict=True)
    ]


def read_run(directory: Path, label: str, *, alone: bool = True) -> Run:
    """Read a run, whatever state it is in.

    Raises:
        UserError: the directory is no run directory, or its recipe cannot be read.
    """
    rows = status(directory)
    text = (directory / "recipe.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    problems: list[str] = []
    stages = [_stage(row, problems) for row in rows]
    known = {stage.directory.name for stage in stages}
    problems += [
        f"{path.name}: of no stage of recipe.yaml, and not in this report"
        for path in sorted(directory.glob("[0-9][0-9]_*"))
        if path.is_dir() and path.name not in known
    ]
    return Run(
        directory, label, text, str(recipe["name"]), str(recipe.get("description") or ""),
        stages, _traces(directory), problems, alone,
    )  # fmt: skip


def _stage(row: Mapping[str, Any], problems: list[str]) -> Stage:
    directory = Path(row["directory"])
    manifest = None
    try:
        manifest = read_manifest(directory)
    except DamagedManifest as error:
        problems.append(str(error))
    curves = _curves(directory / "logs" / "metrics.csv", problems)
    # A stage that runs may be writing its last row.
    if curves.broken_rows > (row["state"] == "running"):
        problems.append(
            f"{directory.name}/logs/metrics.csv: rows that cannot be read are left out "
            f"({curves.broken_rows})"
        )
    export = directory / "export"
    if row["kind"] == "evaluate" and not export.is_dir():
        export = directory / ".partial-export"  # of an evaluation that has not ended
    files = sorted(export.rglob("metrics.json")) if row["kind"] == "evaluate" else []
    if manifest is not None and row["kind"] == "evaluate" and export.name == EXPORT:
        # What was written is shown, and nothing else.
        damaged = {directory / n: why for n, why in changed_exports(directory, manifest).items()}
        problems += [
            f"{path}: it {why}, and is left out: put it back, or `dlm run` the recipe with "
            f"--force {directory.name.partition('_')[2]}"
            for path, why in damaged.items()
        ]
    else:
        damaged = {}
    compared = export / "comparisons.json"
    comparisons = None if compared in damaged else _json(compared, problems, list)
    return Stage(
        name=row["stage"], kind=row["kind"], directory=directory, state=row["state"],
        reason=row["reason"], changes=row["changes"], progress=(row["step"], row["steps"]),
        seconds=manifest.seconds if manifest else row["seconds"],
        manifest=manifest, started=_started(directory, problems),
        identity=manifest.identity if manifest else started_identity(directory),
        config=_text(directory / "config.yaml", problems),
        curves=curves,
        samples={
            int(step): _lines(path, problems)
            for path in sorted((directory / "samples").glob("step=*.jsonl"))
            if (step := path.stem.removeprefix("step=")).isdigit()
        },
        results=[
            Scored(metrics, path, _samples(path.with_name("samples.jsonl"), damaged, problems))
            for path in files
            if path not in damaged and (metrics := _metrics(path, problems))
        ],
        comparisons=comparisons or [],
    )  # fmt: skip


def _started(directory: Path, problems: list[str]) -> Mapping[str, Any]:
    started = read_started(directory)
    if started is None and (directory / STARTED).exists():
        problems.append(
            f"{directory / STARTED}: cannot be read; the last attempt's device is left out"
        )
    return started or {}


def _curves(path: Path, problems: list[str]) -> Curves:
    if _read(path, problems, empty=True) is None:
        return Curves({}, {})
    return read_curves(path)


def _read(path: Path, problems: list[str], *, empty: bool = False) -> bytes | None:
    """A file's contents; None where there is none, which is said if something else is there.
    ``empty``: it is damaged if it is empty."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(f"{path}: cannot be read ({reason_of(error)})")
        return None
    if empty and not content:
        problems.append(f"{path}: is empty")
    return content


def _text(path: Path, problems: list[str]) -> str:
    content = _read(path, problems, empty=True)
    try:
        return (content or b"").decode("utf-8")
    except ValueError as error:
        problems.append(f"{path}: is not wholly UTF-8 ({error})")
        return (content or b"").decode("utf-8", errors="replace")


def _json(path: Path, problems: list[str], kind: type) -> Any:
    """A JSON file's value, None where there is none of the kind."""
    if (content := _read(path, problems)) is None:
        return None
    try:
        value = json.loads(content)
    except ValueError as error:
        problems.append(f"{path}: cannot be read ({error})")
        return None
    if not isinstance(value, kind):
        problems.append(f"{path}: holds no {kind.__name__}")
        return None
    return value


def _metrics(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """A result's metrics.json, None where it holds no scores that can be shown."""
    metrics: dict[str, Any] | None = _json(path, problems, dict)
    if metrics is None:
        return None
    scores, kind = metrics.get("scores"), metrics.get("task_kind", "generation")
    known = METRICS.get(kind, {}) if isinstance(kind, str) else {}
    whole = isinstance(scores, dict) and bool(scores) and all(
        name in known and isinstance(value, dict) and _is_number(value.get("score"))
        for name, value in scores.items()
    )  # fmt: skip
    if not whole:
        problems.append(f"{path}: holds no scores that are known here")
        return None
    return metrics


def _samples(path: Path, damaged: Mapping[Path, str], problems: list[str]) -> list[dict[str, Any]]:
    return [] if path in damaged else _lines(path, problems)


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The rows of a file of answers that can be shown."""
    rows: list[dict[str, Any]] = []
    broken = 0
    for line in (_read(path, problems, empty=True) or b"").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and _is_shown(row):
            rows.append(row)
        else:
            broken += 1
    if broken:
        problems.append(f"{path}: lines that cannot be read are left out ({broken})")
    return rows


def _is_shown(row: Mapping[str, Any]) -> bool:
    """Whether a row of answers has what its kind is shown by."""
    if "choices" in row:
        choices, places = row["choices"], (row.get("right"), row.get("chosen"))
        return isinstance(choices, list) and all(
            isinstance(place, int) and 0 <= place < len(choices) for place in places
        )
    if "bound" in row:
        return _is_number(row["bound"]) and _is_number(row.get("tokens")) and row["tokens"] > 0
    return "hypothesis" in row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _traces(directory: Path) -> list[Path]:
    """The pages of `dlm generate --trace` at the top of the run or in a folder of it."""
    found = []
    pages = [*directory.glob("*.html"), *directory.glob("*/*.html")]
    for path in sorted(page for page in pages if page.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if _TRACE_TITLE in text[:2000] and _TRACE_MARK in text:
            found.append(path)
    return found
