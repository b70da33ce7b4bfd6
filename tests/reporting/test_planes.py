"""Planes as a radiologist sees them, against nibabel's own reorientation."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from brats_seg.errors import UsageError
from brats_seg.reporting.planes import PLANES, box_of, cut, orientation_of, plane_axis, slice_with_most

BRATS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
RAS = np.array([[0.8, 0, 0, -7], [0, 1.1, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1]])
ORDERS = [
    np.array([*zip(order, signs, strict=True)])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def in_order(order: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """A volume (K, J, I) whose voxels are all different, stored in some order of axes, and its affine."""
    image = nib.Nifti1Image(np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5), RAS).as_reoriented(order)
    return np.asarray(image.dataobj).T, image.affine


def test_the_file_of_brats_is_seen_as_it_is_stored() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    turned = orientation_of(BRATS, (2, 3, 4)).turned(volume)
    np.testing.assert_array_equal(cut(turned, "axial", 1), volume[1])
    np.testing.assert_array_equal(cut(turned, "coronal", 2), volume[::-1, 2])
    np.testing.assert_array_equal(cut(turned, "sagittal", 3), volume[::-1, :, 3])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(f"{int(a)}{'+-'[int(s) < 0]}" for a, s in order))
def test_a_volume_is_seen_the_same_in_whatever_order_it_is_stored(order) -> None:
    volume, affine = in_order(order)
    orientation = orientation_of(affine, volume.shape)
    x, y, z = 3, 4, 5
    ras = np.arange(x * y * z).reshape(x, y, z)  # along right, front, head
    turned = orientation.turned(volume)
    assert turned.shape == orientation.shape == (z, y, x)
    assert orientation.spacing_mm == pytest.approx((2.5, 1.1, 0.8))
    np.testing.assert_array_equal(cut(turned, "axial", 2), ras[::-1, ::-1, 2].T)  # patient's right on the left, nose up
    np.testing.assert_array_equal(cut(turned, "coronal", 1), ras[::-1, y - 2, ::-1].T)
    np.testing.assert_array_equal(cut(turned, "sagittal", 0), ras[x - 1, ::-1, ::-1].T)  # nose on the left, head up


@pytest.mark.parametrize("order", ORDERS[::5])
def test_position_is_that_of_the_affine(order) -> None:
    volume, affine = in_order(order)
    orientation = orientation_of(affine, volume.shape)
    assert [orientation.position_mm("axial", n) for n in (0, 4)] == pytest.approx([-30, -20])  # from foot to head
    assert [orientation.position_mm("coronal", n) for n in (0, 3)] == pytest.approx([23.3, 20])  # from front to back
    assert [orientation.position_mm("sagittal", n) for n in (0, 2)] == pytest.approx([-5.4, -7])  # from right to left


@given(st.sampled_from(ORDERS), st.sampled_from(PLANES), st.data())
def test_index_of_the_file_and_of_the_turned_volume_lead_to_each_other(order, plane, data) -> None:
    volume, affine = in_order(order)
    orientation = orientation_of(affine, volume.shape)
    index = data.draw(st.integers(0, orientation.shape[plane_axis(plane)] - 1))
    number = orientation.file_index(plane, index)
    assert orientation.file_index(plane, number) == index
    slices = np.take(volume, number, axis="kji".index(orientation.axis_name(plane)))
    np.testing.assert_array_equal(np.sort(slices, None), np.sort(cut(orientation.turned(volume), plane, index), None))


def test_pixels_of_a_plane_have_the_size_of_its_rows_and_columns() -> None:
    orientation = orientation_of(RAS, (5, 4, 3))
    assert orientation.plane_spacing_mm("axial") == pytest.approx((1.1, 0.8))
    assert orientation.plane_spacing_mm("coronal") == pytest.approx((2.5, 0.8))
    assert orientation.plane_spacing_mm("sagittal") == pytest.approx((2.5, 1.1))


def test_an_oblique_grid_is_seen_along_its_nearest_axes() -> None:
    angle = np.deg2rad(30)
    oblique = BRATS.copy()
    oblique[:2, :2] = [[-np.cos(angle), np.sin(angle)], [-np.sin(angle), -np.cos(angle)]]
    orientation = orientation_of(oblique, (2, 3, 4))
    assert (orientation.axes, orientation.is_flipped) == ((0, 1, 2), (False, False, False))


def test_turning_copies_nothing() -> None:
    volume = np.zeros((3, 4, 5), np.int16)
    assert np.shares_memory(orientation_of(RAS, (3, 4, 5)).turned(volume), volume)


def test_the_slice_with_most_is_found_in_each_plane() -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3] = mask[2, 2, :2] = True
    assert [slice_with_most(mask, plane) for plane in PLANES] == [2, 2, 0]
    assert slice_with_most(np.zeros((4, 5, 6), bool), "axial") is None


def test_a_box_is_widened_within_the_grid_and_is_all_of_it_for_nothing() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[1:3, 4:6, 9] = True
    assert box_of(mask, (2, 1, 3)) == (slice(0, 5), slice(3, 7), slice(6, 10))
    assert box_of(np.zeros((4, 5, 6), bool)) == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_a_box_may_leave_out_small_parts_far_away() -> None:
    mask = np.zeros((100, 20, 20), bool)
    mask[40:50] = True
    mask[3, 0, 0] = mask[97, 0, :7] = True
    assert box_of(mask, outliers=0.005)[0] == slice(40, 50)
    assert box_of(mask)[0] == slice(3, 98)


def test_an_unknown_plane_is_named() -> None:
    with pytest.raises(UsageError, match="plane 'axail' is unknown; did you mean axial"):
        plane_axis("axail")
