"""Curves of a report, as SVG text: calibration, precision against recall, training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from brats_seg.reporting.html.sources import Calibration, Curve, TrainingRun
from brats_seg.reporting.html.svg import NUM_COLORS, Chart, Scale

__all__ = [
    "draw_loss",
    "draw_precision_recall",
    "draw_reliability",
    "draw_validation",
    "draw_validation_of_run",
    "validated_regions",
]

_WIDTH, _HEIGHT = 350.0, 268.0
_TOP, _BOTTOM, _LEFT, _RIGHT = 34.0, 40.0, 44.0, 12.0
_NAMES = 40.0
_MOST_DOTS = 40
"""Points of a training curve that are drawn as dots, too; more would be a thick line."""
_MOST_POINTS = 300
"""Points of a drawn curve; longer ones are thinned evenly, the last point kept."""

Points = Sequence[tuple[float, float]]


def draw_reliability(curves: Sequence[Calibration | None], region: str, series: int = 0) -> Markup:
    """Return observed share over predicted probability of a region, a curve an evaluation; the diagonal is perfect."""
    chart = _unit_chart(
        region, f"Reliability of the probabilities of {region}", "predicted probability", "observed share"
    )
    chart.path([(_LEFT, _HEIGHT - _BOTTOM), (_WIDTH - _RIGHT, _TOP)], "zero")
    _draw_unit_curves(chart, curves, lambda one: one.reliability.get(region), series, has_points=True)
    return chart.svg


def draw_precision_recall(curves: Sequence[Calibration | None], region: str, series: int = 0) -> Markup:
    """Return precision over recall of a region, a curve an evaluation."""
    chart = _unit_chart(region, f"Precision over recall of {region}", "recall", "precision")
    _draw_unit_curves(chart, curves, lambda one: one.precision_recall.get(region), series, has_points=False)
    return chart.svg


def validated_regions(runs: Iterable[TrainingRun]) -> list[str]:
    """Return the regions whose Dice any of the runs logged, in their order; `mean` is none of them."""
    names = [column.removeprefix("dice_") for run in runs for column in run.curves if column.startswith("dice_")]
    return [name for name in dict.fromkeys(names) if name != "mean"]


def draw_loss(runs: Sequence[TrainingRun]) -> Markup:
    """Return the training loss over the steps, a line a run."""
    curves = [run.curves.get("loss") for run in runs]
    every = [value for own in curves if own for value in own[1]] or [1.0]
    y = Scale(min(0.0, *every), max(every) * 1.05 or 1.0, _HEIGHT - _BOTTOM, _TOP)
    return _draw_training(curves, y, "", "training loss")


def draw_validation(runs: Sequence[TrainingRun], region: str) -> Markup:
    """Return the held-out Dice of a region over the steps, a line a run."""
    curves = [run.curves.get(f"dice_{region}") for run in runs]
    return _draw_training(curves, Scale(0, 1, _HEIGHT - _BOTTOM, _TOP), region, "held-out Dice")


def draw_validation_of_run(run: TrainingRun, regions: Sequence[str]) -> Markup:
    """Return the held-out Dice over the steps of a single run, a line a region, named at its end."""
    curves = [run.curves.get(f"dice_{region}") for region in regions]
    y = Scale(0, 1, _HEIGHT - _BOTTOM, _TOP)
    return _draw_training(curves, y, "", "held-out Dice", names=regions)


def _draw_training(
    curves: Sequence[Curve | None], y: Scale, title: str, axis: str, *, names: Sequence[str] = ()
) -> Markup:
    steps = [step for own in curves if own for step in own[0]]
    right = _WIDTH - (_NAMES if names else _RIGHT)
    x = Scale(0, max([1.0, *steps]), _LEFT, right)
    chart = Chart(_WIDTH, _HEIGHT, f"{axis} {title} over the steps of training")
    chart.heading(title, axis)
    chart.x_axis(x, _TOP, _HEIGHT - _BOTTOM, "step")
    chart.y_axis(y, _LEFT, right)
    lowest = 0.0
    ends = sorted((y(own[1][-1]), number) for number, own in enumerate(curves) if own)
    for place, number in ends if names else ():
        lowest = max(place + 4, lowest + 13)  # below the name above it
        chart.text(right + 6, lowest, names[number], "v", "start")
    for number, own in enumerate(curves):
        points = _thinned([(x(step), y(value)) for step, value in zip(*own, strict=True)]) if own else []
        chart.path(points, f"curve s{number % NUM_COLORS}")
        if len(points) <= _MOST_DOTS:
            _draw_points(chart, points, number)
    return chart.svg


def _unit_chart(title: str, label: str, x_title: str, y_title: str) -> Chart:
    chart = Chart(_WIDTH, _HEIGHT, label)
    chart.heading(title, y_title)
    chart.x_axis(Scale(0, 1, _LEFT, _WIDTH - _RIGHT), _TOP, _HEIGHT - _BOTTOM, x_title)
    chart.y_axis(Scale(0, 1, _HEIGHT - _BOTTOM, _TOP), _LEFT, _WIDTH - _RIGHT)
    return chart


def _draw_unit_curves(
    chart: Chart,
    curves: Sequence[Calibration | None],
    pick: Callable[[Calibration], tuple[Sequence[float], Sequence[float]] | None],
    series: int,
    *,
    has_points: bool,
) -> None:
    """Draw a curve an evaluation over 0 to 1; a single one has the colour `series`."""
    x, y = Scale(0, 1, _LEFT, _WIDTH - _RIGHT), Scale(0, 1, _HEIGHT - _BOTTOM, _TOP)
    for number, one in enumerate(curves):
        own = None if one is None else pick(one)
        points = [(x(first), y(second)) for first, second in zip(*own, strict=True)] if own else []
        color = series if len(curves) == 1 else number
        chart.path(_thinned(points), f"curve s{color % NUM_COLORS}")
        if has_points:
            _draw_points(chart, points, color)


def _draw_points(chart: Chart, points: Points, series: int) -> None:
    for x, y in points:
        chart.parts.append(f'<circle class="p s{series % NUM_COLORS}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')


def _thinned(points: Points) -> Points:
    if len(points) <= _MOST_POINTS:
        return points
    step = len(points) / _MOST_POINTS
    return [*(points[int(number * step)] for number in range(_MOST_POINTS)), points[-1]]
