"""Drawing one panel: a slice of an image, label maps over it as fills or outlines, the marks that make it readable.

Panels are matplotlib axes in millimetres, (0, 0) at the top left. Fills and outlines are polygons through the edges of
voxels, so that they stay sharp at any size; images are smoothed between voxels, label maps never are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition
from brats_seg.errors import UsageError
from brats_seg.evaluation.overlap import mask_of_labels
from brats_seg.reporting.pictures.style import FONT
from brats_seg.reporting.pictures.subjects import Subject
from brats_seg.reporting.planes import SIDES, Box, cut, plane_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

__all__ = [
    "ERROR_COLORS",
    "FILL_OPACITY",
    "LINE_COLORS",
    "PALETTES",
    "Color",
    "Cut",
    "Marks",
    "draw_errors",
    "draw_image",
    "draw_labels",
    "draw_marks",
    "draw_outline",
    "draw_regions",
    "fit_panel",
    "label_colors",
    "outlines",
    "scale_bar_mm",
]

Color = tuple[float, float, float]

PALETTES = ("safe", "itksnap")

_SAFE: Mapping[tuple[int, int, int], tuple[int, int, int]] = {
    (255, 0, 0): (213, 94, 0),
    (0, 255, 0): (0, 158, 115),
    (255, 255, 0): (240, 228, 66),
    (0, 0, 255): (0, 114, 178),
    (0, 255, 255): (86, 180, 233),
    (255, 0, 255): (204, 121, 167),
}
"""ITK-SNAP's colour -> the one of the same name that all can tell apart (Okabe and Ito 2008)."""

_BLUE: Color = (0.34, 0.71, 0.91)
_ORANGE: Color = (1.0, 0.55, 0.18)
_PURPLE: Color = (0.80, 0.47, 0.65)

LINE_COLORS: Mapping[str, Color] = {"reference": _BLUE, "prediction": _ORANGE}
"""Label map -> colour of its outlines."""

ERROR_COLORS: Mapping[str, Color] = {"missed (FN)": _BLUE, "false (FP)": _ORANGE, "other label": _PURPLE}
"""What is wrong with a voxel -> its colour: that of the reference where only the reference has tumour, and so on."""

FILL_OPACITY = 0.6
_PAD_PT = 3.0
_HALO = (0.0, 0.0, 0.0, 0.75)


@dataclass(frozen=True, eq=False)
class Cut:
    """A slice of a subject, and what is to be seen of it."""

    subject: Subject
    plane: str
    index: int
    """In the turned volume."""
    box: Box
    """Part of the turned volume that is to be seen; a panel may show more around it."""

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Size of a pixel, (row, column)."""
        return self.subject.orientation.plane_spacing_mm(self.plane)

    @property
    def size_mm(self) -> tuple[float, float]:
        """(height, width) of what is to be seen."""
        rows, columns = self._sides
        return (rows.stop - rows.start) * self.spacing_mm[0], (columns.stop - columns.start) * self.spacing_mm[1]

    @property
    def middle_mm(self) -> tuple[float, float]:
        """The middle of what is to be seen, from the top and the left of the whole slice."""
        (rows, columns), shape = self._sides, self.subject.orientation.shape
        down = (rows.start + rows.stop) / 2
        down = down if self.plane == "axial" else shape[0] - down  # head up: see `cut`
        return down * self.spacing_mm[0], (columns.start + columns.stop) / 2 * self.spacing_mm[1]

    @property
    def _sides(self) -> tuple[slice, slice]:
        """The box along rows and columns, rows from foot to head in coronal and sagittal planes."""
        rows, columns = (side for axis, side in enumerate(self.box) if axis != plane_axis(self.plane))
        return rows, columns

    def of(self, turned: NDArray[Any]) -> NDArray[Any]:
        """Return the whole slice (rows, columns) of a turned volume."""
        return cut(turned, self.plane, self.index)

    def errors(self) -> dict[str, NDArray[np.bool_]]:
        """Return what is wrong -> where: tumour that is missed, false tumour, tumour of another label."""
        maps = self.subject.label_maps
        own, predicted = self.of(maps["reference"]), self.of(maps["prediction"])
        return {
            "missed (FN)": (own > 0) & (predicted == 0),
            "false (FP)": (own == 0) & (predicted > 0),
            "other label": (own > 0) & (predicted > 0) & (own != predicted),
        }

    def title(self) -> str:
        """Return the slice in words: its plane, and its index in the file."""
        return self.subject.slice_title(self.plane, self.index)


def label_colors(edition: Edition, palette: str = "safe") -> dict[str, Color]:
    """Return label name -> colour (red, green, blue of 0..1).

    `safe` has, for each of ITK-SNAP's colours, the one of the same name that is told apart whatever the colour vision;
    `itksnap` has ITK-SNAP's own.

    Raises:
        UsageError: there is no such palette.
    """
    if palette not in PALETTES:
        raise UsageError(f"colors {palette!r}: expected one of {', '.join(PALETTES)}")
    colors = {}
    for label in edition.labels:
        red, green, blue = _SAFE.get(label.color, label.color) if palette == "safe" else label.color
        colors[label.name] = (red / 255, green / 255, blue / 255)
    return colors


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return closed polygons (points, 2) around a mask, as (row, column) from the outer corner of its first pixel.

    They run half-way between pixels inside and outside and cut corners. Holes run the other way round than what they
    are in. An empty mask has none.
    """
    from skimage.measure import find_contours  # noqa: PLC0415 (slow to import)

    find: Any = find_contours  # carries no types
    found = find(np.pad(mask, 1).astype(np.float32), 0.5) if mask.any() else []
    return [points - 0.5 for points in found]  # padded by one pixel, whose centre is at 0


def draw_image(axis: Axes, slice_: Cut, modality: str) -> None:
    """Draw the whole image, in mm; `fit_panel` says what is seen."""
    values = slice_.of(slice_.subject.images[modality])
    low, high = slice_.subject.windows[modality]
    height, width = (size * spacing for size, spacing in zip(values.shape, slice_.spacing_mm, strict=True))
    axis.imshow(
        np.where(values == 0, low, values),
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, width, height, 0),
        interpolation="bicubic",
        interpolation_stage="data",
    )
    axis.set_facecolor("black")
    axis.axis("off")


def draw_labels(axis: Axes, slice_: Cut, label_map: NDArray[np.uint8], colors: Mapping[str, Color]) -> None:
    """Fill the labels of a turned label map."""
    values = slice_.of(label_map)
    for label in slice_.subject.edition.labels:
        _fill(axis, values == label.value, slice_.spacing_mm, colors[label.name], FILL_OPACITY)


def draw_errors(axis: Axes, slice_: Cut) -> None:
    """Fill what the prediction misses, invents, and gives another label; needs both label maps."""
    for what, mask in slice_.errors().items():
        _fill(axis, mask, slice_.spacing_mm, ERROR_COLORS[what], 0.9)


def draw_outline(
    axis: Axes, mask: NDArray[np.bool_], spacing_mm: tuple[float, float], color: Color, *, width: float = 0.8
) -> None:
    """Draw the outline of a mask (rows, columns), `width` points wide, on a dark rim."""
    from matplotlib.patches import PathPatch  # noqa: PLC0415 (optional, slow to import)

    path = _path(mask, spacing_mm)
    if path is not None:
        axis.add_artist(PathPatch(path, fill=False, edgecolor=_HALO, linewidth=width * 2, joinstyle="round"))
        axis.add_artist(PathPatch(path, fill=False, edgecolor=color, linewidth=width, joinstyle="round"))


def draw_regions(axis: Axes, slice_: Cut, which: str) -> None:
    """Outline every region of the `reference` (blue) or the `prediction` (orange)."""
    labels = slice_.of(slice_.subject.label_maps[which])
    for values in slice_.subject.edition.regions.values():
        draw_outline(axis, mask_of_labels(labels, values), slice_.spacing_mm, LINE_COLORS[which])


def fit_panel(axis: Axes, slice_: Cut, width_mm: float, height_mm: float) -> None:
    """Show so much of a slice around the middle of what is to be seen."""
    down, across = slice_.middle_mm
    axis.set(xlim=(across - width_mm / 2, across + width_mm / 2), ylim=(down + height_mm / 2, down - height_mm / 2))


def scale_bar_mm(body_mm: float) -> float:
    """Return the longest of a few round lengths that fills at most a third of what a panel shows."""
    return max((length for length in (50.0, 20.0, 10.0, 5.0, 2.0, 1.0) if length <= body_mm / 3), default=1.0)


def _fill(axis: Axes, mask: NDArray[np.bool_], spacing_mm: tuple[float, float], color: Color, opacity: float) -> None:
    from matplotlib.patches import PathPatch  # noqa: PLC0415

    path = _path(mask, spacing_mm)
    if path is not None:
        axis.add_artist(PathPatch(path, facecolor=(*color, opacity), edgecolor="none", linewidth=0))


def _path(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Path | None:
    """Return the outlines of a mask as one path in mm, whose holes stay empty; None for an empty mask."""
    from matplotlib.path import Path  # noqa: PLC0415

    polygons = [points[:, ::-1] * spacing_mm[::-1] for points in outlines(mask)]
    return Path.make_compound_path(*(Path(points, closed=True) for points in polygons)) if polygons else None


@dataclass(frozen=True)
class Marks:
    """What is written into a panel."""

    text: str = ""
    """At the top left."""
    is_sided: bool = True
    """R and L (or A and P) at the sides."""
    bar_mm: float = 0.0
    """Length of the scale bar; 0 = none."""
    size_pt: float = 6.0
    """Of the letters."""


def draw_marks(axis: Axes, slice_: Cut, marks: Marks) -> None:
    """Write text, the patient's sides and a scale bar into a panel, white on dark."""
    style: dict[str, Any] = {
        "color": "white",
        "fontsize": marks.size_pt,
        "transform": axis.transAxes,
        "parse_math": False,
        "family": FONT,
        "path_effects": _rim(),
    }
    pad, pad_y = _pads(axis)
    if marks.text:
        axis.text(pad, 1 - pad_y, marks.text, ha="left", va="top", **style)
    if marks.is_sided:
        left, right = SIDES[slice_.plane]
        axis.text(pad, 0.5, left, ha="left", va="center", fontweight="bold", **style)
        axis.text(1 - pad, 0.5, right, ha="right", va="center", fontweight="bold", **style)
    if marks.bar_mm:
        _draw_bar(axis, marks, style, pad, pad_y)


def _pads(axis: Axes) -> tuple[float, float]:
    """Return the distance of marks from the sides and from top and bottom, as shares of the panel."""
    size = axis.get_window_extent()
    pixels = _PAD_PT / 72 * axis.get_figure(root=True).dpi  # type: ignore[union-attr]  # it has one
    return pixels / size.width, pixels / size.height


def _draw_bar(axis: Axes, marks: Marks, style: Mapping[str, Any], pad: float, pad_y: float) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    low, high = axis.get_xlim()
    length, thick = marks.bar_mm / (high - low), pad_y * 0.4
    box = Rectangle((1 - pad - length, pad_y), length, thick, transform=axis.transAxes, color="white", linewidth=0)
    box.set_path_effects(_rim())
    axis.add_artist(box)
    text = f"{marks.bar_mm / 10:g} cm"
    axis.text(1 - pad - length / 2, pad_y * 1.7, text, ha="center", va="bottom", **style)


def _rim() -> list[Any]:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    return [withStroke(linewidth=1.2, foreground=_HALO)]
