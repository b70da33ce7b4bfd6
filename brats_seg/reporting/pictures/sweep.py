"""A sweep through a case as an animated GIF or WebP: the image, and beside it the image with its label maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import UsageError
from brats_seg.files import atomic_file
from brats_seg.reporting.pictures.montage import Look, Painter, painter_of
from brats_seg.reporting.pictures.overlay import (
    FILL_OPACITY,
    LINE_COLORS,
    Color,
    Cut,
    Marks,
    draw_image,
    draw_marks,
    fit_panel,
    scale_bar_mm,
)
from brats_seg.reporting.pictures.sheets import EDGE_MM, HEAD_MM, THEMES, Sheet
from brats_seg.reporting.pictures.subjects import MODALITY_TITLES, Subject
from brats_seg.reporting.planes import plane_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

__all__ = ["SWEEP_SUFFIXES", "write_sweep"]

SWEEP_SUFFIXES = (".gif", ".webp")

_MOST_FRAMES = 80
_FRAMES_PER_SECOND = 12
_GAP_MM = 0.6
_PROFILE_MM = 6.0
"""Height of the curve of tumour areas."""
_WIDTH_MM = 120.0
_CURSOR_COLOR: Color = (1.0, 1.0, 1.0)


def write_sweep(
    subject: Subject,
    target: Path,
    *,
    plane: str = "axial",
    modality: str | None = None,
    look: Look | None = None,
    dpi: int = 150,
) -> int:
    """Write a sweep through the brain (or, zoomed, the tumour) and return the number of its frames.

    At most 80 frames; of a larger volume every second or third slice is shown. The curve below is the tumour's area in
    each slice, with a mark at the slice shown.

    Args:
        subject: the case.
        target: file that ends in .gif or .webp.
        plane: axial (from foot to head), coronal (front to back) or sagittal (right to left).
        modality: None = the subject's main one.
        look: colours and size; 120 mm wide by default.
        dpi: pixels an inch.

    Raises:
        UsageError: another suffix, or no such modality.
        OutputError: the file cannot be written.
    """
    look = look or Look()
    suffix = target.suffix.lower()
    if suffix not in SWEEP_SUFFIXES:
        raise UsageError(f"{target}: suffix {suffix!r} is no animation; expected {', '.join(SWEEP_SUFFIXES)}")
    painter = painter_of(subject, modality, look, is_filled=True)
    frames = list(_frames(subject, plane, painter, look, dpi))
    with atomic_file(target) as temporary:
        _save(frames, temporary, suffix, (*painter.fills.values(), *LINE_COLORS.values(), _CURSOR_COLOR))
    return len(frames)


def _frames(subject: Subject, plane: str, painter: Painter, look: Look, dpi: int) -> Iterator[Image]:
    """Draw one sheet again and again, with other slices in it."""
    from PIL import Image  # noqa: PLC0415 (keeps the command's help fast)

    box = subject.tumor_box if look.is_zoomed else subject.box
    extent = box[plane_axis(plane)]
    film = _film(subject, Cut(subject, plane, extent.start, box), painter, look)
    film.prepare(dpi)
    step = math.ceil((extent.stop - extent.start) / _MOST_FRAMES)
    for index in range(extent.start, extent.stop, step):
        yield Image.fromarray(film.frame(Cut(subject, plane, index, box)))


@dataclass(eq=False)
class _Film:
    """A sheet whose panels are drawn anew for every slice; all else is drawn once."""

    sheet: Sheet
    painter: Painter
    panels: tuple[Axes, ...]
    cursor: Any
    """The line in the curve of areas; None without label maps."""
    still: Any = None
    """What all frames share, as pixels."""

    @property
    def canvas(self) -> Any:
        return self.sheet.figure.canvas

    def prepare(self, dpi: int) -> None:
        """Draw what does not move."""
        self.sheet.figure.set_dpi(dpi)
        if self.cursor is not None:
            self.cursor.set_animated(True)
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(self.sheet.figure.bbox)

    def frame(self, slice_: Cut) -> NDArray[np.uint8]:
        """Return the picture (rows, columns, 3) of a slice."""
        self._place(slice_)
        self.canvas.restore_region(self.still)
        for artist in (*self.panels, *([] if self.cursor is None else [self.cursor])):
            artist.draw(self.canvas.get_renderer())
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def _place(self, slice_: Cut) -> None:
        title = f"{MODALITY_TITLES[self.painter.modality]}, {slice_.title()}"
        height, width = slice_.size_mm
        for number, axis in enumerate(self.panels):
            for artist in (*axis.images, *axis.patches, *axis.texts):
                artist.remove()
            if number == 0:
                draw_image(axis, slice_, self.painter.modality)
            else:
                self.painter.draw(axis, slice_)
            fit_panel(axis, slice_, width, height)
            is_first = number == 0
            bar_mm = scale_bar_mm(width) if is_first else 0.0
            draw_marks(axis, slice_, Marks(title if is_first else "", is_sided=is_first, bar_mm=bar_mm))
        if self.cursor is not None:
            self.cursor.set_xdata([slice_.index, slice_.index])


def _film(subject: Subject, first: Cut, painter: Painter, look: Look) -> _Film:
    width_mm = look.width_mm or _WIDTH_MM
    inner = width_mm - 2 * EDGE_MM
    num = 2 if subject.label_maps else 1
    panel_mm = (inner - (num - 1) * _GAP_MM) / num
    height, width = first.size_mm
    high = panel_mm * height / width
    legend = painter.legend(list(subject.label_maps))
    profile_mm = _PROFILE_MM if subject.label_maps else 0.0
    total = HEAD_MM + high + profile_mm + legend.height_mm(inner) + 3 * EDGE_MM
    sheet = Sheet(width_mm, total, THEMES[look.theme])
    sheet.heading(subject.name, subject.edition.title)
    panels = tuple(sheet.panel(EDGE_MM + n * (panel_mm + _GAP_MM), HEAD_MM, panel_mm, high) for n in range(num))
    top = HEAD_MM + high + EDGE_MM
    cursor = _draw_areas(sheet, first, EDGE_MM, top, inner) if profile_mm else None
    legend.draw(sheet, EDGE_MM, top + profile_mm + EDGE_MM / 2, inner)
    return _Film(sheet, painter, panels, cursor)


def _draw_areas(sheet: Sheet, first: Cut, left: float, top: float, width: float) -> Any:
    """Draw the area of the tumour in each slice; return the line that marks the slice shown."""
    axis = sheet.panel(left, top, width, _PROFILE_MM)
    across = plane_axis(first.plane)
    extent = first.box[across]
    places = np.arange(extent.start, extent.stop)
    others = tuple(axis for axis in range(3) if axis != across)
    highest = 1
    for what, label_map in first.subject.label_maps.items():
        areas: NDArray[Any] = np.count_nonzero(label_map, axis=others)[extent]
        highest = max(highest, int(areas.max(initial=0)))
        axis.plot(places, areas, color=LINE_COLORS[what], linewidth=0.8)
    axis.set(xlim=(extent.start - 0.5, extent.stop - 0.5), ylim=(0, highest * 1.1))
    sheet.text(left + 1, top + 0.7, "Tumour area", 5.5, color="white")
    return axis.axvline(extent.start, color=_CURSOR_COLOR, linewidth=1.0)


def _save(frames: Sequence[Image], target: Path, suffix: str, colors: Iterable[Color]) -> None:
    """Write an animation; a GIF has one palette for all frames, whose colours would flicker otherwise."""
    more: dict[str, Any] = {"save_all": True, "duration": round(1000 / _FRAMES_PER_SECOND), "loop": 0}
    if suffix == ".webp":
        frames[0].save(target, format="WEBP", append_images=frames[1:], quality=80, method=1, **more)
        return
    from PIL import Image  # noqa: PLC0415

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(colors).tobytes())
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(target, format="GIF", append_images=others, optimize=False, disposal=1, **more)


def _palette(colors: Iterable[Color]) -> NDArray[np.uint8]:
    """Return (at most 256, 3): greys, each colour over greys as fills are, and over black as thin lines are."""
    greys = np.linspace(0, 255, 120)[:, None].repeat(3, axis=1)
    rows = [greys]
    for color in dict.fromkeys(colors):
        full = 255 * np.array(color)
        rows.append(FILL_OPACITY * full + (1 - FILL_OPACITY) * np.linspace(0, 255, 10)[:, None])
        rows.append(full * np.linspace(0.4, 1, 4)[:, None])
    return np.concatenate(rows)[:256].round().astype(np.uint8)
