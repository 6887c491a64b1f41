"""What an evaluation of one system on one task leaves on the disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.evaluation.metrics import Sample


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
    """Write samples.jsonl, and then metrics.json at once."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "samples.jsonl").open("w", encoding="utf-8") as file:
        for sample in result.samples:
            file.write(json.dumps(sample, ensure_ascii=False) + "\n")
    partial = directory / ".metrics.json"
    text = json.dumps(result.metrics, indent=2, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.rename(directory / "metrics.json")


def read_result(system: str, task: str, directory: Path) -> Result:
    """A result that was written before."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    with (directory / "samples.jsonl").open(encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return Result(system, task, metrics, samples)
