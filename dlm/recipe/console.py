"""What the recipe runner says: plan, one line a stage, a table at the end."""

import errno
import math
import os
import shlex
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlm.errors import DlmError, Preempted, StageFailed, UserError
from dlm.recipe.plan import PlannedStage
from dlm.recipe.refusal import change_lines
from dlm.recipe.stage_time import seconds_so_far
from dlm.recipe.state import StageState
from dlm.training.job import StageJob

PLAIN_WIDTH = 140
"""Width of tables in files and pipes."""
_MAIN_METRICS = 4
_SHOWN_REASON = {"run": "run", "resume": "resume", "skip": "skip", "refuse": "REFUSE"}


def make_console(*, stderr: bool = False) -> Console:
    """A console that never cuts table cells because a log file has no width."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH)


def say(text: str, *, stderr: bool = False) -> None:
    """One message as it is: no markup, no colours, no wrapping."""
    make_console(stderr=stderr).print(text, markup=False, highlight=False, soft_wrap=True)


def plan_text(recipe_name: str, run_dir: Path, planned: Sequence[PlannedStage]) -> str:
    """The plan with a reason for every stage."""
    width = max(len(stage.job.directory.name) for stage in planned)
    lines = [f"plan: {recipe_name} in {run_dir}"]
    for stage in planned:
        action = _SHOWN_REASON.get(stage.action, stage.action)
        lines.append(f"  {action:<12}  {stage.job.directory.name:<{width}}  {stage.reason}")
        shown = change_lines(stage) if stage.state.name == "stale" else []
        lines += [f"{'':<{width + 18}}{line}" for line in shown]
    return "\n".join(lines)


def stage_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Stages with state, time and metrics; rows as :func:`dlm.recipe.status.status` gives."""
    queued = any("queue" in row for row in rows)
    table = Table("stage", "kind", "state", *(["job"] if queued else []), "time", "metrics")
    for row in rows:
        moving = row["state"] in ("running", "partial", "failed") and row["step"] is not None
        shown = f" {row['step']}/{row['steps']}" if moving else ""
        seconds = "" if row["seconds"] is None else duration(row["seconds"])
        metrics = metrics_text(row["metrics"])
        job = [row.get("queue", "")] if queued else []
        cells = (row["stage"], row["kind"], row["state"] + shown, *job, seconds, metrics)
        table.add_row(*map(Text, cells))  # no markup in a name
    return table


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """``loss 1.234, bleu 30.12``: the numbers among the metrics, the first few of them."""
    numbers = [
        f"{name} {value:.4g}"
        for name, value in _flat(metrics)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    more = max(0, len(numbers) - _MAIN_METRICS)
    return ", ".join([*numbers[:_MAIN_METRICS], *([f"and {more} more"] if more else [])])


def duration(seconds: float) -> str:
    """``12.3 s``, ``5 min 10 s`` or ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def state_row(name: str, kind: str, directory: Path, state: StageState) -> dict[str, Any]:
    """What is told about one stage."""
    manifest = state.manifest
    return {
        "stage": name,
        "kind": kind,
        "state": state.name,
        "reason": state.reason,
        "changes": [str(change) for change in state.changes],
        "directory": str(directory),
        "step": None,
        "steps": None,
        "seconds": manifest.seconds if manifest else seconds_so_far(directory),
        "finished": manifest.finished if manifest else None,
        "metrics": manifest.metrics if manifest else {},
    }


def words_of(command: str | Sequence[str]) -> list[str]:
    """The words of a command line, each quoted where a shell needs it."""
    words = shlex.split(command) if isinstance(command, str) else command
    return [shlex.quote(word) for word in words]


def continue_line(words: Sequence[str], begun: Collection[str]) -> str:
    """The last line of a run that did not end well.

    ``--force S`` is left out once S was begun anew: repeating it would throw away the result that
    this run made.
    """
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] == "--force" and word in begun:
            kept.pop()
        elif not any(word == f"--force={name}" for name in begun):
            kept.append(word)
    return f"continue with: {' '.join(kept)}"


def last_line(exit_code: int, words: Sequence[str], begun: Collection[str] = ()) -> str:
    """What to do next; where something is to be corrected first, the command may change too."""
    if exit_code == UserError.exit_code:
        return "what is done is kept: once that is corrected, the run goes on from there"
    return continue_line(words, begun)


def explain(error: BaseException) -> None:
    """Say on stderr why the run ended."""
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted: what was saved is kept"
    elif isinstance(error, DlmError):
        text = str(error) or type(error).__name__
    elif isinstance(error, OSError):
        text = os_error_text(error)
    else:
        text = "".join(traceback.format_exception(error)).rstrip()
    say(f"{'preempted' if isinstance(error, Preempted) else 'error'}: {text}", stderr=True)


def exit_code(error: BaseException) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, DlmError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else StageFailed.exit_code


def unexpected_text(job: StageJob, error: BaseException, place: Path | None) -> str:
    """What is said of an error that nobody foresaw, and where its traceback lies."""
    if isinstance(error, OSError):
        text = os_error_text(error)
    else:
        text = f"{type(error).__name__}: {error}"
    kept = (
        f"full traceback: {place}"
        if place
        else "its traceback could not be written:\n"
        + ("".join(traceback.format_exception(error)).rstrip())
    )
    return f"stage {job.name} failed: {text}\n{kept}"


def os_error_text(error: OSError) -> str:
    """What the system refused, and the remedy."""
    about = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free space, or continue on another disk; finished stages and checkpoints are kept"
        return f"the disk or your quota is full{about}: {remedy}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{about}: allow it, or choose another --run-dir"
    if isinstance(error, IsADirectoryError):
        return f"{error.filename} is a directory where a file belongs: move it away"
    if isinstance(error, NotADirectoryError):
        return (
            f"{error.filename} is to lie in a directory, and a file is in its place: move it away"
        )
    return f"{type(error).__name__}: {error}"


def write_traceback(directory: Path, error: BaseException, suffix: str = "") -> Path | None:
    """Append to logs/failure.txt; None if even that cannot be written."""
    place = directory / "logs" / f"failure{suffix}.txt"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a", encoding="utf-8") as stream:
            stream.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} process {os.getpid()}\n")
            stream.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return place


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
