"""A sheet of paper in millimetres on which panels and text are placed, and writing it as PNG, SVG, PDF, WebP or JPEG.

Sheets are matplotlib figures without pyplot: nothing is shown, no display is needed, no style of the user's applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.errors import UsageError
from brats_seg.files import atomic_file
from brats_seg.reporting.pictures.style import FONT, own_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "EDGE_MM",
    "HEAD_MM",
    "MM_PER_INCH",
    "STILL_SUFFIXES",
    "THEMES",
    "Sheet",
    "Theme",
    "save_figure",
    "text_width_mm",
]

STILL_SUFFIXES = (".png", ".svg", ".pdf", ".webp", ".jpg", ".jpeg")

MM_PER_INCH = 25.4
EDGE_MM = 1.0
"""Paper left free around everything."""
HEAD_MM = 5.0
"""Height of the heading."""


@dataclass(frozen=True)
class Theme:
    """Colours of paper and text."""

    paper: str
    ink: str
    faint: str
    """Text of less weight."""


THEMES: Mapping[str, Theme] = {
    "light": Theme("#ffffff", "#1a1a1a", "#666666"),
    "dark": Theme("#101418", "#f2f2f2", "#a0a8b0"),
}


class Sheet:
    """A figure whose places are given in mm from its top left."""

    def __init__(self, width_mm: float, height_mm: float, theme: Theme) -> None:
        """Make an empty sheet."""
        from brats_seg.reporting.pictures.shown import ShownFigure  # noqa: PLC0415 (slow to import)

        self.width_mm, self.height_mm, self.theme = width_mm, height_mm, theme
        self.figure: Figure = ShownFigure(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH, theme.paper)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes at that place, black and without frame."""
        place = (left / self.width_mm, 1 - (top + height) / self.height_mm)
        axis = self.figure.add_axes((*place, width / self.width_mm, height / self.height_mm))
        axis.set_axis_off()
        self.box(left, top, width, height, "black", zorder=-1)
        return axis

    def text(self, left: float, top: float, text: str, size_pt: float = 7, **style: Any) -> None:
        """Write text, as it is, at that place, which is its top left unless `ha` or `va` say otherwise."""
        style = {"ha": "left", "va": "top", "color": self.theme.ink, "family": FONT, **style}
        place = (left / self.width_mm, 1 - top / self.height_mm)
        self.figure.text(*place, text, fontsize=size_pt, parse_math=False, **style)

    def heading(self, title: str, remark: str) -> None:
        """Write a title at the top left, small if it is long, and a remark at the top right where there is room."""
        room, width = self.width_mm - 2 * EDGE_MM, text_width_mm(title, 7.5, "bold")
        self.text(EDGE_MM, 1.2, title, 7.5 * min(1.0, room / max(width, 1e-6)), fontweight="bold")
        if width + 4 + text_width_mm(remark, 6.5) < room:
            self.text(self.width_mm - EDGE_MM, 1.3, remark, 6.5, ha="right", color=self.theme.faint)

    def box(self, left: float, top: float, width: float, height: float, color: Any, zorder: float = 1) -> None:
        """Fill a box with a colour."""
        from matplotlib.patches import Rectangle  # noqa: PLC0415

        place = (left / self.width_mm, 1 - (top + height) / self.height_mm)
        size = (width / self.width_mm, height / self.height_mm)
        patch = Rectangle(
            place, *size, transform=self.figure.transFigure, facecolor=color, edgecolor="none", zorder=zorder
        )
        self.figure.add_artist(patch)


@lru_cache(maxsize=1024)
def text_width_mm(text: str, size_pt: float, weight: str = "normal") -> float:
    """Return how wide a line of text is on a sheet."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 (slow to import)
    from matplotlib.textpath import text_to_path  # noqa: PLC0415

    font = FontProperties(family=[FONT], size=size_pt, weight=weight)
    with own_style():
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72 * MM_PER_INCH


def save_figure(figure: Figure, target: Path, *, dpi: int = 300) -> None:
    """Write a figure in the format of the file's suffix, complete or not at all.

    Raises:
        UsageError: another suffix.
        OutputError: the file cannot be written.
    """
    suffix = target.suffix.lower()
    if suffix not in STILL_SUFFIXES:
        raise UsageError(f"{target}: suffix {suffix!r} is no format of a picture; expected {', '.join(STILL_SUFFIXES)}")
    kind = "jpeg" if suffix == ".jpg" else suffix.removeprefix(".")
    formats: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None, "Creator": "brats_seg"}},
        "pdf": {"metadata": {"CreationDate": None, "Creator": "brats_seg"}},
        "png": {"metadata": {"Software": "brats_seg"}},
        "webp": {"pil_kwargs": {"quality": 88, "method": 4}},
        "jpeg": {"pil_kwargs": {"quality": 92}},
    }
    with atomic_file(target) as temporary, own_style():
        figure.savefig(temporary, format=kind, dpi=dpi, facecolor=figure.get_facecolor(), **formats[kind])
