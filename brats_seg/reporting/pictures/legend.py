"""What stands under a picture: whose colours are whose, volumes of each label, Dice of each region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from brats_seg.reporting.pictures.overlay import Color
from brats_seg.reporting.pictures.sheets import Sheet, text_width_mm
from brats_seg.reporting.pictures.subjects import Subject

__all__ = ["LINE_MM", "Legend", "legend_of", "titled"]

LINE_MM = 3.7
_SIZE_PT = 6.2
_SWATCH_MM = 2.2
_LINE_SWATCH_MM = 4.4
_SWATCH_GAP_MM = 1.0
_GROUP_GAP_MM = 6.0
_ENTRY_GAP_MM = 3.0


@dataclass(frozen=True)
class _Entry:
    color: Color | None
    is_line: bool
    texts: tuple[str, ...]
    """One a line of its column; the first stands beside the colour."""
    is_number: bool = False

    @property
    def width_mm(self) -> float:
        first, *others = (text_width_mm(text, _SIZE_PT) for text in self.texts)
        return max(first + self.swatch_mm, *others, 0.0)

    @property
    def swatch_mm(self) -> float:
        """Width of the colour and the gap behind it."""
        return ((_LINE_SWATCH_MM if self.is_line else _SWATCH_MM) + _SWATCH_GAP_MM) if self.color else 0.0


@dataclass(frozen=True)
class _Group:
    """Entries that belong together."""

    entries: tuple[_Entry, ...]
    is_stack: bool = False
    """Below each other instead of beside each other."""

    @property
    def width_mm(self) -> float:
        widths = [entry.width_mm for entry in self.entries]
        return max(widths) if self.is_stack else sum(widths) + _ENTRY_GAP_MM * (len(widths) - 1)

    @property
    def height_mm(self) -> float:
        lines = [len(entry.texts) for entry in self.entries]
        return (sum(lines) if self.is_stack else max(lines)) * LINE_MM

    def draw(self, sheet: Sheet, left: float, top: float) -> None:
        for entry in self.entries:
            _draw_entry(sheet, entry, left, top)
            if self.is_stack:
                top += LINE_MM
            else:
                left += entry.width_mm + _ENTRY_GAP_MM


@dataclass(frozen=True)
class Legend:
    """Tables and lists beside each other, below each other where the width ends."""

    groups: tuple[_Group, ...]

    def height_mm(self, width_mm: float) -> float:
        """Return the height on a sheet of that width."""
        return sum(max(group.height_mm for group in line) for line in self._lines(width_mm))

    def draw(self, sheet: Sheet, left: float, top: float, width_mm: float) -> None:
        """Draw the legend with its top left corner at that place."""
        for line in self._lines(width_mm):
            place = left
            for group in line:
                group.draw(sheet, place, top)
                place += group.width_mm + _GROUP_GAP_MM
            top += max(group.height_mm for group in line)

    def _lines(self, width_mm: float) -> list[list[_Group]]:
        """Return the groups that stand beside each other; a list that begins a line lies flat."""
        lines: list[list[_Group]] = []
        left = 0.0
        for group in self.groups:
            left -= group.width_mm
            if lines and left >= 0:
                lines[-1].append(group)
            else:
                lines.append([replace(group, is_stack=False)])
                left = width_mm - lines[-1][0].width_mm
            left -= _GROUP_GAP_MM
        return lines


def legend_of(
    subject: Subject,
    *,
    fills: Mapping[str, Color],
    lines: Mapping[str, Color] | None = None,
    errors: Mapping[str, Color] | None = None,
) -> Legend:
    """Return the legend of a picture.

    Args:
        subject: the case.
        fills: label name -> colour; empty where labels are not filled.
        lines: what an outline means -> colour.
        errors: what a filled error means -> colour.
    """
    groups = [_volumes(subject, fills)] if subject.label_maps else []
    if scores := subject.dice():
        cells = (_Entry(None, False, (name, _number(score, 3)), True) for name, score in scores.items())
        groups.append(_Group((_Entry(None, False, ("", "Dice")), *cells)))
    for colors, is_line in ((errors, False), (lines, True)):
        if colors:
            entries = (_Entry(color, is_line, (titled(name),)) for name, color in colors.items())
            groups.append(_Group(tuple(entries), is_stack=True))
    if subject.notes:
        groups.append(_Group((_Entry(None, False, (titled("; ".join(subject.notes)),)),)))
    return Legend(tuple(groups))


def titled(text: str) -> str:
    """Return a text with its first letter large, and no other changed."""
    return text[0].upper() + text[1:]


def _volumes(subject: Subject, fills: Mapping[str, Color]) -> _Group:
    """Return a table: a column a label, a line a label map."""
    volumes = {what: subject.volumes_ml(what) for what in subject.label_maps}
    head = _Entry(None, False, ("", *(f"{what.capitalize()}, mL" for what in volumes)))
    names = [label.name for label in subject.edition.labels]
    cells = (
        _Entry(fills.get(name), False, (name, *(_number(of[name], 1) for of in volumes.values())), True)
        for name in names
    )
    return _Group((head, *cells))


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _draw_entry(sheet: Sheet, entry: _Entry, left: float, top: float) -> None:
    right = left + entry.width_mm
    if entry.color:
        first_mm = text_width_mm(entry.texts[0], _SIZE_PT)
        _draw_swatch(sheet, entry, right - first_mm - entry.swatch_mm if entry.is_number else left, top)
    for line, text in enumerate(entry.texts):
        place = top + (line + 0.5) * LINE_MM
        if entry.is_number:
            sheet.text(right, place, text, _SIZE_PT, ha="right", va="center_baseline")
        else:
            start = left + (entry.swatch_mm if line == 0 else 0.0)
            sheet.text(start, place, text, _SIZE_PT, va="center_baseline")


def _draw_swatch(sheet: Sheet, entry: _Entry, left: float, top: float) -> None:
    middle = top + LINE_MM / 2
    if entry.is_line:  # on black, as in the picture: light lines need it
        sheet.box(left, middle - _SWATCH_MM / 2, _LINE_SWATCH_MM, _SWATCH_MM, "black")
        sheet.box(left + 0.4, middle - 0.2, _LINE_SWATCH_MM - 0.8, 0.4, entry.color, zorder=2)
    else:
        sheet.box(left, middle - _SWATCH_MM / 2, _SWATCH_MM, _SWATCH_MM, entry.color)
