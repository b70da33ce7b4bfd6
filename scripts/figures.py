"""Make the pictures of docs/images again, from a synthetic case: `python scripts/figures.py [DIR]`.

The prediction is the reference, smoothed and moved a little per region, as a network's would be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.data.phantom import case_name, make_phantom
from brats_seg.editions import Edition
from brats_seg.reporting.pictures.montage import Look, draw_montage
from brats_seg.reporting.pictures.sheets import save_figure
from brats_seg.reporting.pictures.subjects import Subject, make_subject
from brats_seg.reporting.pictures.sweep import write_sweep

SEED, INDEX, EDITION = 3, 1, "brats2021"


def smoothed(reference: NDArray[np.uint8], edition: Edition) -> NDArray[np.uint8]:
    """Return the label map that a network might predict: smooth outlines, a little off, small parts lost."""
    masks = edition.regions_from_label_map(np.ascontiguousarray(np.roll(reference, (1, -2, 2), axis=(0, 1, 2))))
    soft = [ndimage.gaussian_filter(mask.astype(np.float32), 2.0) for mask in masks]
    return edition.label_map_from_regions([one > 0.45 for one in soft])


def synthetic_subject() -> Subject:
    """Return a synthetic case of BraTS' grid with reference and prediction."""
    phantom = make_phantom(SEED, INDEX, edition=EDITION)
    return make_subject(
        phantom.images,
        phantom.affine,
        phantom.edition,
        name=f"{case_name(EDITION, INDEX)} (synthetic)",
        reference=phantom.label_map,
        prediction=smoothed(phantom.label_map, phantom.edition),
    )


def main() -> None:
    """Write the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    subject = synthetic_subject()
    save_figure(draw_montage(subject), folder / "figure-montage.webp", dpi=220)
    write_sweep(subject, folder / "figure-sweep.webp", look=Look(width_mm=100, is_zoomed=True), dpi=80)


if __name__ == "__main__":
    main()
