"""Overlap of two label maps: counts of every region from one joint histogram, and the ratios made of them.

Arrays are uint8 label maps in file order (K, J, I), C-contiguous for speed. Nothing here knows a protocol: a ratio that
the counts do not define (0 / 0) is nan, and what stands in its place is said in `protocols`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition

__all__ = [
    "Box",
    "Counts",
    "confusion",
    "counts_of_labels",
    "dice",
    "iou",
    "joint_histogram",
    "labels_in",
    "mask_of_labels",
    "precision",
    "scored_labels",
    "sensitivity",
    "specificity",
    "union_box",
]

Box = tuple[slice, slice, slice]
"""Slices along (K, J, I)."""


@dataclass(frozen=True)
class Counts:
    """Voxels of a region on the whole grid: in both maps, only predicted, only in the reference, in neither."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def num_reference(self) -> int:
        """Voxels of the region in the reference."""
        return self.tp + self.fn

    @property
    def num_prediction(self) -> int:
        """Voxels of the region in the prediction."""
        return self.tp + self.fp


def scored_labels(edition: Edition) -> dict[str, frozenset[int]]:
    """Return what is scored in an edition, by name: its regions, then each label that is no region by itself.

    BraTS 2020: ET {4}, TC {1, 4}, WT {1, 2, 4}, NCR {1}, ED {2}; the label ET is the region ET already.
    """
    regions = dict(edition.regions)
    singles = {label.name: frozenset({label.value}) for label in edition.labels}
    return regions | {name: values for name, values in singles.items() if values not in regions.values()}


def mask_of_labels(label_map: NDArray[np.uint8], labels: Iterable[int]) -> NDArray[np.bool_]:
    """Return where a label map has one of `labels`; comparing is many times faster than a table or `isin`."""
    mask = np.zeros(label_map.shape, bool)
    for label in labels:
        mask |= label_map == label
    return mask


def union_box(reference: NDArray[np.uint8 | np.bool_], prediction: NDArray[np.uint8 | np.bool_]) -> Box | None:
    """Return the smallest box outside of which both label maps (or masks) are 0; None where both are empty."""
    union = reference | prediction
    plane = np.bitwise_or.reduce(union, axis=0)
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return None
    slab = union[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    planes = np.flatnonzero(slab.any(axis=(1, 2)))
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in (planes, rows, columns))  # type: ignore[return-value]


def labels_in(label_map: NDArray[np.uint8]) -> list[int]:
    """Return the labels that a map has, ascending, 0 left out."""
    box = union_box(label_map, label_map)
    if box is None:
        return []
    counts = np.bincount(label_map[box].ravel())  # of the box alone: a count of the whole grid takes ten times as long
    return [int(label) for label in np.flatnonzero(counts) if label]


def joint_histogram(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], *, num_outside: int = 0
) -> NDArray[np.int64]:
    """Return how many voxels have each pair of labels: int64 (n, n), reference along rows, n = largest label + 1.

    `num_outside` voxels, where both maps are 0, are added to cell (0, 0): that is how a crop stands for its grid.
    """
    size = int(max(reference.max(initial=0), prediction.max(initial=0))) + 1
    pair = reference.astype(np.uint16)
    pair *= np.uint16(size)  # at most 255 * 256 + 255, the largest uint16
    pair += prediction
    table = np.bincount(pair.ravel(), minlength=size * size).reshape(size, size)
    table[0, 0] += num_outside
    return table.astype(np.int64, copy=False)


def counts_of_labels(histogram: NDArray[np.int64], labels: Iterable[int]) -> Counts:
    """Return the counts of the region made of `labels`, from a joint histogram of the whole grid."""
    own = [label for label in sorted(labels) if label < len(histogram)]
    tp = int(histogram[np.ix_(own, own)].sum())
    num_reference, num_prediction = int(histogram[own].sum()), int(histogram[:, own].sum())
    union = num_reference + num_prediction - tp
    return Counts(tp, num_prediction - tp, num_reference - tp, int(histogram.sum()) - union)


def confusion(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], edition: Edition, *, num_outside: int = 0
) -> dict[str, Counts]:
    """Return the counts of each region, and of each label that is no region by itself (see `scored_labels`).

    Both maps are uint8 of one shape (K, J, I). `num_outside` is how many voxels of the grid were cropped away, all 0 in
    both maps, so that TN is that of the whole grid.

    Raises:
        DataError: a map has a label that the edition does not have.
    """
    box = union_box(reference, prediction) or (slice(0, 0),) * 3
    inside = reference[box]
    num_outside += reference.size - inside.size
    histogram = joint_histogram(inside, prediction[box], num_outside=num_outside)
    edition.check_labels(np.flatnonzero(histogram.sum(axis=1)), "reference")
    edition.check_labels(np.flatnonzero(histogram.sum(axis=0)), "prediction")
    return {name: counts_of_labels(histogram, labels) for name, labels in scored_labels(edition).items()}


def dice(counts: Counts) -> float:
    """Return 2 TP / (2 TP + FP + FN); nan where both masks are empty."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts) -> float:
    """Return TP / (TP + FP + FN), the Jaccard index; nan where both masks are empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def sensitivity(counts: Counts) -> float:
    """Return TP / (TP + FN), the recall; nan where the reference is empty."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> float:
    """Return TN / (TN + FP) over the whole grid (so about 0.999 for anything); nan where the reference fills it."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def precision(counts: Counts) -> float:
    """Return TP / (TP + FP); nan where the prediction is empty."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
