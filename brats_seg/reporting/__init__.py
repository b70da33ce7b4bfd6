"""Tables, curves, pictures of cases, files for viewers. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["show"]


def show(case: Any, **options: Any) -> Figure:
    """Return a picture of a case, which a notebook shows: `show("CASE", prediction="CASE_seg.nii.gz")`.

    Args:
        case: a case's folder, or modality -> file, or modality -> array.
        options: `prediction`, `reference`, `kind`, `plane`, `modality`, `slice`, `edition`, `affine`, `look`;
            `brats_seg.reporting.notebook.show` describes them.
    """
    from brats_seg.reporting.notebook import show as draw  # noqa: PLC0415 (a second that other users need not wait for)

    return draw(case, **options)
