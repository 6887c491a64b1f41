"""The denoising trace as one self-contained page: no network, no other file."""

import json
from importlib.resources import files

from dlm.generation.trace import TraceFile, finite, log_probabilities

_MARK = "@@TRACE@@"


def trace_page(trace_file: TraceFile) -> str:
    """HTML that replays every trace, by slider or by itself."""
    template = files("dlm.generation").joinpath("trace_page.html").read_text(encoding="utf-8")
    before, mark, behind = template.partition(_MARK)
    assert mark, "the page has lost the place of its data"
    return before + _safe_json(_page_data(trace_file)) + behind


def _page_data(trace_file: TraceFile) -> dict[str, object]:
    """What the page reads. Tokens are numbers into ``pieces``, -1 where the slot is noise."""
    places: dict[str, int] = {}
    traces = [
        {
            "prompt": trace.prompt,
            "answer": trace.answer,
            "score": finite(trace.score),
            "texts": trace.texts,
            "spans": trace.spans,
            "frames": [
                {
                    "tokens": [
                        -1 if text is None else places.setdefault(text, len(places))
                        for text in trace_file.tokens(frame)
                    ],
                    "returned": [int(value) for value in frame.returned],
                    "log_probability": log_probabilities(frame),
                }
                for frame in trace.history
            ],
        }
        for trace in trace_file.traces
    ]
    settings = trace_file.settings
    return {
        "model": trace_file.model,
        "settings": settings,
        "pieces": list(places),
        "traces": traces,
    }


def _safe_json(data: dict[str, object]) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
