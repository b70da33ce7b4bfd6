"""What stands under a picture: whose colours are whose, volumes of each label, Dice of each region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brats_seg.reporting.overlay import Color
from brats_seg.reporting.scenes import Scene
from brats_seg.reporting.sheets import Sheet

__all__ = ["LINE_MM", "Legend", "legend_of"]

LINE_MM = 3.7
_SIZE_PT = 6.2
_SWATCH_MM = 2.2
_LETTER_MM = 1.3
"""Width of a letter, on average."""


@dataclass(frozen=True)
class _Entry:
    color: Color | None
    is_line: bool
    texts: tuple[str, ...]
    """One a line of its column; the first stands beside the colour."""
    is_number: bool = False

    @property
    def width_mm(self) -> float:
        return max(map(len, self.texts)) * _LETTER_MM + (_SWATCH_MM + 1.2 if self.color else 0.0)


@dataclass(frozen=True)
class Legend:
    """Groups of entries, each of which is a row or a table; groups go below each other where the width ends."""

    groups: tuple[tuple[_Entry, ...], ...]

    def height_mm(self, width_mm: float) -> float:
        """Return the height on a sheet of that width."""
        return sum(height for _, height in self._lines(width_mm))

    def draw(self, sheet: Sheet, left: float, top: float, width_mm: float) -> None:
        """Draw the legend with its top left corner at that place."""
        for groups, height in self._lines(width_mm):
            place = left
            for group in groups:
                place = _draw_group(sheet, group, place, top) + _GROUP_GAP_MM
            top += height

    def _lines(self, width_mm: float) -> list[tuple[list[tuple[_Entry, ...]], float]]:
        """Return the groups that stand beside each other, and their height."""
        lines: list[tuple[list[tuple[_Entry, ...]], float]] = []
        used = math.inf
        for group in self.groups:
            width, height = _width_of(group), max(len(entry.texts) for entry in group) * LINE_MM
            if used + _GROUP_GAP_MM + width > width_mm:
                lines.append(([group], height))
                used = width
            else:
                others, tallest = lines[-1]
                lines[-1] = ([*others, group], max(tallest, height))
                used += _GROUP_GAP_MM + width
        return lines


_GROUP_GAP_MM = 5.0
_ENTRY_GAP_MM = 3.0


def legend_of(
    scene: Scene,
    *,
    fills: Mapping[str, Color],
    lines: Mapping[str, Color] | None = None,
    errors: Mapping[str, Color] | None = None,
) -> Legend:
    """Return the legend of a picture.

    Args:
        scene: the case.
        fills: label name -> colour; empty where labels are not filled.
        lines: what an outline means -> colour.
        errors: what a filled error means -> colour.
    """
    groups: list[tuple[_Entry, ...]] = []
    if scene.label_maps:
        groups.append(_volumes(scene, fills))
    if scores := scene.dice():
        head = _Entry(None, False, ("", "Dice"))
        cells = (_Entry(None, False, (name, _number(score, 3)), True) for name, score in scores.items())
        groups.append((head, *cells))
    if lines:
        groups.append(tuple(_Entry(color, True, (name.capitalize(),)) for name, color in lines.items()))
    if errors:
        groups.append(tuple(_Entry(color, False, (name.capitalize(),)) for name, color in errors.items()))
    if scene.notes:
        groups.append((_Entry(None, False, ("; ".join(scene.notes).capitalize(),)),))
    return Legend(tuple(groups))


def _volumes(scene: Scene, fills: Mapping[str, Color]) -> tuple[_Entry, ...]:
    """Return a table: a column a label, a line a label map."""
    volumes = {what: scene.volumes_ml(what) for what in scene.label_maps}
    head = _Entry(None, False, ("", *(f"{what.capitalize()}, mL" for what in volumes)))
    names = [label.name for label in scene.edition.labels]
    cells = (
        _Entry(fills.get(name), False, (name, *(_number(of[name], 1) for of in volumes.values())), True)
        for name in names
    )
    return (head, *cells)


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _width_of(group: Sequence[_Entry]) -> float:
    return sum(entry.width_mm for entry in group) + _ENTRY_GAP_MM * (len(group) - 1)


def _draw_group(sheet: Sheet, group: Sequence[_Entry], left: float, top: float) -> float:
    """Draw entries beside each other; return where the last one ends."""
    for entry in group:
        right = left + entry.width_mm
        for line, text in enumerate(entry.texts):
            place = top + (line + 0.5) * LINE_MM
            if entry.is_number and not (entry.color and line == 0):
                sheet.text(right, place, text, _SIZE_PT, ha="right", va="center")
            else:
                start = left + (_SWATCH_MM + 1.2 if entry.color and line == 0 else 0)
                sheet.text(start, place, text, _SIZE_PT, va="center", color=sheet.theme.ink)
        if entry.color:
            if entry.is_line:  # on black, as in the picture: a white line needs it
                sheet.box(left, top + (LINE_MM - _SWATCH_MM) / 2, _SWATCH_MM * 1.6, _SWATCH_MM, "black")
            thick = 0.5 if entry.is_line else _SWATCH_MM
            sheet.box(left, top + (LINE_MM - thick) / 2, _SWATCH_MM, thick, entry.color, zorder=2)
        left = right + _ENTRY_GAP_MM
    return left - _ENTRY_GAP_MM
