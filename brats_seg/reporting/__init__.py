"""Tables, curves, pictures of cases, files for viewers. Nothing here imports torch.

from brats_seg.reporting import show
show("BraTS20_Training_001", prediction="predictions/BraTS20_Training_001.nii.gz")   # a figure, in a notebook
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brats_seg.reporting.notebook import show

__all__ = ["show"]


def __getattr__(name: str) -> Any:
    """Return `show`, imported when it is first asked for: whoever wants a table need not wait for pictures."""
    if name != "show":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from brats_seg.reporting.notebook import show  # noqa: PLC0415

    return show
