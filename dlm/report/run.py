"""What a report knows of a run, read from the files of its directory alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlm.recipe.fingerprint import StageIdentity
from dlm.recipe.manifest import DamagedManifest, Manifest, read_manifest
from dlm.recipe.state import read_started, started_identity
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
    curves = read_curves(directory / "logs" / "metrics.csv")
    # A stage that runs may be writing its last row.
    if curves.broken_rows > (row["state"] == "running"):
        problems.append(
            f"{directory.name}/logs/metrics.csv: {curves.broken_rows} rows cannot be read"
        )
    config = directory / "config.yaml"
    export = directory / "export"
    if row["kind"] == "evaluate" and not export.is_dir():
        export = directory / ".partial-export"  # of an evaluation that has not ended
    files = sorted(export.rglob("metrics.json")) if row["kind"] == "evaluate" else []
    comparisons = _json(export / "comparisons.json", problems, list)
    return Stage(
        name=row["stage"], kind=row["kind"], directory=directory, state=row["state"],
        reason=row["reason"], changes=row["changes"], progress=(row["step"], row["steps"]),
        seconds=manifest.seconds if manifest else row["seconds"],
        manifest=manifest, started=read_started(directory) or {},
        identity=manifest.identity if manifest else started_identity(directory),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        curves=curves,
        samples={
            int(step): _lines(path, problems)
            for path in sorted((directory / "samples").glob("step=*.jsonl"))
            if (step := path.stem.removeprefix("step=")).isdigit()
        },
        results=[
            Scored(metrics, path, _lines(path.with_name("samples.jsonl"), problems))
            for path in files
            if (metrics := _json(path, problems, dict)) and metrics.get("scores")
        ],
        comparisons=comparisons or [],
    )  # fmt: skip


def _json(path: Path, problems: list[str], kind: type) -> Any:
    """A JSON file's value, None where there is none of the kind."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        problems.append(f"{path}: cannot be read ({error})")
        return None
    if not isinstance(value, kind):
        problems.append(f"{path}: holds no {kind.__name__}")
        return None
    return value


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    rows: list[dict[str, Any]] = []
    broken = 0
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if isinstance(row, dict):
                    rows.append(row)
                else:
                    broken += 1
    if broken:
        problems.append(f"{path}: {broken} lines cannot be read")
    return rows


def _traces(directory: Path) -> list[Path]:
    """The pages of `dlm generate --trace` at the top of the run or in a folder of it."""
    found = []
    pages = [*directory.glob("*.html"), *directory.glob("*/*.html")]
    for path in sorted(page for page in pages if page.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if _TRACE_TITLE in text[:2000] and _TRACE_MARK in text:
            found.append(path)
    return found
