"""Distances between the surfaces of two masks, and the measures made of them.

The surface of a mask is its border: the voxels that have a 6-neighbour outside it, where all beyond the array counts as
outside. A directed distance is that from a border voxel's centre to the nearest border voxel's of the other mask.
Masks are bool (K, J, I); spacings are (K, J, I) in mm, or 1, 1, 1 for distances in voxels.
Both directed lists are computed once and every measure is made of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from brats_seg.evaluation.overlap import union_box

__all__ = [
    "REACH",
    "Spacing",
    "SurfaceDistances",
    "assd",
    "border",
    "hd95_directed",
    "hd95_pooled",
    "nearest_distances",
    "nsd",
    "surface_distances",
]

Spacing = tuple[float, float, float]
"""Voxel size along (K, J, I), in mm or any unit that distances shall have."""

REACH = 2
"""Voxels along an axis within which the nearest border voxel is looked up by offset; beyond them a k-d tree finds it.

Any value gives the same distances: on real pairs 2 takes a half to a third of the tree's time alone, 3 no less than 2.
"""

_TOLERANCE_SLACK = 1e-6
"""Relative: more than the rounding of a spacing kept as float32, less than any real difference."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Both directed lists of distances, one value a border voxel, in no order; inf where the other mask is empty."""

    from_reference: NDArray[np.float64]
    from_prediction: NDArray[np.float64]

    @property
    def pooled(self) -> NDArray[np.float64]:
        """Both lists in one."""
        return np.concatenate([self.from_reference, self.from_prediction])

    @property
    def is_complete(self) -> bool:
        """Whether both masks have a border, so that distances are defined."""
        return bool(self.from_reference.size and self.from_prediction.size)


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that have a 6-neighbour outside it; all beyond the array is outside.

    It is the mask minus its erosion by the 6-neighbour cross; shifts are many times faster than a general erosion.
    """
    inner = mask[2:, 1:-1, 1:-1] & mask[:-2, 1:-1, 1:-1]
    inner &= mask[1:-1, 2:, 1:-1]
    inner &= mask[1:-1, :-2, 1:-1]
    inner &= mask[1:-1, 1:-1, 2:]
    inner &= mask[1:-1, 1:-1, :-2]
    edge = mask.copy()
    edge[1:-1, 1:-1, 1:-1] &= ~inner
    return edge


def surface_distances(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing
) -> SurfaceDistances:
    """Return both directed distance lists between the borders of two masks of one shape, in units of `spacing`.

    Where one mask is empty its own list is empty and the other's distances are inf.
    """
    box = union_box(reference, prediction)
    if box is None:
        return SurfaceDistances(np.empty(0), np.empty(0))
    # Padded so that an offset from a border voxel never leaves the array or wraps into the next row.
    of_reference, of_prediction = (border(np.pad(mask[box], REACH)) for mask in (reference, prediction))
    common = of_reference & of_prediction  # these have distance 0 both ways
    zeros = np.zeros(np.count_nonzero(common))
    from_reference = nearest_distances(np.flatnonzero(of_reference & ~common), of_prediction, spacing)
    from_prediction = nearest_distances(np.flatnonzero(of_prediction & ~common), of_reference, spacing)
    return SurfaceDistances(np.concatenate([from_reference, zeros]), np.concatenate([from_prediction, zeros]))


def hd95_pooled(distances: SurfaceDistances) -> float:
    """Return the 95th percentile of both directed lists pooled (definition A); nan where a mask is empty.

    Linear interpolation, as MedPy's `hd95`, CaPTk and panoptica; MONAI (the larger of two percentiles) and the BraTS
    2023 script (weighted by area) define other numbers of the same name.
    """
    return float(np.percentile(distances.pooled, 95)) if distances.is_complete else math.nan


def hd95_directed(distances: SurfaceDistances) -> float:
    """Return the larger of the two directed 95th percentiles (definition C, MONAI's); nan where a mask is empty."""
    if not distances.is_complete:
        return math.nan
    return max(float(np.percentile(side, 95)) for side in (distances.from_reference, distances.from_prediction))


def assd(distances: SurfaceDistances) -> float:
    """Return the mean of both directed lists pooled (average symmetric surface distance); nan where a mask is empty."""
    return float(distances.pooled.mean()) if distances.is_complete else math.nan


def nsd(distances: SurfaceDistances, tolerance: float, *, epsilon: float = 0.0) -> float:
    """Return the normalised surface Dice: the mean, over both sides, of the share of border voxels within `tolerance`.

    It counts border voxels as nnU-Net does, not areas as DeepMind's surface Dice. One mask empty: 0; both empty: nan.
    Distances are allowed `_TOLERANCE_SLACK` more, because headers keep a spacing of 0.1 mm as 0.10000000149.
    `epsilon` is added to the denominator of (sum of both shares) / 2; the script of BraTS 2024 has 1e-8 there.
    """
    limit = tolerance * (1 + _TOLERANCE_SLACK)
    sides = (distances.from_reference, distances.from_prediction)
    if not any(side.size for side in sides):
        return math.nan
    return sum(np.count_nonzero(side <= limit) / side.size if side.size else 0.0 for side in sides) / (2 + epsilon)


def nearest_distances(points: NDArray[np.intp], targets: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each of `points` to the nearest voxel of `targets`; inf where it has none.

    `points` are flat indices into `targets`, none of them in it and none within `REACH` of the array's faces. Most
    border voxels of a fair prediction lie within two voxels of the other border: offsets are tried from the nearest
    outwards, and only what is left asks a tree.
    """
    distances, flat = np.empty(len(points)), targets.ravel()
    left = np.arange(len(points))
    steps = np.array([targets.shape[1] * targets.shape[2], targets.shape[2], 1])
    for distance, offsets in _shells(spacing):
        if not len(left):
            return distances
        is_hit = np.zeros(len(left), bool)
        for offset in (offsets @ steps).tolist():
            is_hit |= flat[points + offset]
        distances[left[is_hit]] = distance
        left, points = left[~is_hit], points[~is_hit]
    distances[left] = _far_distances(points, targets, spacing)
    return distances


@lru_cache(maxsize=64)
def _shells(spacing: Spacing) -> tuple[tuple[float, NDArray[np.intp]], ...]:
    """Return (distance, its offsets (n, 3)), from the nearest outwards, as far as no nearer voxel is left out."""
    reach = range(-REACH, REACH + 1)
    offsets = np.array(list(itertools.product(reach, repeat=3)))
    distances = _length(offsets, spacing)
    limit = (REACH + 1) * min(spacing)
    return tuple((float(one), offsets[distances == one]) for one in np.unique(distances) if 0 < one < limit)


def _far_distances(points: NDArray[np.intp], targets: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree  # noqa: PLC0415 (a quarter of a second that not every importer needs)

    starts, ends = (
        np.stack(np.unravel_index(flat, targets.shape), axis=1) for flat in (points, np.flatnonzero(targets))
    )
    if not len(ends):
        return np.full(len(points), np.inf)
    tree = cKDTree(ends * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(starts * np.asarray(spacing))
    # From whole voxels, so that the last bit does not depend on where in the grid the masks lie.
    return _length(starts - ends[nearest], spacing)


def _length(offsets: NDArray[np.intp], spacing: Spacing) -> NDArray[np.float64]:
    squares = np.square(offsets * np.asarray(spacing, np.float64))
    lengths: NDArray[np.float64] = np.sqrt(squares[:, 0] + squares[:, 1] + squares[:, 2])
    return lengths
