"""Figures drawn with matplotlib. Nothing here imports torch."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

from brats_seg.files import atomic_file

__all__ = ["can_draw", "draw_training_curves"]

_COLORS = {"ET": "#0072b2", "TC": "#d55e00", "WT": "#009e73", "mean": "#444444"}
"""Colour-blind safe (Okabe and Ito)."""


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_training_curves(metrics: Path, target: Path) -> None:
    """Draw loss, validation Dice, learning rate and speed over the steps, from a run's metrics.csv, as a PNG.

    Does nothing while metrics.csv has no rows.
    """
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (optional, slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    steps = [int(row["step"]) for row in rows]
    for axis, column, title in (
        (axes[0], "loss", "training loss (Dice + cross-entropy)"),
        (axes[2], "learning_rate", "learning rate"),
        (axes[3], "patches_per_second", "patches a second"),
    ):
        axis.plot(steps, [float(row[column]) for row in rows], color="#444444", linewidth=1)
        axis.set_title(title, fontsize=10)
    validated = [row for row in rows if row["dice_mean"]]
    for column in (name for name in rows[0] if name.startswith("dice_")):
        region = column.removeprefix("dice_")
        style = {"linestyle": "--"} if region == "mean" else {}
        values = [float(row[column]) for row in validated]
        places = [int(row["step"]) for row in validated]
        axes[1].plot(places, values, marker="o", markersize=3, label=region, color=_COLORS.get(region), **style)
    axes[1].set(title="mean Dice of the held-out cases", ylim=(0, 1))
    axes[1].title.set_fontsize(10)
    if validated:
        axes[1].legend(loc="best", fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[2:]:
        axis.set_xlabel("step")
    with atomic_file(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
