"""Places of a case worth looking at: its lesions, and the slices where reference and prediction differ most.

Masks and label maps are (K, J, I); places are voxels (k, j, i) that lie in what they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.evaluation.lesions import Labels, components, match_by_overlap

__all__ = ["Lesion", "WorstSlice", "find_lesions", "worst_slices"]

_MOST_LESIONS = 60
"""Lesions that are listed; the smaller ones of a case with more are specks."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Lesion:
    """A 26-connected part of a mask."""

    status: str
    """`found` or `missed` (in the reference), `false` (predicted, touches no reference), `alone` (none to compare)."""
    num_voxels: int
    share: float | None
    """Of its voxels that the other mask has; None where there is no other mask."""
    center: Voxel
    """Its voxel nearest to its centre of mass."""


@dataclass(frozen=True)
class WorstSlice:
    """The slice across one array axis with most wrong voxels (0, 1, 2: K, J, I)."""

    axis: int
    index: int
    num_voxels: int
    center: Voxel
    """In that slice, the wrong voxel nearest to the middle of the wrong ones."""


def find_lesions(reference: NDArray[np.bool_] | None, prediction: NDArray[np.bool_] | None) -> list[Lesion]:
    """Return the reference's lesions and the false ones of the prediction, largest first, at most 60.

    A lesion is met as soon as the other mask has one of its voxels. With one mask alone, its lesions; with none, none.
    """
    if reference is None or prediction is None:
        mask = prediction if reference is None else reference
        lesions = [] if mask is None else _of_mask(components(mask), None, "alone")
    else:
        labels, predicted = components(reference), components(prediction)
        matches = match_by_overlap(labels, predicted)
        false = np.where(np.isin(predicted, matches.false_positives), predicted, 0)
        lesions = _of_mask(labels, prediction, "") + _of_mask(false, None, "false")
    return sorted(lesions, key=lambda lesion: -lesion.num_voxels)[:_MOST_LESIONS]


def worst_slices(wrong: NDArray[np.bool_]) -> list[WorstSlice]:
    """Return the slice with most voxels of the mask `wrong` across each axis; none where the mask is empty."""
    return [_worst_slice(wrong, axis) for axis in range(3)] if wrong.any() else []


def _worst_slice(wrong: NDArray[np.bool_], axis: int) -> WorstSlice:
    counts = np.count_nonzero(wrong, axis=tuple(other for other in range(3) if other != axis))
    index = int(counts.argmax())
    in_slice = np.argwhere(np.take(wrong, index, axis))
    center = [int(n) for n in _nearest_to_mean(in_slice)]
    center.insert(axis, index)
    return WorstSlice(axis, index, int(counts[index]), (center[0], center[1], center[2]))


def _of_mask(labels: Labels, other: NDArray[np.bool_] | None, status: str) -> list[Lesion]:
    """Return a lesion a number of `labels` (0 = none); without a status it is told by the other mask."""
    lesions = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        voxels = np.argwhere(labels[box] == number)
        k, j, i = (int(n + part.start) for n, part in zip(_nearest_to_mean(voxels), box, strict=True))
        share = None
        if other is not None:
            share = float(other[box][tuple(voxels.T)].mean())
        own = status or ("found" if share else "missed")
        lesions.append(Lesion(own, len(voxels), share, (k, j, i)))
    return lesions


def _nearest_to_mean(points: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the row of `points` (n, dimensions) that is nearest to their mean."""
    nearest: NDArray[np.intp] = points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return nearest
