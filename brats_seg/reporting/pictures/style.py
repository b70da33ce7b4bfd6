"""How everything drawn with matplotlib looks, whatever the user has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from warnings import catch_warnings, filterwarnings

__all__ = ["FONT", "own_style"]

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a picture is the same everywhere."""

_STYLE: Any = {
    "font.family": [FONT],
    "svg.fonttype": "none",
    "svg.hashsalt": "brats_seg",
    "pdf.fonttype": 42,
    "path.simplify": True,
}
"""Text stays text, files are the same each time."""


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with our style whatever the user has set, and without a warning for a letter that the font lacks."""
    from matplotlib import rc_context  # noqa: PLC0415 (slow to import)

    with rc_context(_STYLE), catch_warnings():
        filterwarnings("ignore", message="Glyph .* missing from font")
        yield
