"""The spatial part of augmentation: one transform a sample, drawn before anything is read.

A voxel o of the patch, counted from the patch's centre, shows the case at centre + matrix @ o + displacement(o), in
voxels of the case. Rotation, scale and mirroring are one matrix, the elastic part a cubic B-spline of few control
points. So the box of voxels that a patch needs is known before it is read, and one resampling does everything. A draw
that only mirrors is no resampling at all: those voxels are copied. A patch of slices moves within their plane alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.config import AugmentationConfig

__all__ = ["Shape", "SpatialDraw", "draw_spatial", "patch_coordinates", "source_box"]

Shape = tuple[int, int, int]
_CONTROL_SPACING_VOXELS = 32
_MOST_SDS = 2.5
"""Control points move no further than so many standard deviations: no folds, and a box that stays small."""


@dataclass(frozen=True)
class SpatialDraw:
    """The spatial transform of one sample."""

    flip: tuple[bool, bool, bool]
    """Whether each axis (K, J, I) is mirrored; contained in `matrix`."""
    matrix: NDArray[np.float64]
    """(3, 3), from patch voxels to voxels of the case, both (K, J, I) from the patch's centre."""
    displacement: NDArray[np.float32] | None = None
    """(3, nodes K, J, I): displacement of the control points in voxels of the case; None = no elastic part."""
    slice_axis: int | None = None
    """Axis (0, 1, 2 for K, J, I) along which slices stay as they are; None = a patch of a volume."""

    @property
    def is_resampled(self) -> bool:
        """Whether voxels have to be interpolated; if not, the patch is a mirrored copy at most."""
        return self.displacement is not None or not np.array_equal(np.abs(self.matrix), np.eye(3))


def draw_spatial(
    config: AugmentationConfig, patch: Shape, random: np.random.Generator, slice_axis: int | None = None
) -> SpatialDraw:
    """Return a spatial transform, in the plane of slices if a patch has a `slice_axis`.

    Always takes the same count of numbers from `random`.
    """
    chance = random.random(6)
    flip = chance[:3] < config.flip
    angles = random.uniform(-1, 1, 3) * np.deg2rad(config.rotation_degrees)
    scale = random.uniform(*config.scaling_range)
    sd_share = random.random()
    nodes = np.clip(random.standard_normal((3, *map(_num_nodes, patch))), -_MOST_SDS, _MOST_SDS)
    scales = np.full(3, scale)
    if slice_axis is not None:
        nodes = np.repeat(nodes.take([0], 1 + slice_axis), nodes.shape[1 + slice_axis], 1 + slice_axis)
        flip[slice_axis], scales[slice_axis], nodes[slice_axis] = False, 1.0, 0.0
        angles[np.arange(3) != slice_axis] = 0.0
    matrix = np.diag(np.where(flip, -1.0, 1.0))
    if chance[3] < config.rotation:
        matrix = _rotation(angles) @ matrix
    if chance[4] < config.scaling:
        matrix = matrix * scales
    is_elastic = chance[5] < config.elastic
    return SpatialDraw(
        flip=(bool(flip[0]), bool(flip[1]), bool(flip[2])),
        matrix=matrix,
        displacement=(nodes * sd_share * config.elastic_voxels).astype(np.float32) if is_elastic else None,
        slice_axis=slice_axis,
    )


def source_box(draw: SpatialDraw, centre: NDArray[np.float64], patch: Shape, size: Shape) -> tuple[Shape, Shape]:
    """Return start and end (K, J, I) of the voxels of a case that a patch needs, with all neighbours.

    Where the patch reaches beyond the case the box holds one layer of voxels outside (-1 or `size`), no more. Along the
    slice axis it is as thick as the patch, wherever that lies.

    Args:
        draw: the transform.
        centre: of the patch, in voxels of the case, which need not be whole.
        patch: voxels of the patch.
        size: voxels of the case.
    """
    reach = np.abs(draw.matrix) @ ((np.array(patch) - 1) / 2)
    if draw.displacement is not None:  # B-spline weights are shares: no point moves further than its control points
        reach = reach + np.abs(draw.displacement).max(axis=(1, 2, 3))
    start = np.clip(np.floor(centre - reach - 1e-3), -1, np.array(size) - 1).astype(int)
    end = np.clip(np.ceil(centre + reach + 1e-3) + 1, start + 2, np.array(size) + 1).astype(int)
    if (axis := draw.slice_axis) is not None:
        start[axis] = round(centre[axis] - (patch[axis] - 1) / 2)
        end[axis] = start[axis] + patch[axis]
    return (int(start[0]), int(start[1]), int(start[2])), (int(end[0]), int(end[1]), int(end[2]))


def patch_coordinates(
    draw: SpatialDraw, centre: NDArray[np.float64], patch: Shape, device: torch.device
) -> list[Tensor]:
    """Return where each patch voxel lies, as three planes (*patch) float32 of K, J and I, in voxels.

    Args:
        draw: the transform.
        centre: of the patch, in the voxels that are counted.
        patch: voxels of the patch.
        device: where the planes are made.
    """
    offsets = [np.arange(edge) - (edge - 1) / 2 for edge in patch]
    planes = []
    for axis in range(3):
        k, j, i = (row * offset for row, offset in zip(draw.matrix[axis], offsets, strict=True))
        slice_of_plane = _on((centre[axis] + k)[:, None] + j, device)
        planes.append(slice_of_plane[..., None] + _on(i, device))
    if draw.displacement is not None:
        for plane, moved in zip(planes, _displacements(draw.displacement, patch, device), strict=True):
            plane += moved
    return planes


def _displacements(nodes: NDArray[np.float32], patch: Shape, device: torch.device) -> Tensor:
    """Return the cubic B-spline through control points (3, nodes K, J, I) at every patch voxel, (3, *patch)."""
    k, j, i = (_on(_spline_weights(edge), device) for edge in patch)
    along_i = torch.matmul(_on(nodes, device), i.T)  # (3, nodes K, nodes J, I)
    along_j = torch.matmul(j, along_i)  # (3, nodes K, J, I)
    return torch.matmul(k, along_j.flatten(2)).reshape(3, *patch)


def _spline_weights(edge: int) -> NDArray[np.float64]:
    """Return the share of each control point at each of `edge` voxels, (edge, nodes); every row adds up to 1."""
    cell, rest = np.divmod(np.arange(edge) / _CONTROL_SPACING_VOXELS, 1)
    weights = np.zeros((edge, _num_nodes(edge)))
    shares = ((1 - rest) ** 3, 3 * rest**3 - 6 * rest**2 + 4, -3 * rest**3 + 3 * rest**2 + 3 * rest + 1, rest**3)
    for node, share in enumerate(shares):
        weights[np.arange(edge), cell.astype(int) + node] = share / 6
    return weights


def _num_nodes(edge: int) -> int:
    return (edge - 1) // _CONTROL_SPACING_VOXELS + 4


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation about K, then J, then I, by angles in radians."""
    whole = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        whole = turn @ whole
    return whole


def _on(values: NDArray[np.floating[Any]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device, non_blocking=True)
