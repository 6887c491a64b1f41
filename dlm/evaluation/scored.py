"""What the run of a task gives, whatever its kind."""

from dataclasses import dataclass, field
from typing import Any

from dlm.evaluation.metrics import Sample


@dataclass(frozen=True)
class Scored:
    """The rows of samples.jsonl, and what metrics.json says beside the scores."""

    samples: list[Sample]
    settings: dict[str, Any]
    """How it was made: ``generation`` or ``likelihood`` and their settings."""
    standard_errors: dict[str, float] = field(default_factory=dict)
    """Metric -> standard error of its estimate on these rows; none where nothing is estimated."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What else is worth noting."""
