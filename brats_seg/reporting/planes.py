"""Planes through a volume as a radiologist reads them: the patient's right on the left, head up, nose up or left.

In come arrays in file order and the affine; out come two-dimensional slices. A volume is *turned* once, as a view
without a copy, to the body's axes (foot to head, front to back, right to left); planes are cut from that. An oblique
grid is turned to the nearest axes and not resampled. Users name slices by their index in the file, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import UsageError, did_you_mean

__all__ = ["PLANES", "SIDES", "Box", "Orientation", "box_of", "cut", "orientation_of", "plane_axis", "slice_with_most"]

PLANES = ("axial", "coronal", "sagittal")
"""In the order of the body's axes that they cut across."""

SIDES: Mapping[str, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
"""Plane -> which side of the patient is at the left and at the right of the picture."""

_WORLD_AXES = (2, 1, 0)
"""Axis of RAS space along each of the body's axes."""
_WORLD_SIGNS = (1, -1, -1)
"""Whether RAS coordinates rise (1) or fall (-1) from foot to head, from front to back, from right to left."""

Box = tuple[slice, slice, slice]
"""Part of a turned volume."""

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Orientation:
    """How a grid in file order lies in the body."""

    axes: tuple[int, int, int]
    """Array axis (0 = K, 1 = J, 2 = I) that runs from foot to head, from front to back, from right to left."""
    is_flipped: tuple[bool, bool, bool]
    """Whether the file runs the other way along that axis."""
    shape: tuple[int, int, int]
    """Of a turned volume."""
    spacing_mm: tuple[float, float, float]
    """Between voxels of a turned volume."""
    affine: NDArray[np.float64]
    """4x4, (i, j, k) -> RAS+ mm."""

    def turned(self, volume: NDArray[_T]) -> NDArray[_T]:
        """Return a view of a volume (K, J, I) along (foot to head, front to back, right to left)."""
        flips = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.is_flipped)
        turned: NDArray[_T] = volume.transpose(self.axes)[flips]
        return turned

    def file_index(self, plane: str, index: int) -> int:
        """Return the index in the file of a slice of the turned volume, or the other way round."""
        axis = plane_axis(plane)
        return self.shape[axis] - 1 - index if self.is_flipped[axis] else index

    def axis_name(self, plane: str) -> str:
        """Return the file's axis across a plane: `k`, `j` or `i`."""
        return "kji"[self.axes[plane_axis(plane)]]

    def position_mm(self, plane: str, index: int) -> float:
        """Return where a slice of the turned volume lies along its axis of RAS space (x, y or z), at its middle."""
        axis = plane_axis(plane)
        turned = [(n - 1) / 2 for n in self.shape]
        turned[axis] = index
        voxel = np.ones(4)
        for place, own, size, flipped in zip(turned, self.axes, self.shape, self.is_flipped, strict=True):
            voxel[2 - own] = size - 1 - place if flipped else place
        return float((self.affine @ voxel)[_WORLD_AXES[axis]])

    def plane_spacing_mm(self, plane: str) -> tuple[float, float]:
        """Return the size of a pixel of a plane, (row, column)."""
        rows, columns = (size for axis, size in enumerate(self.spacing_mm) if axis != plane_axis(plane))
        return rows, columns


def orientation_of(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Orientation:
    """Return how a grid lies in the body.

    Args:
        affine: 4x4, (i, j, k) -> RAS+ mm, with an inverse.
        shape: (K, J, I).
    """
    nearest = nib.io_orientation(affine)  # type: ignore[no-untyped-call]  # for i, j, k: axis of RAS space, and sign
    world = [int(axis) for axis in nearest[:, 0]]
    voxel_axes = [world.index(axis) for axis in _WORLD_AXES]
    i, j, k = (2 - axis for axis in voxel_axes)
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    first, second, third = (float(sizes_mm[axis]) for axis in voxel_axes)
    head, back, left = (bool(nearest[axis, 1] != sign) for axis, sign in zip(voxel_axes, _WORLD_SIGNS, strict=True))
    return Orientation(
        axes=(i, j, k),
        is_flipped=(head, back, left),
        shape=(shape[i], shape[j], shape[k]),
        spacing_mm=(first, second, third),
        affine=np.asarray(affine, np.float64),
    )


def plane_axis(plane: str) -> int:
    """Return the axis of a turned volume across a plane.

    Raises:
        UsageError: there is no such plane.
    """
    if plane not in PLANES:
        raise UsageError(f"plane {plane!r} is unknown{did_you_mean(plane, PLANES)}")
    return PLANES.index(plane)


def cut(turned: NDArray[_T], plane: str, index: int) -> NDArray[_T]:
    """Return a slice (rows, columns) of a turned volume, as it is seen; head up in coronal and sagittal planes.

    Args:
        turned: what `Orientation.turned` gives.
        plane: one of `PLANES`.
        index: of the slice, in the turned volume.
    """
    flat: NDArray[_T] = np.moveaxis(turned, plane_axis(plane), 0)[index]
    return flat if plane == "axial" else flat[::-1]


def slice_with_most(turned: NDArray[np.bool_] | NDArray[np.uint8], plane: str) -> int | None:
    """Return the index of the slice with the most voxels of a turned mask (or the largest sum); None for all 0."""
    others = tuple(axis for axis in range(3) if axis != plane_axis(plane))
    sums = np.count_nonzero(turned, axis=others) if turned.dtype == bool else turned.sum(axis=others, dtype=np.int64)
    return int(sums.argmax()) if sums.any() else None


def box_of(turned: NDArray[np.bool_], margin: tuple[int, int, int] = (0, 0, 0), *, outliers: float = 0.0) -> Box:
    """Return the smallest box around a turned mask, widened within the grid; all of the grid for an empty mask.

    Args:
        turned: what `Orientation.turned` gives.
        margin: voxels to widen it by.
        outliers: share of the voxels, at each end of each axis, that may lie outside: small parts far away.
    """
    sides = []
    for axis, (size, extra) in enumerate(zip(turned.shape, margin, strict=True)):
        counts = np.count_nonzero(turned, axis=tuple(other for other in range(3) if other != axis))
        few = outliers * counts.sum()
        places = np.flatnonzero((counts.cumsum() > few) & (counts[::-1].cumsum()[::-1] > few))
        low, high = (int(places[0]), int(places[-1]) + 1) if places.size else (0, size)
        sides.append(slice(max(0, low - extra), min(size, high + extra)))
    first, second, third = sides
    return first, second, third
