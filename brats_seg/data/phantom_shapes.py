"""The anatomy of a synthetic case: which tissue every voxel of a brain is made of, before any tumour.

Comes in: a random generator and a grid. Goes out: a `Head` with one uint8 array of `Tissue` codes. Lengths are in mm of
a head of usual size and become voxels by `voxels_per_mm`. Noise is smooth: cubic B-splines on a coarse grid of normal
numbers, as three small matrix products. Their entries are whole numbers below 2^24, so that float32 sums are exact and
no order of summation, thread count or BLAS changes a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Head", "Point", "Tissue", "Volume", "make_head", "paint", "smooth_noise", "smoothed"]

Volume: TypeAlias = NDArray[np.float32]
Box: TypeAlias = tuple[slice, slice, slice]
Point: TypeAlias = tuple[float, float, float]

_HALF_AXES_MM = (66.0, 84.0, 66.0)
_NODE_UNIT, _WEIGHT_UNIT = 2048, 512
_NOISE_SD = (151 / 315) ** 1.5
"""Standard deviation of B-spline noise on unit normal nodes: the square of the spline integrates to 151/315 an axis."""


class Tissue(IntEnum):
    """What a voxel is made of; tumour from FAINT_EDEMA on, and of two tumour tissues the higher one stays."""

    OUTSIDE = 0
    WHITE = 1
    GREY = 2
    CSF = 3
    DEEP_GREY = 4
    CAP = 5
    """Periventricular cap or small white-matter hyperintensity: bright on FLAIR, no tumour."""
    RIM = 6
    """Artefact at the surface: bright on FLAIR alone."""
    DURA = 7
    """Enhancing surface: bright on T1c alone."""
    VESSEL = 8
    """Bright on T1c, dark on T2."""
    FAINT_EDEMA = 9
    EDEMA = 10
    NON_ENHANCING = 11
    CYST = 12
    CAVITY = 13
    NECROSIS = 14
    ENHANCING = 15


@dataclass(frozen=True)
class Head:
    """A brain in its box of the grid; all arrays have the box's shape (K, J, I) or broadcast to it."""

    box: Box
    tissue: NDArray[np.uint8]
    depth: Volume
    """1 in the middle, 0 at the surface, below 0 outside."""
    axes: tuple[Volume, Volume, Volume]
    """Coordinates along K, J, I from the middle, in half axes of the head: (K, 1, 1), (1, J, 1), (1, 1, I)."""
    half_axes: tuple[float, float, float]
    """In voxels, along K, J, I."""
    voxels_per_mm: float


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], cell: float) -> Volume:
    """Return smooth noise of mean 0 and standard deviation 1, (K, J, I), with a node every `cell` voxels.

    Every product and sum is a whole number that float32 holds exactly: the result does not depend on threads.
    """
    a, b, c = (_spline_weights(n, max(cell, 1.0)) for n in shape)
    nodes = rng.standard_normal((a.shape[1], b.shape[1], c.shape[1]), dtype=np.float32)
    v = np.rint(np.clip(nodes, -5, 5) * _NODE_UNIT)
    v = np.rint((v @ c.T) / _WEIGHT_UNIT)
    v = np.rint((b @ v) / _WEIGHT_UNIT)
    noise = (a @ v.reshape(len(v), -1)).reshape(tuple(shape))
    noise *= np.float32(1 / (_NODE_UNIT * _WEIGHT_UNIT * _NOISE_SD))
    return noise


def _spline_weights(n: int, cell: float) -> Volume:
    """Return (n, nodes) cubic B-spline weights in units of 1/512, as whole numbers, for nodes every `cell` voxels."""
    x = np.arange(n) / cell
    i = x.astype(int)
    t = x - i
    weights = np.zeros((n, i[-1] + 4), np.float32)
    splines = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for k, values in enumerate(splines):
        weights[np.arange(n), i + k] = np.rint(values / 6 * _WEIGHT_UNIT)
    return weights


def smoothed(volume: Volume) -> Volume:
    """Return the volume after [1 2 1] / 4 along each axis, in place; the outermost voxels stay as they are."""
    for axis in range(3):
        v = np.moveaxis(volume, axis, 0)
        pairs = v[1:] + v[:-1]
        np.add(pairs[1:], pairs[:-1], out=v[1:-1])
        v[1:-1] *= np.float32(0.25)
    return volume


def paint(tissue: NDArray[np.uint8], mask: NDArray[np.bool_], code: Tissue) -> None:
    """Set the voxels of `mask` to `code`, in place."""
    np.copyto(tissue, np.uint8(code), where=mask)


def make_head(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxels_per_mm: float,
    pushes: Sequence[tuple[Point, float]] = (),
) -> Head:
    """Return a brain without tumour in the middle of a grid of `shape` (K, J, I).

    `pushes` are (point in half axes of the head, strength) of what pushes the midline away: the mass effect.
    """
    head = _empty_head(rng, shape, voxels_per_mm)
    _paint_mantle(rng, head)
    lateral = head.axes[2] + _midline_shift(head, pushes)
    paint(head.tissue, (np.abs(lateral) < 0.022) & (head.depth > 0) & (head.depth < 0.45), Tissue.CSF)
    _paint_middle(rng, head, lateral)
    _paint_enhancing_veins(rng, head, lateral)
    paint(head.tissue, head.depth <= 0, Tissue.OUTSIDE)
    return head


def _empty_head(rng: np.random.Generator, shape: tuple[int, int, int], voxels_per_mm: float) -> Head:
    """Return a head of white matter alone: an ellipsoid, flatter below, its surface disturbed."""
    half = [h * voxels_per_mm * rng.uniform(0.96, 1.04) for h in _HALF_AXES_MM]
    centre = [(n - 1) / 2 + voxels_per_mm * rng.uniform(-3, 3) for n in shape]
    box = [
        slice(max(0, int(c - 1.25 * h)), min(n, int(c + 1.25 * h) + 1))
        for c, h, n in zip(centre, half, shape, strict=True)
    ]
    k, j, i = (
        ((np.arange(s.start, s.stop) - c) / h).astype(np.float32) for s, c, h in zip(box, centre, half, strict=True)
    )
    axes = (np.where(k < 0, k * np.float32(1.25), k)[:, None, None], j[None, :, None], i[None, None, :])
    depth = np.sqrt(axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2)
    depth += np.float32(0.022) * smooth_noise(rng, depth.shape, 26 * voxels_per_mm)
    np.subtract(1, depth, out=depth)
    tissue = np.full(depth.shape, Tissue.WHITE, np.uint8)
    return Head((box[0], box[1], box[2]), tissue, depth, axes, (half[0], half[1], half[2]), voxels_per_mm)


def _paint_mantle(rng: np.random.Generator, head: Head) -> None:
    """Paint cortex and sulci (zero sets of smooth noise wind like folds), and what is bright at the surface."""
    tissue, depth = head.tissue, head.depth
    folds = smooth_noise(rng, tissue.shape, 7 * head.voxels_per_mm)
    patches = smooth_noise(rng, tissue.shape, 20 * head.voxels_per_mm)
    winding = np.abs(folds)
    paint(tissue, (depth < 0.08) | ((winding < 0.6) & (depth < 0.33)), Tissue.GREY)
    paint(tissue, (winding < 0.16) & (depth < 0.24), Tissue.CSF)
    paint(tissue, (depth < rng.uniform(0.03, 0.055)) & (patches > rng.uniform(0.5, 1.6)), Tissue.RIM)
    paint(tissue, (depth < 0.035) & (patches < rng.uniform(-1.8, -0.9)), Tissue.DURA)
    crossing = np.abs(smooth_noise(rng, tissue.shape, 14 * head.voxels_per_mm))
    paint(tissue, (winding < 0.16) & (crossing < 0.08) & (depth < 0.45), Tissue.VESSEL)


def _midline_shift(head: Head, pushes: Sequence[tuple[Point, float]]) -> Volume:
    """Return how far the midline lies from the middle, (K, J, 1), in half axes of the head; 0 far from all pushes."""
    z, y, _ = head.axes
    shift = np.zeros((z.shape[0], y.shape[1], 1), np.float32)
    for (point_z, point_y, point_x), strength in pushes:
        nearness = np.maximum(0, 1 - ((z - point_z) / 0.8) ** 2) * np.maximum(0, 1 - ((y - point_y) / 0.8) ** 2)
        shift += np.float32(strength if point_x > 0 else -strength) * nearness
    return shift


def _paint_middle(rng: np.random.Generator, head: Head, lateral: Volume) -> None:
    """Paint deep grey matter, both lateral ventricles, their FLAIR caps, and small white-matter hyperintensities."""
    z, y, _ = head.axes
    inner = (_span(z, 0.65), _span(y, 0.75), _span(lateral[:1, :1], 0.6))
    tissue, side = head.tissue[inner], np.abs(lateral[inner])
    z, y = z[inner[0]], y[:, inner[1]]
    for centre, radii in (((-0.02, 0.12, 0.19), (0.13, 0.17, 0.11)), ((0.0, -0.12, 0.32), (0.15, 0.21, 0.07))):
        nucleus = ((z - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
        paint(tissue, nucleus + ((side - centre[2]) / radii[2]) ** 2 < 1, Tissue.DEEP_GREY)
    spots = smooth_noise(rng, tissue.shape, 5 * head.voxels_per_mm)
    paint(tissue, (spots > rng.uniform(2.0, 2.8)) & (tissue == Tissue.WHITE) & (head.depth[inner] > 0.2), Tissue.CAP)
    size = rng.uniform(0.75, 1.25)
    curve = 0.09 + 0.5 * (y + 0.05) ** 2
    level = ((z - 0.14 + 0.5 * y**2) / (0.15 * size)) ** 2 + (y / (0.42 * size**0.5)) ** 2
    level = np.sqrt(level + ((side - curve) / (0.06 * size)) ** 2)
    cap = 1 + rng.uniform(0.08, 0.4) * np.clip(1 + np.float32(0.4) * spots, 0, 2)
    paint(tissue, (level < cap) & (tissue == Tissue.WHITE), Tissue.CAP)
    paint(tissue, level < 1, Tissue.CSF)
    paint(tissue, (level < 0.45) & (y > 0.05), Tissue.VESSEL)  # choroid plexus: enhances


def _span(axis: Volume, limit: float) -> slice:
    """Return the range of indices in which a coordinate lies within +- `limit`."""
    inside = np.flatnonzero(np.abs(axis.ravel()) < limit)
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


def _paint_enhancing_veins(rng: np.random.Generator, head: Head, lateral: Volume) -> None:
    """Paint the sagittal sinus: a vein along the midline, at the surface above and behind."""
    z, y, _ = head.axes
    above = (z > 0.1) | (y > 0.3)
    width = rng.uniform(0.025, 0.045)
    paint(head.tissue, (np.abs(lateral) < width) & (head.depth < 1.6 * width) & above, Tissue.VESSEL)
