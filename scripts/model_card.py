"""Make the charts of docs/starter-model.md and docs/results.md: numbers alone, no voxel of a case.

    python scripts/model_card.py cases EVALUATION PICTURE [CASE=TEXT ...]
    python scripts/model_card.py curves PICTURE NAME=RUN [NAME=RUN ...]

cases    predicted against true volume of every case and region, coloured by Dice; the cases named are written beside
curves   training loss and Dice of the held-out cases, over the voxels that a run has seen
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from brats_seg.inference.predict import read_run_config
from brats_seg.reporting.pictures.sheets import save_figure

REGIONS = ("ET", "TC", "WT")
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
"""Told apart whatever the colour vision (Okabe and Ito 2008)."""
FAINT = "#eceff1"
SMALLEST_ML = 0.1
TICKS = (1.0, 3.0)
BILLION = 1e9


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw_cases(evaluation: Path, names: Mapping[str, str]) -> Figure:
    """Return the picture of all cases: a panel a region, a dot a case."""
    rows = read_rows(evaluation / "cases.csv")
    figure = Figure(figsize=(9.2, 3.1), layout="constrained")
    panels = figure.subplots(1, len(REGIONS))
    for axis, region in zip(panels, REGIONS, strict=True):
        own = [row for row in rows if row["region"] == region]
        dots = draw_volumes(axis, region, own, names)
    panels[0].set_ylabel("predicted, ml")
    figure.colorbar(dots, ax=panels, label="Dice", shrink=0.8, pad=0.01)
    return figure


def draw_volumes(
    axis: Axes, region: str, rows: Sequence[Mapping[str, str]], names: Mapping[str, str]
) -> PathCollection:
    """Draw one region, and return the dots for their colour bar; the band is half to twice the true volume."""
    true = [max(float(row["reference_ml"]), SMALLEST_ML) for row in rows]
    found = [max(float(row["prediction_ml"]), SMALLEST_ML) for row in rows]
    ends = [0.7 * min(true + found), 1.5 * max(true + found)]
    axis.fill_between(ends, [end / 2 for end in ends], [end * 2 for end in ends], color=FAINT, linewidth=0)
    axis.plot(ends, ends, color="#78909c", linewidth=0.8)
    dice = [float(row["dice"]) for row in rows]
    dots = axis.scatter(true, found, c=dice, cmap="viridis", vmin=0, vmax=1, s=34, edgecolor="white", zorder=3)
    for row, across, up in zip(rows, true, found, strict=True):
        if row["case"] in names:
            axis.annotate(names[row["case"]], (across, up), xytext=(5, -9), textcoords="offset points", fontsize=8)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal", xlabel="reference, ml", title=region)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=TICKS))
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
        side.set_minor_formatter(NullFormatter())
    return dots


def draw_curves(runs: Mapping[str, Path]) -> Figure:
    """Return the picture of several trainings."""
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    loss, dice = figure.subplots(1, 2, sharex=True)
    for color, (name, run) in zip(COLORS, runs.items(), strict=False):
        for axis, column, style in ((loss, "loss", {}), (dice, "dice_mean", {"marker": "o", "markersize": 4})):
            axis.plot(*curve(run, column), color=color, linewidth=1.4, label=name, **style)
    for axis, what in ((loss, "training loss"), (dice, "mean Dice, held-out cases")):
        axis.set(xscale="log", xlabel="voxels seen, billions", ylabel=what)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.grid(color=FAINT)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def curve(run: Path, column: str) -> tuple[list[float], list[float]]:
    """Return billions of voxels seen, and what a column of `metrics.csv` says then; the first step is left out."""
    train = read_run_config(run).train
    voxels = math.prod(train.patch) * train.batch / BILLION
    rows = [row for row in read_rows(run / "metrics.csv")[1:] if row[column]]
    return [int(row["step"]) * voxels for row in rows], [float(row[column]) for row in rows]


def main() -> None:
    """Draw what was asked for."""
    kind, *words = sys.argv[1:] or ["help"]
    if kind == "cases" and len(words) > 1:
        names = dict(word.split("=", 1) for word in words[2:])
        save_figure(draw_cases(Path(words[0]), names), Path(words[1]), dpi=120)
    elif kind == "curves" and len(words) > 1:
        runs = {name: Path(run) for name, run in (word.split("=", 1) for word in words[1:])}
        save_figure(draw_curves(runs), Path(words[0]), dpi=120)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
