"""dlm generate: texts with everything that is written about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.distributed.share import ALONE, Share
from dlm.generation.generate import generate
from dlm.generation.infill import InfillTemplate, infill
from dlm.generation.model import GenerativeModel
from dlm.generation.pieces import Pieces
from dlm.generation.settings import GenerationSettings
from dlm.generation.trace import Trace, TraceFile
from dlm.generation.trace_page import trace_page
from dlm.generation.trace_picture import trace_picture

_LENGTH_SETTINGS = ("length", "canvas_length", "end_last", "length_beam", "rerank")


@dataclass(frozen=True)
class Answers:
    """What came out, in the order of what was asked."""

    rows: list[dict[str, Any]]
    """One for each answer, as the output file holds it; ``text`` is the answer."""
    traces: list[Trace]
    """How each came about; none unless recorded."""
    settings: dict[str, Any]
    """The settings that decided the texts."""
    without_end: int = 0
    """Answers that fill their canvas without an end token."""

    @property
    def texts(self) -> list[str]:
        """The answers alone."""
        return [row["text"] for row in self.rows]

    def write(self, output: Path) -> None:
        """As JSON lines."""
        with output.open("w", encoding="utf-8") as file:
            for row in self.rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def write_trace(self, place: Path, name: str, model: GenerativeModel) -> None:
        """As a page, a picture or JSON lines, by the suffix; ``name`` is the model's, for the
        reader."""
        trace = TraceFile(name, self.settings, self.traces, Pieces(model.tokenizer))
        writers = {".html": trace_page, ".svg": trace_picture}
        text = writers.get(place.suffix, TraceFile.jsonl)(trace)
        # A path may hold bytes that are no text; as an escape they are still JSON.
        place.write_text(text, encoding="utf-8", errors="backslashreplace")


def same_draw_note(prompts: Sequence[str], settings: GenerationSettings) -> str | None:
    """What is to be said of equal prompts to a sampler that draws; None where there are none."""
    repeated = len(prompts) - len(set(prompts))
    if not repeated or not settings.parts().draws:
        return None
    return (
        f"{repeated} of {len(prompts)} prompts repeat an earlier one, and are answered alike: a "
        "draw is a function of --seed and the prompt; for other answers ask again with another "
        "--seed"
    )


def answer_prompts(
    model: GenerativeModel,
    prompts: list[str],
    settings: GenerationSettings,
    *,
    record: bool,
    share: Share = ALONE,
) -> Answers:
    """Answer every prompt."""
    result = generate(model, prompts, settings, record=record, share=share)
    asked = list(zip(prompts, result.answers, strict=True))
    rows = [{"prompt": prompt, "text": a.text, "score": a.score} for prompt, a in asked]
    traces = [
        Trace(prompt, a.text, a.score, ("", ""), (len(history[-1].noise),), history)
        for (prompt, a), history in zip(asked, result.histories, strict=False)
    ]
    return Answers(rows, traces, settings.shown(model.kind), result.without_end)


def fill_in(
    model: GenerativeModel,
    templates: list[InfillTemplate],
    prompts: list[str] | None,
    settings: GenerationSettings,
    *,
    record: bool,
    share: Share = ALONE,
) -> Answers:
    """Complete every text."""
    result = infill(model, templates, settings, prompts=prompts, record=record, share=share)
    given: Sequence[str | None] = prompts or [None] * len(templates)
    asked = list(zip(given, templates, result.answers, strict=True))
    rows = [
        ({} if prompt is None else {"prompt": prompt})
        | {"infill": str(template), "text": a.text, "spans": a.spans, "score": a.score}
        for prompt, template, a in asked
    ]
    traces = [
        Trace(prompt, a.text, a.score, template.texts, template.spans, history)
        for (prompt, template, a), history in zip(asked, result.histories, strict=False)
    ]
    shown = settings.shown(model.kind)
    kept = {name: value for name, value in shown.items() if name not in _LENGTH_SETTINGS}
    return Answers(rows, traces, kept)
