"""What an evaluation of one system on one task leaves on the disk."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.errors import StageFailed
from dlm.evaluation.metrics import Sample

UNPAIRED = "backslashreplace"
"""How half a surrogate pair is written, which UTF-8 cannot: in JSON as its own escape, so that it
is read back."""


@dataclass(frozen=True)
class Result:
    """One system on one task."""

    system: str
    task: str
    metrics: dict[str, Any]
    """What metrics.json holds."""
    samples: list[Sample]
    """What samples.jsonl holds, row by row."""


def is_finished(directory: Path) -> bool:
    """Whether a result is there; metrics.json is written last."""
    return (directory / "metrics.json").exists()


def write_result(result: Result, directory: Path) -> None:
    """Write samples.jsonl, and then metrics.json at once.

    Raises:
        StageFailed: A number is not finite, which JSON cannot say; the message names the row.
    """
    lines = [
        _json(sample, f"{result.task}, row {number}")
        for number, sample in enumerate(result.samples, start=1)
    ]
    text = _json(result.metrics, f"{result.task}, metrics", indent=2) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "samples.jsonl").open("w", encoding="utf-8", errors=UNPAIRED) as file:
        file.writelines(f"{line}\n" for line in lines)
    partial = directory / ".metrics.json"
    partial.write_text(text, encoding="utf-8", errors=UNPAIRED)
    partial.rename(directory / "metrics.json")


def _json(value: dict[str, Any], place: str, indent: int | None = None) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        keys = ", ".join(_not_finite(value)) or str(error)
        raise StageFailed(
            f"{place}: {keys}, which is no number, so nothing is written: look at the row, and at "
            "the score that it is given"
        ) from error


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Where in a JSON value a number is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{key.lstrip('.')} is {value}"
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{key}[{number}]")


def read_result(system: str, task: str, directory: Path) -> Result:
    """A result that was written before."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    with (directory / "samples.jsonl").open(encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return Result(system, task, metrics, samples)
