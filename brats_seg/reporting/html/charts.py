"""Charts of cases, as SVG text: how scores are distributed, what they depend on, whether volumes agree.

In: evaluations read back from their folders. Every case is a mark that carries its place in the list of cases
(`data-c`), by which the page tells its name. Where one evaluation is shown regions have the series colours, where
there are several evaluations have them, and marks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from brats_seg.evaluation.saved import SavedEvaluation
from brats_seg.evaluation.summary import statistics_of
from brats_seg.reporting.html.svg import NUM_COLORS, Chart, Scale, number_text, rounded_out, swarm

__all__ = ["draw_agreement", "draw_by_volume", "draw_distribution", "letter_of"]

_WIDE, _PANEL, _PANEL_HEIGHT = 470.0, 350.0, 268.0
_ROW, _GROUP_GAP = 44.0, 10.0
_TOP, _BOTTOM, _LEFT, _RIGHT = 34.0, 40.0, 44.0, 12.0
_LABELS, _LINE = 46.0, 12.0
_MINUS = "\N{MINUS SIGN}"
_SDS_TO_LIMIT = 1.96
"""Standard deviations from the bias to the limits of agreement."""
_PENALTY_FROM = 100.0
"""Distances that several cases share are called a penalty from here on."""


def letter_of(model: int) -> str:
    """Return the letter that stands for an evaluation where several are shown: A, B ... Z, AA ..."""
    return (letter_of(model // 26 - 1) if model >= 26 else "") + chr(ord("A") + model % 26)


def draw_distribution(evaluations: Sequence[SavedEvaluation], metric: str, title: str, *, is_distance: bool) -> Markup:
    """Return a row of dots a region and evaluation, one a case, over its quartiles; the median in words at its end."""
    first, num = evaluations[0], len(evaluations)
    rows = [(region, model) for region in range(len(first.regions)) for model in range(num)]
    left = 20.0 + 8 * max(map(len, first.regions)) + 20 * (num > 1)
    height = _TOP + len(rows) * _ROW + (len(first.regions) - 1) * _GROUP_GAP * (num > 1)
    values = [evaluations[model].columns[metric][:, region] for region, model in rows]
    scale = _distance_scale(values, left, _WIDE - 62) if is_distance else Scale(0, 1, left, _WIDE - 62)
    chart = Chart(_WIDE, height + 22, f"{title} of every case, by region")
    chart.x_axis(scale, _TOP - 4, height)
    chart.text(_WIDE - 2, _TOP - 12, "median", "t", "end")
    for number, ((region, model), own) in enumerate(zip(rows, values, strict=True)):
        middle = _TOP + _ROW * (number + 0.5) + _GROUP_GAP * region * (num > 1)
        if not model:
            chart.text(0, middle + 4, first.regions[region], "n", "start")
        if num > 1:
            chart.text(left - 10, middle + 4, letter_of(model), "t", "end")
        _draw_row(chart, scale, own, middle, region if num == 1 else model, digits=2 if is_distance else 3)
    return chart.svg


def draw_by_volume(evaluations: Sequence[SavedEvaluation], region: int) -> Markup:
    """Return the Dice of a region over its volume in the reference (logarithmic); cases without it are not shown."""
    first = evaluations[0]
    volumes = first.columns["reference_ml"][:, region]
    known = volumes[volumes > 0]
    low, high = rounded_out(float(known.min()), float(known.max())) if known.size else (1.0, 100.0)
    x = Scale(low, high, _LEFT, _PANEL - _RIGHT, "log")
    y = Scale(0, 1, _PANEL_HEIGHT - _BOTTOM, _TOP)
    name = first.regions[region]
    chart = _panel(name, "Dice", f"Dice of {name} of every case over its volume in the reference")
    chart.x_axis(x, _TOP, _PANEL_HEIGHT - _BOTTOM, "reference volume, ml")
    chart.y_axis(y, _LEFT, _PANEL - _RIGHT)
    for model, one in enumerate(evaluations):
        scores = one.columns["dice"][:, region]
        for case in np.flatnonzero((volumes > 0) & ~np.isnan(scores)).tolist():
            series, shape = (region, 0) if len(evaluations) == 1 else (model, model)
            chart.mark(x(float(volumes[case])), y(float(scores[case])), series, case, shape)
    return chart.svg


def draw_agreement(evaluations: Sequence[SavedEvaluation], region: int) -> Markup:
    """Return a Bland-Altman chart: predicted minus reference volume over their mean, with bias and limits of agreement.

    The limits are the bias +- 1.96 standard deviations over all cases; with several evaluations only each one's bias.
    """
    first = evaluations[0]
    name = first.regions[region]
    pairs = [tuple(one.columns[f"{what}_ml"][:, region] for what in ("reference", "prediction")) for one in evaluations]
    means = [(reference + prediction) / 2 for reference, prediction in pairs]
    differences = [prediction - reference for reference, prediction in pairs]
    spans = [_bias_and_limit(own) for own in differences]
    widest = max([float(np.abs(own).max()) for own in differences] + [limit + abs(bias) for bias, limit in spans])
    widest = widest * 1.08 or 1.0
    right = _PANEL - _LABELS
    x = Scale(0, max(float(own.max()) for own in means) * 1.05 or 1.0, _LEFT, right)
    y = Scale(-widest, widest, _PANEL_HEIGHT - _BOTTOM, _TOP)
    chart = _panel(name, f"prediction {_MINUS} reference, ml", f"Bland-Altman chart of the volume of {name}")
    chart.x_axis(x, _TOP, _PANEL_HEIGHT - _BOTTOM, "mean of both volumes, ml")
    chart.y_axis(y, _LEFT, right)
    chart.line((x.start, y(0)), (x.end, y(0)), "zero")
    several = len(evaluations) > 1
    for model, (own, mean) in enumerate(zip(differences, means, strict=True)):
        for case in range(len(own)):
            place = x(float(mean[case])), y(float(own[case]))
            chart.mark(*place, model if several else region, case, model if several else 0)
    if several:
        lines = [(bias, model, letter_of(model)) for model, (bias, _) in enumerate(spans)]
    else:
        bias, limit = spans[0]
        lines = [(bias, region, "")] + [(edge, region, "limit") for edge in (bias - limit, bias + limit)]
    _draw_lines(chart, x, y, lines)
    return chart.svg


def _draw_lines(chart: Chart, x: Scale, y: Scale, lines: Sequence[tuple[float, int, str]]) -> None:
    """Draw levels (value, series, letter or `limit`) with their values at the right, none on top of another."""
    lowest = 0.0
    for value, series, what in sorted(lines, key=lambda line: -line[0]):
        is_limit = what == "limit"
        chart.line((x.start, y(value)), (x.end, y(value)), f"bias s{series % NUM_COLORS}" + " limit" * is_limit)
        lowest = max(y(value) + 4, lowest + _LINE)
        words = f"{'' if is_limit else what} {value:+.1f}".strip().replace("-", _MINUS)
        chart.text(x.end + 6, lowest, words, "v", "start")


def _panel(title: str, axis: str, label: str) -> Chart:
    chart = Chart(_PANEL, _PANEL_HEIGHT, label)
    chart.heading(title, axis)
    return chart


def _bias_and_limit(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean, and 1.96 standard deviations of the sample (0 for a single case)."""
    sd = float(np.std(differences, ddof=1)) if differences.size > 1 else 0.0
    return float(differences.mean()), _SDS_TO_LIMIT * sd


def _draw_row(
    chart: Chart, scale: Scale, values: NDArray[np.float64], middle: float, series: int, *, digits: int
) -> None:
    cases = np.flatnonzero(~np.isnan(values)).tolist()
    if not cases:
        chart.text((scale.start + scale.end) / 2, middle + 4, "undefined in every case")
        return
    of = statistics_of(values)
    low, median, high = (math.inf if math.isnan(of[name]) else of[name] for name in ("q25", "median", "q75"))
    chart.box(scale(low), middle - 16, scale(high) - scale(low), 32, f"iqr s{series % NUM_COLORS}")
    places = [scale(float(values[case])) for case in cases]
    for case, place, offset in zip(cases, places, swarm(places, _ROW / 2 - 7), strict=True):
        chart.mark(place, middle + offset, series, case)
    chart.line((scale(median), middle - 18), (scale(median), middle + 18), f"median s{series % NUM_COLORS}")
    chart.text(_WIDE - 2, middle + 4, number_text(median) if math.isinf(median) else f"{median:.{digits}f}", "v", "end")


def _distance_scale(values: Sequence[NDArray[np.float64]], start: float, end: float) -> Scale:
    """Return an axis from 0, linear to 10, then logarithmic, with a tick at a penalty and one at infinity.

    A penalty is the largest finite value, where two cases or more have it.
    """
    every = np.concatenate([own[~np.isnan(own)] for own in values])
    finite = every[np.isfinite(every)]
    largest = float(finite.max()) if finite.size else 1.0
    is_penalty = largest > _PENALTY_FROM and np.count_nonzero(finite == largest) > 1
    has_infinity = finite.size < every.size
    high = max(largest * (1.6 if has_infinity else 1.05), 1.0)
    return Scale(0, high, start, end, "distance", (largest,) if is_penalty else (), has_infinity)
