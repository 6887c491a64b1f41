"""Charts as SVG in the page's colours, light or dark, drawn without a plotting library."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from dlm.report.curves import Points, thinned

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 22, 42
_MOST_POINTS = 250
COLOURS = 8
"""Classes ``c0`` ... of the style sheet: what can be told apart, without seeing red or green."""


@dataclass(frozen=True)
class Axis:
    """The scale of one direction: data to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    """Equal steps are equal factors; only values above 0."""

    def __call__(self, value: float) -> float:
        """Pixels, to a tenth."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers along it."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in steps of 1, 2 or 5 times a power of ten, from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; round numbers where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    found = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [value for value in found if low * 0.999 <= value <= high * 1.001]
    return inside if len(inside) > 1 else [tick for tick in ticks(low, high, 4) if tick > 0]


def number_text(value: float) -> str:
    """A tick's label: ``0.05``, ``1,000``, ``20k``, ``1.5M``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):g}{name}"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def widened(low: float, high: float) -> tuple[float, float]:
    """The ends with a margin."""
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def log_widened(low: float, high: float) -> tuple[float, float]:
    """The same where factors count."""
    margin = (high / low) ** 0.06 if high > low else 2.0
    return low / margin, high * margin


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    points: Points
    colour: int = 0
    pale: bool = False
    """Thin and light: what is behind the others, such as a training loss."""
    dashed: bool = False
    intervals: tuple[tuple[float, float], ...] = ()
    """(low, high) of every point."""
    marked_x: float | None = None
    """The point that a ring is drawn around, such as the exported step."""
    band: bool = False
    """A law: the intervals are drawn as an area, and no point stands for a measurement."""


def line_chart(title: str, x_label: str, y_label: str, series: Sequence[Series], *,
               log_x: bool = False, log_y: bool = False) -> str:  # fmt: skip
    """A figure with axes, units and a legend; nothing where there is no point."""
    series = [one for one in series if one.points]
    if not series:
        return ""
    x_axis, y_axis = _axes(series, log_x, log_y)
    drawn = [_frame(x_axis, y_axis, x_label, y_label)]
    notes = []
    # What is pale lies below.
    for one in sorted(series, key=lambda s: not s.pale):
        points, width = thinned(one.points, _MOST_POINTS)
        if width > 1:
            notes.append(f"{one.label}: a point is the mean of {width} logged steps")
        drawn.append(_line(one, points, x_axis, y_axis))
    alt = f"{title}: " + "; ".join(
        f"{one.label} from {number_text(one.points[0][1])} to {one.points[-1][1]:.4g}"
        for one in series
    )
    return figure(title, "".join(drawn), series, alt, notes)


def bar_chart(title: str, x_label: str, y_label: str, names: Sequence[str],
              series: Sequence[Series]) -> str:  # fmt: skip
    """Groups of bars from zero, a group a name; a point's x is the place of its name."""
    series = [one for one in series if one.points]
    if not series:
        return ""
    highest = max(y for one in series for _, y in one.points)
    y_axis = Axis(0.0, highest * 1.05 or 1.0, HEIGHT - _BOTTOM, _TOP)
    x_axis = Axis(-0.5, len(names) - 0.5, _LEFT, WIDTH - _RIGHT)
    group = (WIDTH - _LEFT - _RIGHT) / len(names)
    width = min(24.0, group * 0.8 / len(series))
    drawn = [_frame(x_axis, y_axis, x_label, y_label, x_names=names)]
    for number, one in enumerate(series):
        shift = (number - len(series) / 2) * width
        for x, y in one.points:
            left, top = x_axis(x) + shift, y_axis(y)
            label = escape(f"{one.label}, {names[int(x)]}: {y:.4g}")
            drawn.append(
                f'<rect class="bar c{one.colour}" x="{left:.1f}" '
                f'y="{top}" width="{max(width - 1.0, 1.0):.1f}" height="{y_axis(0) - top:.1f}">'
                f"<title>{label}</title></rect>"
            )
    shown = [f"{names[int(x)]} {y:.3g}" for x, y in series[0].points]
    alt = f"{title}, {series[0].label}: " + ", ".join(shown)
    return figure(title, "".join(drawn), series, alt, [], bars=True)


def figure(title: str, drawn: str, series: Sequence[Series], alt: str, notes: Iterable[str],
           *, bars: bool = False) -> str:  # fmt: skip
    """The drawing under its title and over its legend."""
    legend = "".join(
        f"<li>{_swatch(one, bars)}<span>{escape(one.label)}</span></li>" for one in series
    )
    if any(one.marked_x is not None for one in series) and not bars:
        ring = '<circle class="ring" cx="11" cy="6" r="5"/>'
        legend += f"<li>{_swatch_svg(ring)}<span>exported step</span></li>"
    caption = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt)}">'
        f'{drawn}</svg><ul class="legend">{legend}</ul>{caption}</figure>'
    )


def interval_graphic(value: float, low: float, high: float, scale: tuple[float, float], *,
                     colour: int = 0, hollow: bool = False, zero: bool = False) -> str:  # fmt: skip
    """A point with its interval on a common scale, to stand in a table's cell."""
    width, height = 170, 20
    axis = Axis(*widened(*scale), 8, width - 8)
    parts = [f'<line class="scale" x1="0" x2="{width}" y1="10" y2="10"/>']
    if zero:
        parts.append(f'<line class="zero" x1="{axis(0)}" x2="{axis(0)}" y1="1" y2="19"/>')
    if math.isfinite(low) and math.isfinite(high):
        parts.append(
            f'<path class="whisker c{colour}" d="M{axis(low)} 10H{axis(high)}'
            f'M{axis(low)} 5v10M{axis(high)} 5v10"/>'
        )
    kind = "hollow" if hollow else "dot"
    parts.append(f'<circle class="{kind} c{colour}" cx="{axis(value)}" cy="10" r="4.5"/>')
    label = f"{value:.4g}, 95 % interval {low:.4g} to {high:.4g}"
    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _axes(series: Sequence[Series], log_x: bool, log_y: bool) -> tuple[Axis, Axis]:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    ys += [end for one in series for pair in one.intervals for end in pair if math.isfinite(end)]
    if log_y:
        ys = [y for y in ys if y > 0]
    low, high = (log_widened if log_y else widened)(min(ys), max(ys))
    if log_x:
        x_low, x_high = log_widened(min(xs), max(xs))
    else:
        x_low, x_high = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
        x_low, x_high = x_low - (x_high - x_low) * 0.03, x_high + (x_high - x_low) * 0.03
    return (
        Axis(x_low, x_high, _LEFT, WIDTH - _RIGHT, log_x),
        Axis(low, high, HEIGHT - _BOTTOM, _TOP, log_y),
    )


def _frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str,
           x_names: Sequence[str] = ()) -> str:  # fmt: skip
    """Grid, ticks and the names of the axes."""
    parts = []
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for value in y_axis.ticks(most=8):
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{number_text(value)}</text>'
        )
    places = list(enumerate(x_names)) if x_names else [
        (value, number_text(value)) for value in x_axis.ticks()
    ]  # fmt: skip
    for value, name in places:
        x = x_axis(value)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{escape(name)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="label" x="2" y="11">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _line(one: Series, points: Points, x_axis: Axis, y_axis: Axis) -> str:
    places = [(x_axis(x), y_axis(y)) for x, y in points]
    names = f"c{one.colour}{' pale' if one.pale else ''}{' dashed' if one.dashed else ''}"
    parts = [f'<polyline class="line {names}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>']
    if one.band:
        return _band(one, points, x_axis, y_axis) + parts[0]
    for (x, _), (low, high) in zip(points, one.intervals, strict=False):
        if math.isfinite(low) and math.isfinite(high):
            parts.append(
                f'<path class="whisker c{one.colour}" d="M{x_axis(x)} {y_axis(low)}'
                f'V{y_axis(high)}"/>'
            )
    if not one.pale or len(points) == 1:
        few = len(points) <= 40
        parts += [
            f'<circle class="dot c{one.colour}" cx="{px}" cy="{py}" r="{3 if few else 1.5}">'
            f"<title>{escape(f'{one.label}, {number_text(x)}: {y:.5g}')}</title></circle>"
            for (px, py), (x, y) in zip(places, points, strict=True)
        ]
    # Of all points: the exported one may have gone into a mean.
    marked = [(x_axis(x), y_axis(y)) for x, y in one.points if x == one.marked_x]
    parts += [f'<circle class="ring" cx="{x}" cy="{y}" r="6.5"/>' for x, y in marked[-1:]]
    return "".join(parts)


def _band(one: Series, points: Points, x_axis: Axis, y_axis: Axis) -> str:
    """The area between the ends of the intervals."""
    ends = [(x, *pair) for (x, _), pair in zip(points, one.intervals, strict=False)]
    finite = [end for end in ends if all(map(math.isfinite, end))]
    if not finite:
        return ""
    edge = [(x_axis(x), y_axis(low)) for x, low, _ in finite]
    edge += [(x_axis(x), y_axis(high)) for x, _, high in reversed(finite)]
    places = " ".join(f"{x},{y}" for x, y in edge)
    return f'<polygon class="band c{one.colour}" points="{places}"/>'


def _swatch(one: Series, bars: bool) -> str:
    names = f"c{one.colour}{' pale' if one.pale else ''}{' dashed' if one.dashed else ''}"
    shape = f'<line class="line {names}" x1="0" x2="22" y1="6" y2="6"/>'
    if bars:
        shape = f'<rect class="bar {names}" x="5" y="0" width="12" height="12"/>'
    elif not one.pale and not one.band:
        shape += f'<circle class="dot c{one.colour}" cx="11" cy="6" r="3"/>'
    return _swatch_svg(shape)


def _swatch_svg(shape: str) -> str:
    return f'<svg class="swatch" viewBox="0 0 22 12">{shape}</svg>'
