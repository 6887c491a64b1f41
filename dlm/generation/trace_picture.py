"""The denoising trace as one moving picture, an SVG that plays wherever pictures are shown."""

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from dlm.generation.trace import Frame, Trace, TraceFile

_SECONDS_A_FRAME, _SECONDS_AT_THE_END = 0.7, 3.0
_WIDTH, _MARGIN, _LINE, _GAP, _PADDING = 760.0, 24.0, 38.0, 7.0, 12.0
_CHARACTER = 9.1  # width of a monospaced character at 15 px, with a little to spare
_STOPS = ((240, 150, 70), (250, 226, 140), (116, 172, 232))
"""Probability 0, 1/2 and 1, as on the page of a trace."""
_STYLE = """
  .page{fill:#f6f5f2}.quiet{fill:#5c626d}.noise{fill:#d3d0c9}.fixed{fill:#1d1f23}.set{fill:#1d1f23}
  .bar{fill:#3a5ccc}.track{fill:#e4e2dc}
  text{font:15px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
  text{white-space:pre}
  @media (prefers-color-scheme:dark){.page{fill:#15171b}.quiet{fill:#a2a8b3}.noise{fill:#474d58}
  .fixed{fill:#e9e8e4}.bar{fill:#93a9ff}.track{fill:#343942}}"""


@dataclass(frozen=True)
class _Place:
    """Where a slot, or a word of the text around the slots, is drawn."""

    x: float
    y: float
    width: float


def trace_picture(trace_file: TraceFile) -> str:
    """An SVG of every trace, one below the other: each iteration is shown for 0.7 seconds, the
    last for 3 more. Who asks for reduced motion sees the last one."""
    parts, style, y = [], [_STYLE], _MARGIN
    for number, trace in enumerate(trace_file.traces, start=1):
        drawn, rules, y = _drawn(trace_file, trace, number, y)
        parts.append(drawn)
        style.append(rules)
    said = "; ".join(f"{trace.prompt or ''} -> {trace.answer}" for trace in trace_file.traces)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {y:.0f}" '
        f'width="{_WIDTH:.0f}" height="{y:.0f}" role="img">\n'
        f"<title>{_text(f'Text appears by diffusion: {said}')}</title>\n"
        f"<style>{''.join(style)}\n</style>\n"
        f'<rect class="page" width="100%" height="100%" rx="10"/>\n{"".join(parts)}</svg>\n'
    )


def _drawn(file: TraceFile, trace: Trace, number: int, top: float) -> tuple[str, str, float]:
    """The elements of a trace, the rules that move them, and the first free line below."""
    words = [] if trace.prompt is None else trace.prompt.split()
    asked, y = _placed([(word, False) for word in words], top) if words else ([], top - _LINE)
    parts = [_word(place, word, "quiet") for place, word in zip(asked, words, strict=True)]
    shown = [file.tokens(frame) for frame in trace.history]
    cells = list(_cells(trace, shown))
    places, y = _placed([(widest, slot is not None) for widest, slot in cells], y + _LINE)
    for place, (text, slot) in zip(places, cells, strict=True):
        if slot is None:
            parts.append(_word(place, text, "fixed"))
    slots = [(p, slot) for p, (_, slot) in zip(places, cells, strict=True) if slot is not None]
    last = len(shown)
    for iteration, (frame, tokens) in enumerate(zip(trace.history, shown, strict=True), start=1):
        inside = "".join(_slot(place, frame, tokens, slot) for place, slot in slots)
        parts.append(
            f'<g class="f t{number}f{iteration}">{inside}{_progress(iteration, last, y)}</g>\n'
        )
    return "".join(parts), _moves(number, last), y + 2 * _LINE


def _cells(trace: Trace, shown: list[list[str | None]]) -> Iterator[tuple[str, int | None]]:
    """In the order of reading: a fixed word, or the widest text that a slot ever holds and its
    number."""
    slot = 0
    for text, size in zip(trace.texts, (*trace.spans, 0), strict=True):
        for word in text.split():
            yield word, None
        for index in range(slot, slot + size):
            held = [(tokens[index] or "").strip() for tokens in shown]
            yield max([*held, "[M]"], key=_columns), index
        slot += size


def _placed(texts: list[tuple[str, bool]], top: float) -> tuple[list[_Place], float]:
    """A place for each text, in a box or not, wrapped into lines; and the last line's y."""
    places, x, y = [], _MARGIN, top
    for text, boxed in texts:
        width = _columns(text) * _CHARACTER + (_PADDING if boxed else 0)
        width = min(width, _WIDTH - 2 * _MARGIN)
        if x + width > _WIDTH - _MARGIN and x > _MARGIN:
            x, y = _MARGIN, y + _LINE
        places.append(_Place(x, y, width))
        x += width + _GAP
    return places, y


def _columns(text: str) -> int:
    """Columns of a terminal: two for the wide letters of Chinese, Japanese and Korean."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _word(place: _Place, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{place.x:.1f}" y="{place.y + 19:.1f}">{_text(text)}</text>\n'


def _slot(place: _Place, frame: Frame, tokens: list[str | None], index: int) -> str:
    box = f'x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="28" rx="6"'
    token = tokens[index]
    if token is None:
        return f'<rect class="noise" {box}/>'
    middle, y = place.x + place.width / 2, place.y + 19
    return (
        f'<rect fill="{_colour(frame.log_probability[index])}" {box}/>'
        f'<text class="set" text-anchor="middle" x="{middle:.1f}" y="{y:.1f}">'
        f"{_text(token.strip())}</text>"
    )


def _colour(log_probability: float) -> str:
    at = min(math.exp(log_probability), 1.0) * 2
    low = min(int(at), 1)
    pairs = zip(_STOPS[low], _STOPS[low + 1], strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - low)):02x}" for a, b in pairs)


def _progress(iteration: int, last: int, y: float) -> str:
    width, top = 200.0, y + _LINE + 8
    bar = f'x="{_MARGIN:.0f}" y="{top:.0f}" height="6" rx="3"'
    return (
        f'<rect class="track" {bar} width="{width:.0f}"/>'
        f'<rect class="bar" {bar} width="{width * iteration / last:.0f}"/>'
        f'<text class="quiet" x="{_MARGIN + width + 12:.0f}" y="{top + 8:.0f}">'
        f"iteration {iteration} of {last}</text>"
    )


def _moves(number: int, last: int) -> str:
    """Each frame is there for its share of the time; where nothing moves, the last one is."""
    total = last * _SECONDS_A_FRAME + _SECONDS_AT_THE_END
    rules = [f"\n  .t{number}f{k}{{opacity:{int(k == last)}}}" for k in range(1, last + 1)]
    rules.append("\n  @media (prefers-reduced-motion:no-preference){")
    for k in range(1, last + 1):
        begin = (k - 1) * _SECONDS_A_FRAME / total * 100
        end = 100.0 if k == last else k * _SECONDS_A_FRAME / total * 100
        name = f"t{number}f{k}"
        rules.append(
            f"\n  .{name}{{animation:{name} {total:.1f}s step-end infinite}}"
            f"\n  @keyframes {name}{{0%{{opacity:{int(k == 1)}}}{begin:.3f}%{{opacity:1}}"
            f"{end:.3f}%{{opacity:{int(k == last)}}}}}"
        )
    return "".join([*rules, "}"])


def _text(text: str) -> str:
    """Text that XML may hold: no markup in it, and none of the characters that XML forbids."""
    return escape("".join(c if _is_allowed(c) else "\ufffd" for c in text))


def _is_allowed(c: str) -> bool:
    return c in "\t\n\r" or " " <= c < "\ud800" or "\ue000" <= c < "\ufffe" or c > "\uffff"
