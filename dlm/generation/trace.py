"""What a canvas went through, iteration by iteration: recorded, and made readable."""

import json
import math
from dataclasses import dataclass
from typing import Any

from dlm.diffusion.sampling.samplers import Sampler
from dlm.diffusion.sampling.state import Canvas
from dlm.generation.pieces import Pieces


@dataclass(frozen=True)
class Frame:
    """The slots of one row after an iteration."""

    token_ids: list[int]
    """The mask token where the slot is noise."""
    noise: list[bool]
    """Which slots are noise."""
    returned: list[bool]
    """Which slots held a token before this iteration, and are noise after it."""
    log_probability: list[float]
    """Log-probability that each token had when it was last set; 0 where noise."""


History = tuple[Frame, ...]
"""The frames of one row, the first after iteration 1."""


class Recorder:
    """Keeps every canvas that ``denoise`` shows; pass it as ``observe``."""

    def __init__(self, *, rows_wait: bool) -> None:
        """``rows_wait``: whether rows are done at different times, and wait for their batch.

        What a row is waiting for is then no part of its history.
        """
        self._skip_waiting = rows_wait
        self._canvases: list[tuple[list[list[int]], list[list[bool]], list[list[float]]]] = []
        self._lengths: list[int] = []

    @classmethod
    def for_sampler(cls, sampler: Sampler) -> "Recorder":
        """A recorder of the sampler's kind."""
        own_number = sampler.num_iterations is None or sampler.block_length is not None
        return cls(rows_wait=sampler.rule.stops_early or own_number)

    def __call__(self, iteration: int, canvas: Canvas) -> None:
        """Copy the canvas to the host."""
        self._lengths = canvas.slot_BN.sum(dim=1).tolist()
        tokens, noise = canvas.tokens_BN.tolist(), canvas.noise_BN.tolist()
        self._canvases.append((tokens, noise, canvas.log_probability_BN.tolist()))

    def history(self, row: int) -> History:
        """What one row of the batch went through."""
        length = self._lengths[row]
        frames: list[Frame] = []
        noise_before = [True] * length
        for tokens_BN, noise_BN, log_p_BN in self._canvases:
            tokens, noise = tokens_BN[row][:length], noise_BN[row][:length]
            unchanged = bool(frames) and tokens == frames[-1].token_ids
            if self._skip_waiting and unchanged:
                continue
            returned = [now and not old for now, old in zip(noise, noise_before, strict=True)]
            frames.append(Frame(tokens, noise, returned, log_p_BN[row][:length]))
            noise_before = noise
        return tuple(frames)


@dataclass(frozen=True)
class Trace:
    """One answer and how it came about."""

    prompt: str | None
    """What was asked; None for infilling without a prompt."""
    answer: str
    """The answer, or the completed text."""
    score: float
    """Its score."""
    texts: tuple[str, ...]
    """The fixed text before, between and behind the spans of slots; one more than ``spans``."""
    spans: tuple[int, ...]
    """Slots of each span."""
    history: History
    """The canvas after every iteration."""


@dataclass(frozen=True)
class TraceFile:
    """Everything that a trace says; ``jsonl`` here, a page in ``trace_page``."""

    model: str
    """The model as the user named it."""
    settings: dict[str, Any]
    """The settings that decided the text."""
    traces: list[Trace]
    """One for each prompt."""
    pieces: Pieces
    """How tokens read."""

    def jsonl(self) -> str:
        """A line for each prompt and iteration.

        ``tokens`` are texts, null where the slot is noise, as in ``log_probability``.
        """
        rows = [
            {
                "model": self.model,
                "settings": self.settings,
                "number": number,
                "prompt": trace.prompt,
                "texts": trace.texts,
                "spans": trace.spans,
                "answer": trace.answer,
                "score": finite(trace.score),
                "iteration": iteration,
                "num_iterations": len(trace.history),
                "tokens": self.tokens(frame),
                "noise": frame.noise,
                "returned": frame.returned,
                "log_probability": log_probabilities(frame),
            }
            for number, trace in enumerate(self.traces, start=1)
            for iteration, frame in enumerate(trace.history, start=1)
        ]
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)

    def tokens(self, frame: Frame) -> list[str | None]:
        """The text of each slot, None where it is noise."""
        return [
            None if noise else self.pieces.piece(token)
            for token, noise in zip(frame.token_ids, frame.noise, strict=True)
        ]


def log_probabilities(frame: Frame) -> list[float | None]:
    """The log-probability of each slot, to 4 decimals; None where it is noise."""
    return [
        None if noise else finite(value)
        for value, noise in zip(frame.log_probability, frame.noise, strict=True)
    ]


def finite(value: float) -> float | None:
    """A number to 4 decimals, or None for what JSON has no number for."""
    return round(value, 4) if math.isfinite(value) else None
