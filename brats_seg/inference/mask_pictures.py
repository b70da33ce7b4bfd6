"""Predictions of 2D sets as pictures, named as their images' masks are: what other programs of such sets read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case
from brats_seg.data.reading import slice_numbers
from brats_seg.editions import get_edition
from brats_seg.errors import UsageError
from brats_seg.files import atomic_file, make_output_folder

__all__ = ["MASKS", "require_pictures", "write_masks"]

MASKS = "masks"
"""Folder of mask pictures in a folder of predictions."""


def require_pictures(cases: Sequence[Case]) -> None:
    """Refuse cases that are volumes.

    Raises:
        UsageError: names the first.
    """
    volumes = [case.name for case in cases if not get_edition(case.edition).is_two_dimensional]
    if volumes:
        raise UsageError(
            f"--save-masks: case {volumes[0]} is a volume; pictures of masks are for 2D sets, leave it out"
        )


def write_masks(folder: Path, case: Case, label_map: NDArray[np.uint8]) -> list[Path]:
    """Write each slice of a label map (K, J, I) as an 8-bit PNG, 255 where there is any label, and return the files.

    An image's mask is `masks/<case>.png`, those of a patient's slices `masks/<case>/<case>_<slice>_mask.png`.

    Raises:
        OutputError: they cannot be written.
    """
    from PIL import Image  # noqa: PLC0415 (a node that predicts volumes needs it not)

    numbers = slice_numbers(next(iter(case.images.values())).path)
    masks = (label_map != 0).astype(np.uint8) * 255
    if numbers is None:
        paths = [make_output_folder(folder / MASKS) / f"{case.name}.png"]
    else:
        own = make_output_folder(folder / MASKS / case.name)
        paths = [own / f"{case.name}_{number}_mask.png" for number in numbers]
    for path, mask in zip(paths, masks, strict=True):
        with atomic_file(path) as temporary:
            Image.fromarray(mask).save(temporary)
    return paths
