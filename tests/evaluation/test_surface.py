"""Borders, directed distances, HD95, mean distance and surface Dice, computed on paper with anisotropic spacing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brats_seg.evaluation.surface import assd, border, hd95_pooled, nsd, surface_distances

SPACING = (3.0, 2.0, 0.5)
"""mm along K, J, I: every axis another."""


def mask(*places: tuple[int | slice, int | slice, int | slice], shape: tuple[int, int, int] = (6, 7, 12)) -> np.ndarray:
    """Return a bool mask of single voxels, rows or boxes."""
    array = np.zeros(shape, bool)
    for place in places:
        array[place] = True
    return array


def test_border_of_a_cube_is_its_shell() -> None:
    cube = mask((slice(1, 4), slice(1, 4), slice(1, 4)))
    inside = mask((2, 2, 2))
    np.testing.assert_array_equal(border(cube), cube & ~inside)


def test_border_reaches_the_edge_of_the_array() -> None:
    full = np.ones((3, 3, 3), bool)
    assert border(full).sum() == 26  # all but the middle: beyond the array is outside


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (2, 2, 2)])
def test_all_of_a_thin_mask_is_border(shape: tuple[int, int, int]) -> None:
    assert border(np.ones(shape, bool)).all()


@pytest.mark.parametrize(
    ("offset", "distance"),
    [
        ((1, 0, 0), 3.0),
        ((0, 1, 0), 2.0),
        ((0, 0, 1), 0.5),
        ((0, 0, 7), 3.5),
        ((1, 1, 1), math.sqrt(9 + 4 + 0.25)),
        ((3, 2, 5), math.sqrt(81 + 16 + 6.25)),
    ],
)
def test_two_voxels_are_as_far_apart_as_their_centres_in_mm(offset: tuple[int, int, int], distance: float) -> None:
    distances = surface_distances(mask((1, 2, 3)), mask(tuple(np.add((1, 2, 3), offset))), SPACING)
    assert distances.from_reference.tolist() == distances.from_prediction.tolist() == [distance]
    assert hd95_pooled(distances) == assd(distances) == distance
    assert nsd(distances, distance) == 1
    assert nsd(distances, distance * 0.999) == 0


def test_nearest_is_chosen_in_mm_and_not_in_voxels() -> None:
    # One voxel along K is 3 mm, four along I are 2 mm.
    distances = surface_distances(mask((2, 2, 2)), mask((3, 2, 2), (2, 2, 6)), SPACING)
    assert distances.from_reference.tolist() == [2.0]
    assert sorted(distances.from_prediction) == [2.0, 3.0]


def test_percentile_is_of_both_lists_pooled_with_linear_interpolation() -> None:
    # A voxel against a row of ten that begins there: lists [0] and [0, .5, ... 4.5].
    # Pooled: 11 values, position 9.5, half-way between 4 and 4.5. The larger directed percentile would be 4.275.
    distances = surface_distances(mask((1, 1, 0)), mask((1, 1, slice(0, 10))), SPACING)
    assert hd95_pooled(distances) == pytest.approx(4.25, rel=1e-15)
    assert assd(distances) == pytest.approx(22.5 / 11, rel=1e-15)
    assert nsd(distances, 1.0) == pytest.approx((1 + 3 / 10) / 2, rel=1e-15)  # 0, 0.5 and 1 mm are within 1 mm


def test_three_definitions_of_hd95_differ_here_and_ours_is_the_pooled_one() -> None:
    cube = mask((slice(5, 13), slice(5, 13), slice(5, 13)), shape=(24, 20, 20))
    with_rod = cube | mask((slice(13, 21), slice(8, 10), slice(8, 10)), shape=(24, 20, 20))
    assert hd95_pooled(surface_distances(cube, with_rod, (1, 1, 1))) == 1.0  # weighted by area 5, larger direction 4


def test_far_apart_masks_get_the_exact_distance() -> None:
    shape = (60, 70, 80)
    distances = surface_distances(mask((0, 0, 0), shape=shape), mask((59, 69, 79), shape=shape), SPACING)
    assert hd95_pooled(distances) == math.sqrt((59 * 3) ** 2 + (69 * 2) ** 2 + 39.5**2)


def test_identical_masks_have_distance_zero() -> None:
    cube = mask((slice(1, 5), slice(1, 5), slice(1, 9)))
    distances = surface_distances(cube, cube, SPACING)
    assert (hd95_pooled(distances), assd(distances), nsd(distances, 0.0)) == (0, 0, 1)
    assert distances.from_reference.size == border(cube).sum()


def test_surface_dice_weighs_both_sides_alike() -> None:
    # Reference: 2 voxels, one of them found; prediction: 1 voxel. Sides: 1/2 and 1.
    distances = surface_distances(mask((1, 1, 1), (5, 6, 11)), mask((1, 1, 1)), SPACING)
    assert nsd(distances, 1.0) == 0.75


def test_a_spacing_kept_as_float32_stays_within_the_tolerance() -> None:
    spacing = (1.0, 1.0, float(np.float32(0.1)))  # 0.10000000149
    assert nsd(surface_distances(mask((1, 1, 1)), mask((1, 1, 11)), spacing), 1.0) == 1


@pytest.mark.parametrize(
    ("has_reference", "has_prediction", "expected_nsd"),
    [(False, False, math.nan), (True, False, 0.0), (False, True, 0.0)],
    ids=["both empty", "prediction empty", "reference empty"],
)
def test_distances_to_nothing_are_undefined(has_reference: bool, has_prediction: bool, expected_nsd: float) -> None:
    cube = mask((slice(1, 4), slice(1, 4), slice(1, 4)))
    distances = surface_distances(cube & has_reference, cube & has_prediction, SPACING)
    assert math.isnan(hd95_pooled(distances))
    assert math.isnan(assd(distances))
    assert nsd(distances, 1.0) == pytest.approx(expected_nsd, nan_ok=True)
    assert distances.from_reference.tolist() == [math.inf] * (26 * has_reference)
