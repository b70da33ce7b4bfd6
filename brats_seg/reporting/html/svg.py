"""Scales, axes and marks of hand-written SVG: text in, text out.

Charts are written by hand rather than drawn with matplotlib: a dot is 50 bytes in place of 150, colours are classes, so
that a page's own style sheet turns them dark or prints them, and every dot can carry its case's number. Coordinates
are user units, about a pixel; y points down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

__all__ = ["NUM_COLORS", "Chart", "Scale", "number_text", "rounded_out", "steps_between", "swarm"]

NUM_COLORS = 7
"""Colours of series that the page's style sheet has (`s0` to `s6`); then again from the first."""

_KNEE_MM = 10.0
"""Where a distance axis turns from linear to logarithmic."""
_KNEE_SHARE = 0.5
_RADIUS = 3.0


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis; values beyond its ends lie on them."""

    low: float
    high: float
    start: float
    """Place of `low`."""
    end: float
    """Place of `high`; smaller than `start` for an axis that points up."""
    kind: Literal["linear", "log", "distance"] = "linear"
    """`distance`: linear from 0 to 10, logarithmic beyond."""
    extra_ticks: tuple[float, ...] = ()
    """Values that get a tick whatever the others are, such as a penalty."""
    has_infinity: bool = False
    """Whether `high` is where infinite values lie, with a tick that says so."""

    def __call__(self, value: float) -> float:
        """Return the place of a value; infinity lies on the end, nan at `low`."""
        share = self._share(min(max(value, self.low), self.high)) if not math.isnan(value) else 0.0
        return self.start + share * (self.end - self.start)

    def _share(self, value: float) -> float:
        if self.high <= self.low:
            return 0.5
        if self.kind == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        if self.kind == "distance" and self.high > _KNEE_MM:
            if value <= _KNEE_MM:
                return _KNEE_SHARE * value / _KNEE_MM
            return _KNEE_SHARE + (1 - _KNEE_SHARE) * math.log(value / _KNEE_MM) / math.log(self.high / _KNEE_MM)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Values with their texts, so that no two texts lie on each other."""
        if self.kind == "log":
            values = [*_decades(self.low, self.high), *_decades(self.low, self.high, (2, 5))]
        elif self.kind == "distance" and self.high > _KNEE_MM:
            values = [0.0, 5.0, *_decades(_KNEE_MM, self.high, (1, 3))]
        else:
            values = steps_between(self.low, self.high)
        kept: list[float] = [math.inf] if self.has_infinity else []
        for value in (*self.extra_ticks, *values):
            is_free = all(abs(self(value) - self(other)) >= _gap_of(self, value, other) for other in kept)
            if self.low <= value <= self.high and is_free:
                kept.append(value)
        return [(value, number_text(value)) for value in sorted(kept)]


def _gap_of(scale: Scale, first: float, second: float) -> float:
    """Return how far two ticks' texts must be apart: more beside each other than on top of each other."""
    is_upright = scale.end < scale.start
    return 14.0 if is_upright else 4.0 + 3.5 * (len(number_text(first)) + len(number_text(second)))


def steps_between(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers (1, 2, 5 times a power of ten) from `low` to `high`, about `most` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float, factors: Sequence[int] = (1,)) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in every if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def rounded_out(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a logarithmic axis: 1, 2 or 5 times a power of ten, at or beyond both values (over 0)."""
    first = max(value for value in _decades(low / 10, low, (1, 2, 5)) if value <= low * (1 + 1e-9))
    last = min(value for value in _decades(high, high * 10, (1, 2, 5)) if value >= high * (1 - 1e-9))
    return first, last if last > first else first * 10


def number_text(value: float) -> str:
    """Return a number as an axis shows it: no needless digits, a true minus, `∞`."""
    if math.isinf(value):
        return "\N{MINUS SIGN}∞" if value < 0 else "∞"
    text = f"{value:.6g}" if abs(value) < 1e5 else f"{value / 1e3:,.6g}k"
    return text.replace("-", "\N{MINUS SIGN}")


def swarm(places: Sequence[float], room: float, radius: float = _RADIUS) -> list[float]:
    """Return an offset across the axis for each of the places, so that few dots hide others; within +-`room`."""
    offsets = [0.0] * len(places)
    taken: list[list[float]] = []
    step = 2 * radius
    for index in sorted(range(len(places)), key=lambda one: (places[one], one)):
        level = next((n for n, own in enumerate(taken) if places[index] - own[-1] >= step), len(taken))
        if level == len(taken):
            taken.append([])
        taken[level].append(places[index])
        offsets[index] = step * ((level + 1) // 2) * (1 if level % 2 else -1)
    widest = max(map(abs, offsets), default=0.0)
    shrink = min(1.0, room / widest) if widest else 1.0
    return [offset * shrink for offset in offsets]


@dataclass
class Chart:
    """A drawing that grows mark by mark; `svg` is its text."""

    width: float
    height: float
    label: str
    """What a reader who cannot see it is told."""
    parts: list[str] = field(default_factory=list)

    @property
    def svg(self) -> Markup:
        """The whole drawing."""
        head = f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="'
        return Markup(head) + self.label + Markup('">' + "".join(self.parts) + "</svg>")

    def line(self, start: tuple[float, float], end: tuple[float, float], css: str) -> None:
        """Draw a straight line."""
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<path class="{css}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def path(self, points: Iterable[tuple[float, float]], css: str) -> None:
        """Draw a line through points; nothing for fewer than two."""
        texts = [f"{x:.1f} {y:.1f}" for x, y in points]
        if len(texts) > 1:
            self.parts.append(f'<path class="{css}" d="M{"L".join(texts)}"/>')

    def box(self, left: float, top: float, width: float, height: float, css: str) -> None:
        """Draw a rectangle with round corners."""
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self.parts.append(f'<rect class="{css}" x="{left:.1f}" y="{top:.1f}" {size} rx="3"/>')

    def text(self, x: float, y: float, words: str, css: str = "t", anchor: str = "middle") -> None:
        """Write words; any text is safe."""
        own = "" if anchor == "middle" else f' style="text-anchor:{anchor}"'
        self.parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}"{own}>{escape(words)}</text>')

    def heading(self, title: str, axis: str) -> None:
        """Write a panel's title, and the name of the axis that points up, into its first line."""
        words = f'{escape(title)}<tspan class="a" dx="{8 if title else 0}">{escape(axis)}</tspan>'
        self.parts.append(f'<text class="n" x="0" y="13" style="text-anchor:start">{words}</text>')

    def mark(self, x: float, y: float, series: int, case: int, shape: int = 0) -> None:
        """Draw a dot (square, triangle, diamond) of a series' colour, with a case's place in the list of cases."""
        css = f'class="d s{series % NUM_COLORS}" data-c="{case}"'
        if shape % 4 == 0:
            self.parts.append(f'<circle {css} cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS:g}"/>')
            return
        outline = ("h5.4v5.4h-5.4z", "l3.4 -6.2l3.4 6.2z", "l3.6 -3.6l3.6 3.6l-3.6 3.6z")[shape % 4 - 1]
        left, down = ((2.7, -2.7), (3.4, 2.4), (3.6, 0.0))[shape % 4 - 1]
        self.parts.append(f'<path {css} d="M{x - left:.1f} {y + down:.1f}{outline}"/>')

    def x_axis(self, scale: Scale, top: float, bottom: float, title: str = "") -> None:
        """Draw ticks with texts below, faint lines through the chart, and a title under them."""
        for value, words in scale.ticks:
            place = scale(value)
            self.line((place, top), (place, bottom), "grid extra" if value in scale.extra_ticks else "grid")
            self.text(place, bottom + 15, words)
        if title:
            self.text((scale.start + scale.end) / 2, bottom + 32, title, "a")

    def y_axis(self, scale: Scale, left: float, right: float) -> None:
        """Draw ticks with texts at the left and faint lines through the chart."""
        for value, words in scale.ticks:
            place = scale(value)
            self.line((left, place), (right, place), "grid extra" if value in scale.extra_ticks else "grid")
            self.text(left - 7, place + 3.6, words, "t", "end")
