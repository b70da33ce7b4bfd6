from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from brats_seg.reporting.viewer.meshes import Mesh, mz3_bytes, surface_mesh

BRATS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
MIRRORED = np.array([[1.0, 0, 0, -90], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
COARSE = np.array([[0, 0, 3.0, 5], [-1.5, 0, 0, 7], [0, 2, 0, -9], [0, 0, 0, 1]])
"""Voxels of 1.5 x 2 x 3 mm whose axes are not the world's."""


def ball(radius: float = 9.0) -> np.ndarray:
    k, j, i = np.indices((24, 25, 26))
    return (k - 11) ** 2 + (j - 12) ** 2 + (i - 13) ** 2 <= radius**2


@pytest.mark.parametrize(("affine", "voxel_mm3"), [(BRATS, 1), (MIRRORED, 1), (COARSE, 9)])
def test_faces_look_outward_whatever_the_handedness_of_the_grid(affine, voxel_mm3):
    mask = ball()
    mesh = surface_mesh(mask, affine)
    assert mesh.volume_mm3 == pytest.approx(mask.sum() * voxel_mm3, rel=0.06)  # smoothing takes a little off a ball
    assert mesh.faces.max() < len(mesh.vertices_mm)


def test_vertices_lie_where_the_affine_puts_the_mask():
    mesh = surface_mesh(ball(), BRATS)
    center = BRATS @ (13, 12, 11, 1)
    np.testing.assert_allclose(mesh.vertices_mm.mean(axis=0), center[:3], atol=0.3)
    radii = np.linalg.norm(mesh.vertices_mm - center[:3], axis=1)
    assert radii.min() > 8.3
    assert radii.max() < 10.0


def test_a_coarse_mesh_lies_in_the_same_place():
    mesh = surface_mesh(ball(), BRATS, step=3)
    assert len(mesh.faces) < 1000
    np.testing.assert_allclose(mesh.vertices_mm.mean(axis=0), (BRATS @ (13, 12, 11, 1))[:3], atol=1.5)


def test_a_lesion_of_one_voxel_keeps_a_surface_beside_a_large_one():
    mask = ball(6)
    alone = surface_mesh(mask, BRATS)
    mask[2, 2, 2] = True
    both = surface_mesh(mask, BRATS)
    assert len(both.faces) > len(alone.faces)
    assert both.volume_mm3 > alone.volume_mm3
    assert np.abs(both.vertices_mm - (BRATS @ (2, 2, 2, 1))[:3]).max(axis=1).min() < 1


def test_an_empty_mask_has_an_empty_mesh():
    mesh = surface_mesh(np.zeros((4, 5, 6), bool), BRATS)
    assert mesh.faces.shape == (0, 3)
    assert mesh.volume_mm3 == 0


def test_an_mz3_file_holds_faces_then_vertices():
    mesh = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32), np.array([[0, 2, 1]], np.int32))
    content = gzip.decompress(mz3_bytes(mesh))
    assert struct.unpack_from("<HHIII", content) == (23117, 3, 1, 4, 0)
    assert struct.unpack_from("<3i", content, 16) == (0, 2, 1)
    assert struct.unpack_from("<12f", content, 28) == (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert len(content) == 28 + 48
