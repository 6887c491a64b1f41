"""Answers to whatever is asked, with all that is written about them."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlm.distributed.share import ALONE, Share
from dlm.generation.generate import generate
from dlm.generation.generated import Generation
from dlm.generation.infill import Infilling, InfillTemplate, infill
from dlm.generation.model import GenerativeModel
from dlm.generation.pieces import Pieces
from dlm.generation.settings import GenerationSettings
from dlm.generation.trace import History, Trace, TraceFile
from dlm.generation.trace_page import trace_page
from dlm.generation.trace_picture import trace_picture

_LENGTH_SETTINGS = ("length", "canvas_length", "end_last", "min_length", "end_penalty",
                    "length_beam", "rerank")  # fmt: skip


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


def draws(model: GenerativeModel, settings: GenerationSettings) -> bool:
    """Whether the same request may have several answers."""
    if model.kind == "autoregressive":
        return model.texts and bool(settings.temperature)
    return settings.parts().draws


def rounds(asked: Iterable[Hashable]) -> list[list[int]]:
    """Places of what is asked, by how often it stands before: the first round has each once."""
    met: Counter[Hashable] = Counter()
    found: list[list[int]] = []
    for place, one in enumerate(asked):
        if met[one] == len(found):
            found.append([])
        found[met[one]].append(place)
        met[one] += 1
    return found


def answer_prompts(
    model: GenerativeModel,
    prompts: list[str],
    settings: GenerationSettings,
    *,
    record: bool,
    share: Share = ALONE,
) -> Answers:
    """Answer every prompt. Where tokens are drawn, the n-th time of a prompt is answered with the
    draws of seed + n - 1, whatever else is asked."""

    def answer(places: list[int], settings: GenerationSettings) -> Generation:
        chosen = [prompts[place] for place in places]
        return generate(model, chosen, settings, record=record, share=share)

    answers, histories, results = _each_time(answer, prompts, model, settings)
    rows = [
        {"prompt": prompt, "text": a.text, "score": a.score}
        for prompt, a in zip(prompts, answers, strict=True)
    ]
    traces = [
        Trace(prompt, a.text, a.score, ("", ""), (len(history[-1].noise),), history)
        for prompt, a, history in zip(prompts, answers, histories, strict=False)
    ]
    without_end = sum(result.without_end for result in results)
    return Answers(rows, traces, settings.shown(model.kind), without_end)


def fill_in(
    model: GenerativeModel,
    templates: list[InfillTemplate],
    prompts: list[str] | None,
    settings: GenerationSettings,
    *,
    record: bool,
    share: Share = ALONE,
) -> Answers:
    """Complete every text, equal ones as :func:`answer_prompts` answers equal prompts."""
    given: Sequence[str | None] = prompts or [None] * len(templates)

    def complete(places: list[int], settings: GenerationSettings) -> Infilling:
        chosen = [templates[place] for place in places]
        asked = [prompts[place] for place in places] if prompts else None
        return infill(model, chosen, settings, prompts=asked, record=record, share=share)

    same = list(zip(given, map(str, templates), strict=True))
    answers, histories, _ = _each_time(complete, same, model, settings)
    rows = [
        ({} if prompt is None else {"prompt": prompt})
        | {"infill": str(template), "text": a.text, "spans": a.spans, "score": a.score}
        for prompt, template, a in zip(given, templates, answers, strict=True)
    ]
    traces = [
        Trace(prompt, a.text, a.score, template.texts, template.spans, history)
        for prompt, template, a, history in zip(given, templates, answers, histories, strict=False)
    ]
    shown = settings.shown(model.kind)
    kept = {name: value for name, value in shown.items() if name not in _LENGTH_SETTINGS}
    return Answers(rows, traces, kept)


def _each_time(
    work: Callable[[list[int], GenerationSettings], Any],
    asked: Sequence[Hashable],
    model: GenerativeModel,
    settings: GenerationSettings,
) -> tuple[list[Any], list[History], list[Any]]:
    """Answers and histories in the order of what is asked, and what each round gave."""
    apart = model.kind == "diffusion" and draws(model, settings)
    chosen = rounds(asked) if apart else [list(range(len(asked)))]
    answers: dict[int, Any] = {}
    histories: dict[int, History] = {}
    results = []
    for number, places in enumerate(chosen):
        result = work(places, replace(settings, seed=settings.seed + number))
        answers |= dict(zip(places, result.answers, strict=True))
        histories |= dict(zip(places, result.histories, strict=False))
        results.append(result)
    order = range(len(asked))
    return [answers[i] for i in order], [histories[i] for i in order if i in histories], results
