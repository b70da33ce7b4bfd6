"""Synthetic tumours: where lesions sit, how they grow, and what they are made of.

Comes in: a `Head` without tumour and a plan. Goes out: the same head, its tissue overwritten by tumour tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.phantom_shapes import Box, Head, Point, Tissue, paint, smooth_noise

__all__ = ["Growth", "Kind", "Lesion", "add_lesions", "growth_of_task", "plan_lesions", "pushes_of"]


class Kind(Enum):
    """What is special about a case's tumour."""

    USUAL = auto()
    MULTIFOCAL = auto()
    NO_ET = auto()
    TINY_ET = auto()
    TINY_NECROSIS = auto()
    AT_EDGE = auto()


@dataclass(frozen=True)
class Growth:
    """How tumours of one task grow; pairs are the ends of a uniform range."""

    num_lesions: tuple[int, int] = (1, 3)
    radius_mm: tuple[float, float] = (21.0, 35.0)
    minor_radius_mm: tuple[float, float] = (6.0, 13.0)
    place: tuple[float, float] = (0.3, 0.72)
    """Distance of a lesion's centre from the middle of the head, as a part of the head's radius."""
    core: tuple[float, float] = (0.45, 0.72)
    """Radius of the tumour core, as a part of the lesion's."""
    necrosis: tuple[float, float] = (0.4, 0.85)
    """Radius of the necrosis, as a part of the core's."""
    non_enhancing: float = 0.25
    """Share of the outer core that does not enhance."""


_GROWTHS = {
    "MEN": Growth(num_lesions=(1, 1), radius_mm=(16.0, 28.0), place=(0.8, 0.92), core=(0.65, 0.9), necrosis=(0.1, 0.3)),
    "MET": Growth(num_lesions=(3, 7), radius_mm=(12.0, 22.0), minor_radius_mm=(3.0, 9.0), place=(0.4, 0.85)),
    "PED": Growth(num_lesions=(1, 2), place=(0.1, 0.35), core=(0.7, 0.9), necrosis=(0.5, 0.9), non_enhancing=0.7),
}
_GROWTHS["MEN-RT"] = _GROWTHS["MEN"]


@dataclass(frozen=True)
class Lesion:
    """One lesion before its noise: centre in half axes of the head (K, J, I), radii in mm, parts of the radius."""

    centre: Point
    radii_mm: Point
    core: float
    necrosis: float
    """As a part of the lesion's radius."""
    non_enhancing: float


def growth_of_task(task: str) -> Growth:
    """Return how tumours of an edition's task grow; adult glioma for tasks without an entry of their own."""
    return _GROWTHS.get(task, Growth())


def plan_lesions(rng: np.random.Generator, growth: Growth, kind: Kind) -> list[Lesion]:
    """Return the lesions of a case, the largest first."""
    low, high = growth.num_lesions
    num_lesions = int(rng.integers(low, high + 1))
    if kind is Kind.MULTIFOCAL:
        num_lesions = max(num_lesions, 3)
    lesions = [_plan_lesion(rng, growth, kind, is_first=n == 0) for n in range(num_lesions)]
    return lesions


def _plan_lesion(rng: np.random.Generator, growth: Growth, kind: Kind, *, is_first: bool) -> Lesion:
    direction = rng.standard_normal(3)
    direction[2] += np.copysign(0.6, direction[2])  # seldom in the midline
    direction[0] = max(direction[0], -0.8)  # seldom at the base, where little brain is
    distance = rng.uniform(*growth.place)
    if is_first and kind is Kind.AT_EDGE:
        direction[:2] *= 0.2
        distance = 0.85
    centre = direction / np.sqrt((direction**2).sum()) * distance
    radius = rng.uniform(*(growth.radius_mm if is_first else growth.minor_radius_mm))
    radii = radius * rng.uniform(0.8, 1.25, 3)
    core = rng.uniform(*growth.core)
    if not is_first and rng.random() < 0.2:
        core = 0.0  # oedema only
    necrosis = core * rng.uniform(*growth.necrosis)
    non_enhancing = 1.0 if kind is Kind.NO_ET else growth.non_enhancing * rng.uniform(0, 2)
    return Lesion(_point(centre), _point(radii), core, necrosis, non_enhancing)


def _point(values: NDArray[np.float64]) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))


def pushes_of(lesions: Sequence[Lesion]) -> list[tuple[Point, float]]:
    """Return the mass effect of lesions for `make_head`: a lesion of 30 mm shifts the midline by 5 mm."""
    return [(lesion.centre, 0.08 * (max(lesion.radii_mm) / 30) ** 2) for lesion in lesions]


def add_lesions(
    rng: np.random.Generator, head: Head, lesions: Sequence[Lesion], kind: Kind, *, has_cavity: bool
) -> None:
    """Paint lesions into the head's tissue, in place; where two overlap the higher code of `Tissue` stays."""
    for number, lesion in enumerate(lesions):
        box = _box_of(head, lesion)
        tissue = head.tissue[box]
        if tissue.size == 0:
            continue
        tumor = _grow(rng, head, lesion, box, has_cavity=has_cavity and number == 0)
        np.maximum(tissue, tumor, out=tissue, where=tissue != Tissue.OUTSIDE)
    if kind is Kind.TINY_ET:
        _shrink(rng, head.tissue, Tissue.ENHANCING, Tissue.NON_ENHANCING)
    if kind is Kind.TINY_NECROSIS:
        for code in (Tissue.NON_ENHANCING, Tissue.CYST):
            paint(head.tissue, head.tissue == code, Tissue.NECROSIS)
        _shrink(rng, head.tissue, Tissue.NECROSIS, Tissue.ENHANCING)


def _box_of(head: Head, lesion: Lesion) -> Box:
    """Return the part of the head's box that a lesion can reach: 1.7 times its radii about its centre."""
    parts = []
    for axis in range(3):
        coordinates = head.axes[axis].ravel()
        reach = 1.7 * lesion.radii_mm[axis] * head.voxels_per_mm / head.half_axes[axis]
        inside = np.flatnonzero(np.abs(coordinates - lesion.centre[axis]) < reach)
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    return (parts[0], parts[1], parts[2])


def _grow(rng: np.random.Generator, head: Head, lesion: Lesion, box: Box, *, has_cavity: bool) -> NDArray[np.uint8]:
    """Return the tumour tissue of one lesion in its box, 0 elsewhere."""
    tissue, scale = head.tissue[box], head.voxels_per_mm
    squares = [
        (
            (head.axes[a].ravel()[box[a]] - np.float32(lesion.centre[a]))
            * np.float32(head.half_axes[a] / (lesion.radii_mm[a] * scale))
        )
        ** 2
        for a in range(3)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
    coarse, middle, fine = (smooth_noise(rng, tissue.shape, cell * scale) for cell in (16, 11, 6))
    distance += np.float32(0.13) * coarse
    core = distance + np.float32(0.07) * fine
    spread = distance + np.float32(0.16) * middle + np.float32(0.07) * fine
    tumor = np.zeros(tissue.shape, np.uint8)
    spared = np.isin(tissue, (Tissue.GREY, Tissue.DEEP_GREY))  # oedema spares grey matter and liquor
    fluid = np.isin(tissue, (Tissue.CSF, Tissue.VESSEL))
    extent = spread + np.float32(0.25) * spared
    paint(tumor, (extent < 1) & ~fluid, Tissue.FAINT_EDEMA)
    paint(tumor, (extent < 0.85 - 0.1 * coarse) & ~fluid, Tissue.EDEMA)
    if lesion.core == 0:
        return tumor
    paint(tumor, core < lesion.core, Tissue.ENHANCING)
    patch_level = 2.2 * (0.5 - lesion.non_enhancing)  # share of smooth noise above it, near enough
    paint(tumor, (core < lesion.core) & ((middle > patch_level) | (lesion.non_enhancing >= 1)), Tissue.NON_ENHANCING)
    paint(tumor, core < lesion.necrosis, Tissue.NECROSIS if lesion.non_enhancing < 1 else Tissue.NON_ENHANCING)
    paint(tumor, (core < 0.9 * lesion.necrosis) & (coarse > 0.8), Tissue.CYST)
    if has_cavity:
        paint(tumor, core < 0.75 * lesion.necrosis, Tissue.CAVITY)
    return tumor


def _shrink(rng: np.random.Generator, tissue: NDArray[np.uint8], code: Tissue, instead: Tissue) -> None:
    """Keep 2 to 9 neighbouring voxels of a tissue and turn the rest into another, in place."""
    where = np.flatnonzero(tissue == code)
    if where.size == 0:
        return
    points = np.stack(np.unravel_index(where, tissue.shape), axis=1)
    middle = points[rng.integers(len(points))]
    order = np.argsort(((points - middle) ** 2).sum(axis=1), kind="stable")
    flat = tissue.reshape(-1)
    flat[where[order[int(rng.integers(2, 10)) :]]] = instead
