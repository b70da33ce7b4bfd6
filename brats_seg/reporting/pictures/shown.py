"""The figure that notebooks show by themselves, with or without pyplot, and without a display."""

from __future__ import annotations

import io

from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brats_seg.reporting.pictures.style import own_style

__all__ = ["ShownFigure"]

_DPI = 140


class ShownFigure(Figure):
    """A matplotlib figure that is its own picture at the end of a notebook's cell."""

    def __init__(self, width_inches: float, height_inches: float, color: str) -> None:
        """Make an empty figure that is drawn without a display."""
        super().__init__(figsize=(width_inches, height_inches), facecolor=color)
        FigureCanvasAgg(self)

    def draw(self, renderer: RendererBase) -> None:
        """Draw in our style, whatever the user's is."""
        with own_style():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """Return the picture as PNG; Jupyter asks for it."""
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=_DPI, facecolor=self.get_facecolor())
        return picture.getvalue()
