"""Figures drawn with matplotlib. Nothing here imports torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["can_draw", "draw_training_curves"]

_COLORS = {"ET": "#0072b2", "TC": "#d55e00", "WT": "#009e73", "mean": "#444444"}
"""Colour-blind safe (Okabe and Ito)."""


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_training_curves(metrics: Path, target: Path) -> None:
    """Draw loss, held-out Dice and IoU, learning rate and speed over the steps, from a run's metrics.csv, as a PNG.

    Does nothing while metrics.csv has no rows.
    """
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (optional, slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(14, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, sharex=True).ravel()
    for axis, column, title in (
        (axes[0], "loss", "training loss"),
        (axes[3], "learning_rate", "learning rate"),
        (axes[4], "patches_per_second", "patches a second"),
    ):
        axis.plot([int(row["step"]) for row in rows], [float(row[column]) for row in rows], color="#444444")
        axis.set_title(title)
    axes[4].set_ylim(bottom=0)
    _draw_scores(axes[1], rows, "dice_", "mean Dice of the held-out cases")
    _draw_scores(axes[2], rows, "iou_", "mean IoU of the held-out cases")
    axes[5].axis("off")
    lines, names = axes[1].get_legend_handles_labels()
    if lines:
        axes[5].legend(lines, names, loc="upper left", frameon=False, title="last validation: Dice", title_fontsize=12)
    for axis in axes[:5]:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[2:5]:
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
    with atomic_file(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _draw_scores(axis: Axes, rows: Sequence[dict[str, str]], prefix: str, title: str) -> None:
    """Draw a line for each column that begins with `prefix`, over the rows that have a validation."""
    for column in (name for name in rows[0] if name.startswith(prefix)):
        validated = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        if validated:
            region = column.removeprefix(prefix)
            places, values = zip(*validated, strict=True)
            style = "--" if region == "mean" else "-"
            label = f"{region}  {values[-1]:.3f}"
            axis.plot(places, values, marker="o", markersize=4, label=label, color=_COLORS.get(region), linestyle=style)
    axis.set(title=title, ylim=(0, 1))
