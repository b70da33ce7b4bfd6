"""Pictures of a case: a montage of planes and modalities, or one panel alone. Subjects in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import UsageError, did_you_mean
from brats_seg.reporting.pictures.legend import Legend, legend_of, titled
from brats_seg.reporting.pictures.overlay import (
    ERROR_COLORS,
    LINE_COLORS,
    Color,
    Cut,
    Marks,
    draw_errors,
    draw_image,
    draw_labels,
    draw_marks,
    draw_outline,
    draw_regions,
    fit_panel,
    label_colors,
    scale_bar_mm,
)
from brats_seg.reporting.pictures.sheets import EDGE_MM, HEAD_MM, THEMES, Sheet
from brats_seg.reporting.pictures.subjects import MODALITY_TITLES, Subject
from brats_seg.reporting.planes import PLANES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "Look",
    "Painter",
    "cut_of",
    "draw_case",
    "draw_montage",
    "draw_overlay",
    "draw_slice",
    "painter_of",
]

KINDS = ("montage", "slice", "overlay")
"""Pictures that do not move."""

_GAP_MM = 0.6
_TITLE_MM = 4.0
"""Title over a column of panels."""
_WIDEST_PANEL_MM = 45.0
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
    """None = up to two columns of a journal (180 mm) for a montage, one (88 mm) for a single panel."""


@dataclass(frozen=True)
class _Column:
    title: str
    draw: Callable[[Axes, Cut], None]


def draw_case(
    subject: Subject,
    *,
    kind: str = "montage",
    plane: str | None = None,
    modality: str | None = None,
    choice: str | int = "auto",
    look: Look | None = None,
) -> Figure:
    """Return a figure of a kind that is named: `montage`, `slice` or `overlay`.

    Args:
        subject: the case.
        kind: one of `KINDS`.
        plane: None = all three of a montage, else axial.
        modality: of slice and overlay; None = the subject's main one.
        choice: which slice, see `Subject.index`.
        look: colours and size.

    Raises:
        UsageError: an unknown name, or a number of a slice without a plane.
    """
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r} is unknown{did_you_mean(kind, KINDS)}")
    if kind == "montage":
        if plane is None and choice not in ("auto", "worst"):
            raise UsageError(f"slice {choice}: of which plane? name one of {', '.join(PLANES)}")
        return draw_montage(subject, planes=PLANES if plane is None else (plane,), choice=choice, look=look)
    draw = draw_slice if kind == "slice" else draw_overlay
    return draw(subject, plane=plane or "axial", modality=modality, choice=choice, look=look)


def draw_montage(
    subject: Subject, *, planes: Sequence[str] = PLANES, choice: str | int = "auto", look: Look | None = None
) -> Figure:
    """Return a figure with a row for each plane: all modalities, the label maps, and where they differ.

    Args:
        subject: the case.
        planes: rows; one plane alone is wrapped into rows of four panels.
        choice: which slice, see `Subject.index`; each plane takes its own.
        look: colours and size.
    """
    look = look or Look()
    cuts = [cut_of(subject, plane, choice, look) for plane in planes]
    colors = label_colors(subject.edition, look.palette)
    columns = _columns(subject, colors)
    if len(planes) == 1 and len(subject.label_maps) == 2:
        columns.append(_Column("Outlines", painter_of(subject, _second(subject), look, is_filled=False).draw))
    rows = [[(one, column) for column in columns] for one in cuts]
    if len(rows) == 1:
        num = math.ceil(len(columns) / math.ceil(len(columns) / _WIDEST_ROW))
        rows = [rows[0][start : start + num] for start in range(0, len(columns), num)]
    errors = ERROR_COLORS if len(subject.label_maps) == 2 else None
    lines = LINE_COLORS if len(subject.label_maps) == 2 and len(planes) == 1 else None
    legend = legend_of(subject, fills=colors if subject.label_maps else {}, errors=errors, lines=lines)
    width_mm = look.width_mm or min(180.0, _WIDEST_PANEL_MM * max(map(len, rows)))
    return _sheet(subject, rows, look, width_mm, legend)


def draw_slice(
    subject: Subject,
    *,
    plane: str = "axial",
    modality: str | None = None,
    choice: str | int = "auto",
    look: Look | None = None,
) -> Figure:
    """Return a figure of one slice with the outlines of all regions: the reference's blue, the prediction's orange."""
    return _single(subject, plane, modality, choice, look or Look(), is_filled=False)


def draw_overlay(
    subject: Subject,
    *,
    plane: str = "axial",
    modality: str | None = None,
    choice: str | int = "auto",
    look: Look | None = None,
) -> Figure:
    """Return a figure of one slice with the prediction's labels filled, and the reference's regions outlined in blue.

    Where there is only one label map, that one is filled.
    """
    return _single(subject, plane, modality, choice, look or Look(), is_filled=True)


def cut_of(subject: Subject, plane: str, choice: str | int, look: Look) -> Cut:
    """Return the slice that a choice means (see `Subject.index`), cropped to the brain or the tumour."""
    return Cut(subject, plane, subject.index(plane, choice), subject.tumor_box if look.is_zoomed else subject.box)


def _second(subject: Subject) -> str:
    """Return the modality that shows most beside the main one: FLAIR, where the oedema is bright."""
    return "flair" if "flair" in subject.images else subject.main


def _columns(subject: Subject, colors: Mapping[str, Color]) -> list[_Column]:
    """Return what a montage shows of each slice, from left to right."""
    columns = [_Column(MODALITY_TITLES[one], partial(draw_image, modality=one)) for one in subject.images]
    for what, label_map in subject.label_maps.items():
        columns.append(_Column(what.capitalize(), partial(_draw_filled, label_map=label_map, colors=colors)))
    if len(subject.label_maps) == 2:
        columns.append(_Column("Difference", _draw_difference))
    return columns


def _draw_filled(axis: Axes, slice_: Cut, label_map: NDArray[np.uint8], colors: Mapping[str, Color]) -> None:
    draw_image(axis, slice_, slice_.subject.main)
    draw_labels(axis, slice_, label_map, colors)


def _draw_difference(axis: Axes, slice_: Cut) -> None:
    draw_image(axis, slice_, slice_.subject.main)
    draw_errors(axis, slice_)
    reference = slice_.of(slice_.subject.label_maps["reference"]) > 0
    draw_outline(axis, reference, slice_.spacing_mm, LINE_COLORS["reference"], width=0.5)


@dataclass(frozen=True)
class Painter:
    """What draws one panel with label maps over an image, and its legend."""

    subject: Subject
    modality: str
    fills: Mapping[str, Color]
    """Label name -> colour; empty where nothing is filled."""

    @property
    def filled(self) -> str | None:
        """The label map that is filled: the prediction if there is one."""
        return list(self.subject.label_maps)[-1] if self.fills else None

    @property
    def outlined(self) -> list[str]:
        """The label maps whose regions are outlined."""
        return [what for what in self.subject.label_maps if what != self.filled]

    def draw(self, axis: Axes, slice_: Cut) -> None:
        """Draw image, fills and outlines of a slice."""
        draw_image(axis, slice_, self.modality)
        if self.filled is not None:
            draw_labels(axis, slice_, self.subject.label_maps[self.filled], self.fills)
        for what in self.outlined:
            draw_regions(axis, slice_, what)

    def legend(self, lines: Sequence[str] | None = None) -> Legend:
        """Return what stands below the picture; `lines` are the label maps that have lines (None = the outlined)."""
        names = self.outlined if lines is None else lines
        return legend_of(self.subject, fills=self.fills, lines={what: LINE_COLORS[what] for what in names})


def painter_of(subject: Subject, modality: str | None, look: Look, *, is_filled: bool) -> Painter:
    """Return what draws a panel of a modality (None = the subject's main one).

    Raises:
        UsageError: the subject has no such modality.
    """
    modality = subject.main if modality is None else modality
    if modality not in subject.images:
        raise UsageError(f"case {subject.name}: no {modality} to draw (found: {', '.join(subject.images)})")
    return Painter(
        subject, modality, label_colors(subject.edition, look.palette) if is_filled and subject.label_maps else {}
    )


def _single(
    subject: Subject, plane: str, modality: str | None, choice: str | int, look: Look, *, is_filled: bool
) -> Figure:
    painter = painter_of(subject, modality, look, is_filled=is_filled)
    rows = [[(cut_of(subject, plane, choice, look), _Column("", painter.draw))]]
    text = f"{MODALITY_TITLES[painter.modality]}, "
    return _sheet(subject, rows, look, look.width_mm or 88.0, painter.legend(), text)


def _sheet(
    subject: Subject,
    rows: Sequence[Sequence[tuple[Cut, _Column]]],
    look: Look,
    width_mm: float,
    legend: Legend,
    text: str = "",
) -> Figure:
    """Place panels in a grid of one scale, with the heading above and the legend below."""
    num = max(map(len, rows))
    panel_mm = (width_mm - 2 * EDGE_MM - (num - 1) * _GAP_MM) / num
    body_mm = max(one.size_mm[1] for row in rows for one, _ in row)
    scale = panel_mm / body_mm
    heights = [max(one.size_mm[0] for one, _ in row) * scale for row in rows]
    titles = [
        index == 0 or [c.title for _, c in rows[0]] != [c.title for _, c in row] for index, row in enumerate(rows)
    ]
    titles = [has and bool(row[0][1].title) for has, row in zip(titles, rows, strict=True)]
    inner = width_mm - 2 * EDGE_MM
    legend_mm = legend.height_mm(inner)
    height_mm = HEAD_MM + sum(heights) + sum(titles) * _TITLE_MM + (len(rows) - 1) * _GAP_MM + EDGE_MM
    sheet = Sheet(width_mm, height_mm + (legend_mm + 1.5 if legend_mm else 0), THEMES[look.theme])
    sheet.heading(subject.name, subject.edition.title)
    top = HEAD_MM
    for row, height, has_titles in zip(rows, heights, titles, strict=True):
        top += _TITLE_MM * has_titles
        for number, (one, column) in enumerate(row):
            left = EDGE_MM + number * (panel_mm + _GAP_MM)
            if has_titles:
                sheet.text(left + panel_mm / 2, top - 0.9, column.title, 7, ha="center", va="baseline")
            axis = sheet.panel(left, top, panel_mm, height)
            column.draw(axis, one)
            fit_panel(axis, one, body_mm, height / scale)
            is_first = number == 0
            marks = Marks(
                text=titled(text + one.title()) if is_first else "",
                is_sided=is_first,
                bar_mm=scale_bar_mm(body_mm) if is_first else 0.0,
            )
            draw_marks(axis, one, marks)
        top += height + _GAP_MM
    legend.draw(sheet, EDGE_MM, top + 0.5, inner)
    return sheet.figure
