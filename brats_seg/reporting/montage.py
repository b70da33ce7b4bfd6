"""Pictures of a case: a montage of planes and modalities, or one panel alone. Scenes in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import UsageError
from brats_seg.evaluation.overlap import mask_of_labels
from brats_seg.reporting.legend import Legend, legend_of
from brats_seg.reporting.overlay import (
    ERROR_COLORS,
    PREDICTION_COLOR,
    REFERENCE_COLOR,
    Color,
    Cut,
    Marks,
    draw_errors,
    draw_image,
    draw_labels,
    draw_marks,
    draw_outline,
    label_colors,
)
from brats_seg.reporting.planes import PLANES
from brats_seg.reporting.scenes import MODALITY_TITLES, Scene
from brats_seg.reporting.sheets import THEMES, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Look", "draw_montage", "draw_overlay", "draw_slice"]

_GAP_MM = 0.6
_EDGE_MM = 1.0
_HEAD_MM = 5.0
"""Heading of a sheet."""
_TITLE_MM = 4.0
"""Title over a column of panels."""
_WIDEST_ROW = 4
"""Panels beside each other where one plane is shown."""


@dataclass(frozen=True)
class Look:
    """How pictures look, whatever they show."""

    palette: str = "safe"
    theme: str = "light"
    is_zoomed: bool = False
    """Show the surroundings of the tumour instead of the brain."""
    width_mm: float | None = None
    """None = two columns of a journal (180 mm) for a montage, one (88 mm) for a single panel."""


@dataclass(frozen=True)
class _Column:
    title: str
    draw: Callable[[Axes, Cut], None]


def draw_montage(
    scene: Scene, *, planes: Sequence[str] = PLANES, choice: str | int = "auto", look: Look | None = None
) -> Figure:
    """Return a figure with a row for each plane: all modalities, the label maps, and where they differ.

    Args:
        scene: the case.
        planes: rows; one plane alone is wrapped into rows of four panels.
        choice: which slice, see `Scene.index`; each plane takes its own.
        look: colours and size.
    """
    look = look or Look()
    cuts = [_cut(scene, plane, choice, look) for plane in planes]
    colors = label_colors(scene.edition, look.palette)
    columns = _columns(scene, colors)
    rows = [[(one, column) for column in columns] for one in cuts]
    if len(rows) == 1:
        num = math.ceil(len(columns) / math.ceil(len(columns) / _WIDEST_ROW))
        rows = [rows[0][start : start + num] for start in range(0, len(columns), num)]
    errors = ERROR_COLORS if len(scene.label_maps) == 2 else None
    legend = legend_of(scene, fills=colors if scene.label_maps else {}, errors=errors)
    return _sheet(scene, rows, look, look.width_mm or 180.0, legend)


def draw_slice(
    scene: Scene,
    *,
    plane: str = "axial",
    modality: str | None = None,
    choice: str | int = "auto",
    look: Look | None = None,
) -> Figure:
    """Return a figure of one slice with the outlines of all regions: the reference's white, the prediction's orange."""
    return _single(scene, plane, modality, choice, look or Look(), is_filled=False)


def draw_overlay(
    scene: Scene,
    *,
    plane: str = "axial",
    modality: str | None = None,
    choice: str | int = "auto",
    look: Look | None = None,
) -> Figure:
    """Return a figure of one slice with the prediction's labels filled, and the reference's regions outlined in white.

    Where there is only one label map, that one is filled.
    """
    return _single(scene, plane, modality, choice, look or Look(), is_filled=True)


def _cut(scene: Scene, plane: str, choice: str | int, look: Look) -> Cut:
    return Cut(scene, plane, scene.index(plane, choice), scene.tumor_box if look.is_zoomed else scene.box)


def _columns(scene: Scene, colors: Mapping[str, Color]) -> list[_Column]:
    """Return what a montage shows of each slice, from left to right."""
    columns = [_Column(MODALITY_TITLES[one], partial(draw_image, modality=one)) for one in scene.images]
    for what, label_map in scene.label_maps.items():
        columns.append(_Column(what.capitalize(), partial(_draw_filled, label_map=label_map, colors=colors)))
    if len(scene.label_maps) == 2:
        columns.append(_Column("Difference", _draw_difference))
    return columns


def _draw_filled(axis: Axes, slice_: Cut, label_map: NDArray[np.uint8], colors: Mapping[str, Color]) -> None:
    draw_image(axis, slice_, slice_.scene.main)
    draw_labels(axis, slice_, label_map, colors)


def _draw_difference(axis: Axes, slice_: Cut) -> None:
    draw_image(axis, slice_, slice_.scene.main)
    draw_errors(axis, slice_)
    reference = slice_.of(slice_.scene.label_maps["reference"]) > 0
    draw_outline(axis, reference, slice_.spacing_mm, REFERENCE_COLOR, width=0.5)


def _draw_regions(axis: Axes, slice_: Cut, which: str, color: Color) -> None:
    """Outline every region of a label map."""
    labels = slice_.of(slice_.scene.label_maps[which])
    for values in slice_.scene.edition.regions.values():
        draw_outline(axis, mask_of_labels(labels, values), slice_.spacing_mm, color)


def _single(
    scene: Scene, plane: str, modality: str | None, choice: str | int, look: Look, *, is_filled: bool
) -> Figure:
    modality = scene.main if modality is None else modality
    if modality not in scene.images:
        raise UsageError(f"case {scene.name}: no {modality} to draw (found: {', '.join(scene.images)})")
    fills = label_colors(scene.edition, look.palette) if is_filled and scene.label_maps else {}
    filled = list(scene.label_maps)[-1] if fills else None
    lines = {what: _LINE_COLORS[what] for what in scene.label_maps if what != filled}

    def draw(axis: Axes, slice_: Cut) -> None:
        draw_image(axis, slice_, modality)
        if filled is not None:
            draw_labels(axis, slice_, scene.label_maps[filled], fills)
        for what, color in lines.items():
            _draw_regions(axis, slice_, what, color)

    legend = legend_of(scene, fills=fills, lines=lines)
    rows = [[(_cut(scene, plane, choice, look), _Column("", draw))]]
    text = f"{MODALITY_TITLES[modality]}"
    return _sheet(scene, rows, look, look.width_mm or 88.0, legend, text)


_LINE_COLORS = {"reference": REFERENCE_COLOR, "prediction": PREDICTION_COLOR}


def _sheet(
    scene: Scene,
    rows: Sequence[Sequence[tuple[Cut, _Column]]],
    look: Look,
    width_mm: float,
    legend: Legend,
    text: str = "",
) -> Figure:
    """Place panels in a grid of one scale, with the heading above and the legend below."""
    num = max(map(len, rows))
    panel_mm = (width_mm - 2 * _EDGE_MM - (num - 1) * _GAP_MM) / num
    body_mm = max(one.size_mm[1] for row in rows for one, _ in row)
    scale = panel_mm / body_mm
    heights = [max(one.size_mm[0] for one, _ in row) * scale for row in rows]
    titles = [
        index == 0 or [c.title for _, c in rows[0]] != [c.title for _, c in row] for index, row in enumerate(rows)
    ]
    titles = [has and bool(row[0][1].title) for has, row in zip(titles, rows, strict=True)]
    inner = width_mm - 2 * _EDGE_MM
    legend_mm = legend.height_mm(inner)
    height_mm = _HEAD_MM + sum(heights) + sum(titles) * _TITLE_MM + (len(rows) - 1) * _GAP_MM + _EDGE_MM
    sheet = Sheet(width_mm, height_mm + (legend_mm + 1.5 if legend_mm else 0), THEMES[look.theme])
    _draw_heading(sheet, scene)
    top = _HEAD_MM
    for row, height, has_titles in zip(rows, heights, titles, strict=True):
        top += _TITLE_MM * has_titles
        for number, (one, column) in enumerate(row):
            left = _EDGE_MM + number * (panel_mm + _GAP_MM)
            if has_titles:
                sheet.text(left + panel_mm / 2, top - 0.9, column.title, 7, ha="center", va="baseline")
            axis = sheet.panel(left, top, panel_mm, height)
            column.draw(axis, one)
            _center(axis, one, body_mm, height / scale)
            is_first = number == 0
            marks = Marks(
                text=" ".join(filter(None, (text, one.title()))) if is_first else "",
                is_sided=is_first,
                bar_mm=_bar_mm(body_mm) if is_first else 0.0,
            )
            draw_marks(axis, one, marks)
        top += height + _GAP_MM
    legend.draw(sheet, _EDGE_MM, top + 0.5, inner)
    return sheet.figure


def _center(axis: Axes, slice_: Cut, width_mm: float, height_mm: float) -> None:
    """Show a slice in the middle of a panel of that size of the body."""
    height, width = slice_.size_mm
    across, down = (width_mm - width) / 2, (height_mm - height) / 2
    axis.set(xlim=(-across, width + across), ylim=(height + down, -down))


def _bar_mm(body_mm: float) -> float:
    """Return the longest of a few round lengths that fills at most a third of a panel."""
    return max((length for length in (50.0, 20.0, 10.0, 5.0, 2.0, 1.0) if length <= body_mm / 3), default=1.0)


def _draw_heading(sheet: Sheet, scene: Scene) -> None:
    room = sheet.width_mm - 2 * _EDGE_MM
    sheet.text(_EDGE_MM, 1.2, scene.name, 7.5, fontweight="bold")
    if len(scene.name) * 1.7 + len(scene.edition.title) * 1.3 + 4 < room:
        sheet.text(sheet.width_mm - _EDGE_MM, 1.3, scene.edition.title, 6.5, ha="right", color=sheet.theme.faint)
