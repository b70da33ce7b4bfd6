"""Surface elements: areas by hand, distances against a plain implementation, the three numbers that are called HD95."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from brats_seg.evaluation.surface import hd95_directed, hd95_pooled, surface_distances
from brats_seg.evaluation.surfels import area_table, corner_codes, hd95_by_area, surfel_distances

ISO = (1.0, 1.0, 1.0)
SPACINGS = [ISO, (3.0, 1.5, 0.7)]
VOXELS = list(itertools.product((0, 1), repeat=3))
NO, ON_I, ON_J, ON_K, ON_IJ, ON_KI, ON_KJ, ALL = (
    (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1),
)  # fmt: skip


def code(*voxels: tuple[int, int, int]) -> int:
    """Return the code of a corner whose voxels these are."""
    return sum(1 << VOXELS.index(voxel) for voxel in voxels)


ARRANGEMENTS = {
    "nothing": ((), 0),
    "one": ((NO,), math.sqrt(3) / 8),
    "two along an axis": ((NO, ON_J), math.sqrt(2) / 2),
    "two across a face": ((NO, ON_IJ), math.sqrt(3) / 4),
    "two opposite corners": ((NO, ALL), math.sqrt(3) / 4),
    "an L": ((NO, ON_I, ON_J), 0.5 + 3 * math.sqrt(3) / 8),
    "a pair and one": ((NO, ON_I, ON_KJ), math.sqrt(2) / 2 + math.sqrt(3) / 8),
    "three apart": ((NO, ON_IJ, ON_KI), 3 * math.sqrt(3) / 8),
    "a face": ((NO, ON_I, ON_J, ON_IJ), 1.0),
    "one and its neighbours": ((NO, ON_I, ON_J, ON_K), 3 * math.sqrt(3) / 4),
    "a path along three axes": ((NO, ON_I, ON_IJ, ALL), math.sqrt(3) / 2 + math.sqrt(2) / 2),
    "an L and the far corner": ((NO, ON_I, ON_J, ALL), 0.5 + math.sqrt(3) / 2),
    "two pairs, opposite": ((NO, ON_I, ON_KJ, ALL), math.sqrt(2)),
    "four apart": ((NO, ON_IJ, ON_KI, ON_KJ), math.sqrt(3) / 2),
}
"""Arrangement -> voxels, area at 1 mm as the table of the published definition has it."""


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_areas_at_1_mm_are_the_published_ones(name: str) -> None:
    voxels, area = ARRANGEMENTS[name]
    assert area_table(ISO)[code(*voxels)] == pytest.approx(area, rel=1e-15)
    assert area_table(ISO)[255 - code(*voxels)] == pytest.approx(area, rel=1e-15)


def test_every_arrangement_is_one_of_those_turned_or_mirrored() -> None:
    known = {round(area, 12) for _, area in ARRANGEMENTS.values()}
    assert {round(float(area), 12) for area in area_table(ISO)} == known
    for one in range(256):
        inside = [voxel for voxel in VOXELS if one >> VOXELS.index(voxel) & 1]
        for axes in itertools.permutations(range(3)):
            turned = code(*(tuple(voxel[axis] for axis in axes) for voxel in inside))
            assert area_table(ISO)[turned] == pytest.approx(area_table(ISO)[one])


# A voxel of 3 x 2 x 1 mm (K, J, I) has faces of 2, 3 and 6 mm2 across K, J and I.
CORNER = math.sqrt(4 + 9 + 36) / 8
ACROSS_K, ACROSS_J, ACROSS_I = 2.0, 3.0, 6.0
BEVEL_K, BEVEL_J, BEVEL_I = math.sqrt(9 + 36) / 2, math.sqrt(4 + 36) / 2, math.sqrt(4 + 9) / 2


@pytest.mark.parametrize(
    ("voxels", "area"),
    [
        ((NO,), CORNER),
        ((NO, ON_K), BEVEL_K),
        ((NO, ON_I), BEVEL_I),
        ((NO, ON_I, ON_J), ACROSS_K / 2 + 3 * CORNER),
        ((NO, ON_K, ON_I, ON_KI), ACROSS_J),
        ((NO, ON_J, ON_K, ON_KJ), ACROSS_I),
        ((NO, ON_J, ON_KI, ALL), 2 * BEVEL_J),
        ((NO, ON_I, ON_IJ, ALL), 4 * CORNER + (BEVEL_I + BEVEL_K) / 2),  # the path's ends lie along I and K
        ((NO, ON_J, ON_K, ON_I), 6 * CORNER),
    ],
)
def test_areas_of_voxels_that_are_no_cubes(voxels: tuple[tuple[int, int, int], ...], area: float) -> None:
    assert area_table((3.0, 2.0, 1.0))[code(*voxels)] == pytest.approx(area, rel=1e-15)


def test_a_code_names_the_voxels_around_its_corner() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 2, 1] = True
    codes = corner_codes(mask)
    assert codes.shape == (3, 3, 3)
    assert np.count_nonzero(codes) == 8
    assert codes[1, 2, 1] == code(NO)
    assert codes[0, 1, 0] == code(ALL)
    assert codes[0, 2, 1] == code(ON_K)


def plain_hd95(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Return HD95 by area from distance maps of the corner points on the whole, padded grid."""
    table = area_table(spacing)
    codes = []
    for mask in (reference, prediction):
        padded = np.pad(mask, 1).astype(int)
        inside = [padded[k : padded.shape[0] - 1 + k, j : padded.shape[1] - 1 + j, i : padded.shape[2] - 1 + i]
                  for k, j, i in VOXELS]  # fmt: skip
        codes.append(sum(part << bit for bit, part in enumerate(inside)))
    sides = []
    for own, other in (codes, codes[::-1]):
        away = ndimage.distance_transform_edt((other == 0) | (other == 255), sampling=spacing)
        points = (own != 0) & (own != 255)
        pairs = sorted(zip(away[points], table[own[points]], strict=True))
        passed = itertools.accumulate(area for _, area in pairs)
        limit = 0.95 * sum(area for _, area in pairs)
        sides.append(next(distance for (distance, _), area in zip(pairs, passed, strict=True) if area >= limit))
    return max(sides)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_hd95_by_area_equals_a_plain_implementation(seed: int, spacing: tuple[float, float, float]) -> None:
    fields = [
        ndimage.gaussian_filter(np.random.RandomState(10 * seed + n).standard_normal((17, 20, 14)), 1.5) for n in (0, 1)
    ]
    masks = [field > field.std() * (0.5 + seed / 5) for field in fields]
    distances = surfel_distances(*masks, spacing)
    assert hd95_by_area(distances) == pytest.approx(plain_hd95(*masks, spacing), rel=1e-12)


def test_three_definitions_of_hd95_are_three_numbers() -> None:
    reference = np.zeros((16, 16, 24), bool)
    reference[5:13, 5:13, 5:13] = True
    prediction = reference.copy()
    prediction[8:10, 8:10, 13:21] = True  # a rod
    borders = surface_distances(reference, prediction, ISO)
    by_area = hd95_by_area(surfel_distances(reference, prediction, ISO))
    assert (hd95_pooled(borders), by_area, hd95_directed(borders)) == (1.0, 5.0, 4.0)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_mask_without_surface_is_infinitely_far(which: int) -> None:
    empty, voxel = np.zeros((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    voxel[1, 1, 1] = True
    masks = [(empty, voxel), (voxel, empty), (empty, empty)][which]
    distances = surfel_distances(*masks, ISO)
    assert hd95_by_area(distances) == math.inf
    assert len(distances.from_reference) == (8 if which == 1 else 0)


masks = arrays.arrays(np.bool_, (4, 5, 3), elements=st.booleans())
laws = settings(max_examples=40, deadline=None, database=None, derandomize=True)


@laws
@given(masks, masks, st.sampled_from(SPACINGS), st.sampled_from([(0,), (1, 2), (0, 1, 2)]), st.integers(0, 9))
def test_flips_shifts_and_swaps_change_nothing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float], axes: tuple[int, ...], shift: int
) -> None:
    expected = hd95_by_area(surfel_distances(first, second, spacing))
    flipped = [np.flip(mask, axes) for mask in (first, second)]
    padded = [np.pad(mask, [(shift, 9 - shift)] * 3) for mask in (first, second)]
    for pair in (flipped, padded, (second, first)):
        assert hd95_by_area(surfel_distances(*pair, spacing)) == pytest.approx(expected, rel=1e-12)


@laws
@given(masks, masks, st.sampled_from([0.1, 2.0, 7.0]))
def test_distances_scale_with_the_voxel(first: np.ndarray, second: np.ndarray, factor: float) -> None:
    near = hd95_by_area(surfel_distances(first, second, (1.0, 2.0, 3.0)))
    far = hd95_by_area(surfel_distances(first, second, (factor, 2 * factor, 3 * factor)))
    assert far == pytest.approx(factor * near, rel=1e-12)
