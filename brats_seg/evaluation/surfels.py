"""Surface elements: the area-weighted distances between two masks, behind the HD95 of BraTS 2023 and later.

Every corner that eight voxels share is a surface point of a mask where some but not all of the eight are inside. The
arrangement of the eight decides the area that the point stands for, and distances run between such corners. So HD95
"B" says: within this distance lies 95 % of the surface's area. It is not the number of the same name that pools the
distances of border voxels (`surface.hd95_pooled`), nor the larger of their two percentiles (`surface.hd95_directed`).

Source: Nikolov et al. 2018/2021, "Clinically applicable segmentation of head and neck anatomy for radiotherapy"
(DeepMind's surface-distance), which the official scripts of BraTS 2023 and 2024 call. Areas are derived here from the
geometry of the eight voxels, and equal that program's for all 256 arrangements and any spacing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from brats_seg.evaluation.overlap import union_box
from brats_seg.evaluation.surface import REACH, Spacing, nearest_distances

__all__ = ["SurfelDistances", "area_table", "corner_codes", "hd95_by_area", "surfel_distances"]

_CORNER_VOXELS = tuple(itertools.product((0, 1), repeat=3))
"""The eight voxels around a corner as (k, j, i) of 0 or 1; the n-th is bit n of a code."""

_ALL_INSIDE = 255

Voxel = tuple[int, ...]


@dataclass(frozen=True)
class SurfelDistances:
    """Of each surface point: its distance to the other mask's nearest one and its area, ascending by both."""

    from_reference: NDArray[np.float64]
    reference_areas: NDArray[np.float64]
    from_prediction: NDArray[np.float64]
    prediction_areas: NDArray[np.float64]


def surfel_distances(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: Spacing
) -> SurfelDistances:
    """Return distances (mm) and areas (mm2) of the surface points of two masks (K, J, I) of one shape.

    All beyond the array is outside. Where one mask is empty its own lists are empty and the other's distances are inf.
    """
    box = union_box(reference, prediction)
    if box is None:
        return SurfelDistances(*[np.empty(0)] * 4)
    # Padded so that an offset from a corner never leaves the array or wraps into the next row.
    codes = [corner_codes(np.pad(mask[box], REACH + 1)) for mask in (reference, prediction)]
    corners = [(code != 0) & (code != _ALL_INSIDE) for code in codes]
    common = corners[0] & corners[1]  # these have distance 0 both ways
    lists = [
        _sorted_lists(codes[side], corners[side] & ~common, common, corners[1 - side], spacing_mm) for side in (0, 1)
    ]
    return SurfelDistances(*lists[0], *lists[1])


def hd95_by_area(distances: SurfelDistances, share: float = 0.95) -> float:
    """Return the larger of the two distances within which `share` of each surface's area lies (definition B).

    A mask without surface: inf, also when both have none, as in the source; protocols say what stands there.
    """
    sides = (
        (distances.from_reference, distances.reference_areas),
        (distances.from_prediction, distances.prediction_areas),
    )
    if any(not len(values) for values, _ in sides):
        return math.inf
    return max(_distance_within(values, areas, share) for values, areas in sides)


def corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return, for every corner inside a mask's array (each axis one less), which of its eight voxels are in the mask.

    The voxel at offset (k, j, i) of 0 or 1 from the corner is bit 4 k + 2 j + i.
    """
    codes = mask.view(np.uint8)
    codes = codes[:, :, :-1] | (codes[:, :, 1:] << np.uint8(1))
    codes = codes[:, :-1] | (codes[:, 1:] << np.uint8(2))
    return codes[:-1] | (codes[1:] << np.uint8(4))


@lru_cache(maxsize=64)
def area_table(spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the surface area (mm2) that a corner of each of the 256 codes stands for.

    It is made of three kinds of pieces: a cut-off corner (across all three axes), a bevel along an edge (across the
    other two axes), and a piece of a flat face. An arrangement and its complement share one surface.
    """
    table = np.array([_area(_voxels_of(code), spacing_mm) for code in range(256)])
    table.flags.writeable = False
    return table


def _voxels_of(code: int) -> list[Voxel]:
    """Return the voxels of a code, or of its complement where that has fewer."""
    inside = [voxel for bit, voxel in enumerate(_CORNER_VOXELS) if code >> bit & 1]
    return inside if len(inside) <= 4 else [voxel for voxel in _CORNER_VOXELS if voxel not in inside]


def _area(voxels: list[Voxel], spacing_mm: Spacing) -> float:
    faces = [math.prod(spacing_mm) / size for size in spacing_mm]  # of a voxel, across each axis
    corner = math.hypot(*faces) / 8
    bevels = [math.hypot(*(faces[other] for other in range(3) if other != axis)) / 2 for axis in range(3)]
    edges = _edges(voxels)
    axes = {axis for axis, _ in edges}
    across = next((axis for axis in range(3) if axis not in axes), 0)  # the face's own, where all edges lie in one
    if not edges:  # no two voxels share a face
        return len(voxels) * corner
    if len(edges) == 1:
        return bevels[edges[0][0]] + (len(voxels) - 2) * corner
    if len(edges) == 4:  # a whole face
        return faces[across]
    if len(edges) == 2:
        if len(axes) == 1:  # two parallel pairs
            return 2 * bevels[edges[0][0]]
        return faces[across] / 2 + (3 if len(voxels) == 3 else 4) * corner  # an L, alone or with the far corner
    return _area_of_three_edges(edges, corner, bevels)


def _area_of_three_edges(edges: list[tuple[int, tuple[Voxel, Voxel]]], corner: float, bevels: list[float]) -> float:
    """Return the area of four voxels joined by three edges: one with its three neighbours, or an open path."""
    ends = [voxel for _, pair in edges for voxel in pair]
    if max(ends.count(voxel) for voxel in ends) == 3:
        return 6 * corner
    outer = [axis for axis, pair in edges if any(ends.count(voxel) == 1 for voxel in pair)]
    return 4 * corner + sum(bevels[axis] for axis in outer) / 2


def _edges(voxels: list[Voxel]) -> list[tuple[int, tuple[Voxel, Voxel]]]:
    """Return the pairs of voxels that share a face, each with the axis along which they lie."""
    pairs = []
    for first, second in itertools.combinations(voxels, 2):
        differing = [axis for axis in range(3) if first[axis] != second[axis]]
        if len(differing) == 1:
            pairs.append((differing[0], (first, second)))
    return pairs


def _sorted_lists(
    codes: NDArray[np.uint8],
    own: NDArray[np.bool_],
    common: NDArray[np.bool_],
    targets: NDArray[np.bool_],
    spacing_mm: Spacing,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return one side's distances and areas, ascending by distance, then area.

    The order decides the last bits of the summed areas, so it is that of the source: a sort of (distance, area).
    """
    table = area_table(spacing_mm)
    points = np.flatnonzero(own)
    distances = nearest_distances(points, targets, spacing_mm)
    areas = table[codes.ravel()[points]]
    order = np.lexsort((areas, distances))
    zero_areas = np.sort(table[codes[common]])
    return (
        np.concatenate([np.zeros(len(zero_areas)), distances[order]]),
        np.concatenate([zero_areas, areas[order]]),
    )


def _distance_within(distances: NDArray[np.float64], areas: NDArray[np.float64], share: float) -> float:
    shares = np.cumsum(areas) / np.sum(areas)
    place = int(np.searchsorted(shares, share))
    return float(distances[min(place, len(distances) - 1)])
