"""Surfaces of regions as triangle meshes in millimetres, in the form that NiiVue reads (`.mz3`).

Meshes have outward faces whatever the handedness of the grid: their enclosed volume is positive. Needs scikit-image,
imported when the first mesh is made.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.evaluation.lesions import components
from brats_seg.evaluation.overlap import union_box

__all__ = ["Mesh", "mz3_bytes", "surface_mesh"]

_SIGMA_VOXELS = 1.0
"""Gaussian that takes the stairs of the voxels off the surface."""
_MARGIN = 4
"""Voxels of background around a mask: where the smoothed mask has come down to 0."""
_LEVEL = 0.5


@dataclass(frozen=True)
class Mesh:
    """Triangles; faces are seen counter-clockwise from outside."""

    vertices_mm: NDArray[np.float32]
    """(vertex, 3): R, A, S."""
    faces: NDArray[np.int32]
    """(triangle, 3): indices of vertices."""

    @property
    def volume_mm3(self) -> float:
        """Signed enclosed volume (divergence theorem): positive where faces look outward; 0 without faces."""
        a, b, c = (self.vertices_mm[self.faces[:, n]].astype(np.float64) for n in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def surface_mesh(mask: NDArray[np.bool_], affine: NDArray[np.float64], *, step: int = 1) -> Mesh:
    """Return the surface of a mask (K, J, I), slightly smoothed; an empty mask gives an empty mesh.

    Parts too small to survive the smoothing are kept as they are: every lesion has a surface.

    Args:
        mask: the region.
        affine: 4x4, (i, j, k) -> RAS+ mm, of the mask's grid.
        step: take every step-th voxel only, for large masks that need no detail.
    """
    box = union_box(mask, mask)
    if box is None:
        return Mesh(np.empty((0, 3), np.float32), np.empty((0, 3), np.int32))
    from skimage.measure import marching_cubes  # noqa: PLC0415 (slow to import)

    inside = np.pad(mask[box][::step, ::step, ::step], _MARGIN)
    corners, faces, _, _ = marching_cubes(_smoothed(inside), _LEVEL)  # type: ignore[no-untyped-call]
    origin = np.array([part.start for part in box])
    indices = ((corners - _MARGIN) * step + origin)[:, ::-1]  # (i, j, k)
    vertices = indices @ affine[:3, :3].T + affine[:3, 3]
    mesh = Mesh(vertices.astype(np.float32), np.ascontiguousarray(faces, np.int32))
    return mesh if mesh.volume_mm3 >= 0 else Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1]))


def mz3_bytes(mesh: Mesh) -> bytes:
    """Return a mesh as a gzipped `.mz3` file: header, faces (int32), vertices (float32), little-endian."""
    header = struct.pack("<HHIII", 0x5A4D, 1 | 2, len(mesh.faces), len(mesh.vertices_mm), 0)
    content = header + mesh.faces.astype("<i4").tobytes() + mesh.vertices_mm.astype("<f4").tobytes()
    return gzip.compress(content, compresslevel=1, mtime=0)


def _smoothed(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mask after a Gaussian, with the parts that it would wipe out put back."""
    field = ndimage.gaussian_filter(mask.astype(np.float32), _SIGMA_VOXELS)
    labels = components(mask)
    peaks = np.zeros(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(peaks, labels[mask], field[mask])
    is_lost = peaks <= _LEVEL
    is_lost[0] = False
    field[is_lost[labels]] = 1.0
    smoothed: NDArray[np.float32] = field
    return smoothed
