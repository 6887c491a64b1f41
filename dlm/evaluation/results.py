"""What an evaluation of one system on one task leaves on the disk."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.errors import StageFailed, reason_of
from dlm.evaluation.metrics import Sample
from dlm.files import aside, make_folder, replacing

PARTIAL = "metrics.partial.json"
"""The scores of a system on a task of which some metric failed."""

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
    text = _json(result.metrics, f"{result.task}, metrics", indent=2) + "\n"
    write_samples(result.task, result.samples, directory)
    with replacing(directory / "metrics.json", durable=False) as partial:
        partial.write_text(text, encoding="utf-8", errors=UNPAIRED)
    (directory / PARTIAL).unlink(missing_ok=True)


def write_samples(task: str, samples: Sequence[Sample], directory: Path) -> None:
    """Write samples.jsonl, which is no finished result yet.

    Raises:
        StageFailed: As :func:`write_result`.
    """
    lines = [
        _json(sample, f"{task}, row {number}") for number, sample in enumerate(samples, start=1)
    ]
    make_folder(directory)
    with (
        replacing(directory / "samples.jsonl", durable=False) as partial,
        partial.open("w", encoding="utf-8", errors=UNPAIRED) as file,
    ):
        file.writelines(f"{line}\n" for line in lines)


def write_partial(result: Result, failed: Mapping[str, str], directory: Path) -> None:
    """Write the rows, and the scores that could be computed beside the metrics that failed: to be
    looked at, no result. The next attempt writes that."""
    write_samples(result.task, result.samples, directory)
    values = {**result.metrics, "failed": dict(failed)}
    text = _json(values, f"{result.task}, metrics", indent=2) + "\n"
    (directory / PARTIAL).write_text(text, encoding="utf-8", errors=UNPAIRED)


def read_samples(directory: Path) -> list[Sample]:
    """The rows that an attempt without a result left; none where they cannot be read."""
    try:
        return _samples(directory)
    except (OSError, ValueError, TypeError):
        return []


def _samples(directory: Path) -> list[Sample]:
    with (directory / "samples.jsonl").open(encoding="utf-8") as file:
        return [dict(json.loads(line)) for line in file]


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


def read_result(system: str, task: str, directory: Path) -> Result | None:
    """A result that was written before; None where there is none, or it is damaged, which is said:
    it is made again."""
    if not is_finished(directory):
        return None
    try:
        metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        samples = _samples(directory)
        whole = len(samples) == metrics["rows"] and bool(metrics["scores"])
        reason = "rows or scores are missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        whole, reason = False, reason_of(error)
    if whole:
        return Result(system, task, metrics, samples)
    print(f"the result in {directory} is damaged ({reason}): it is made again, and what was there "
          f"is now in {aside(directory)}", flush=True)  # fmt: skip
    return None
