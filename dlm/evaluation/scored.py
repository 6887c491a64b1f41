"""What the run of a task gives, whatever its kind."""

from dataclasses import dataclass, field
from typing import Any

from dlm.data.rows.encoding import encode_responses, unknown_tokens
from dlm.evaluation.metrics import Sample
from dlm.generation.model import GenerativeModel


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
    writable: list[str] = field(default_factory=list)
    """The references as the model writes them if it has every token right; none where it can write
    them all as they are."""


def unknown_figures(model: GenerativeModel, texts: list[str]) -> dict[str, int]:
    """Tokens of given texts that the model does not know, if any, and all of their tokens."""
    ids = encode_responses(model.tokenizer, texts)
    unknown = unknown_tokens(model.tokenizer, ids)
    return {"unknown_tokens": unknown, "tokens": sum(map(len, ids))} if unknown else {}
