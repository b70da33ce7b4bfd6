from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.preprocessing.volumes import (
    as_stored,
    brain_box,
    foreground_voxels,
    intensity_statistics,
    require_finite,
)


def _two_points(dtype: str = "i2") -> NDArray[Any]:
    """Two modalities of 5 x 6 x 7 with one voxel each, at (1, 2, 5) and (3, 4, 0)."""
    image = np.zeros((2, 5, 6, 7), dtype)
    image[0, 1, 2, 5] = 7
    image[1, 3, 4, 0] = -7 if np.dtype(dtype).kind != "u" else 7
    return image


# ---- box ----


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_box_holds_what_any_modality_has(dtype: str) -> None:
    assert brain_box(_two_points(dtype)) == (slice(1, 4), slice(2, 5), slice(0, 6))


def test_negative_zero_is_background() -> None:
    image = _two_points("f4")
    image[0, 0, 0, 6] = -0.0
    assert brain_box(image) == (slice(1, 4), slice(2, 5), slice(0, 6))


def test_box_of_a_single_voxel_has_size_one() -> None:
    assert brain_box(_two_points()[:1]) == (slice(1, 2), slice(2, 3), slice(5, 6))


def test_values_that_cancel_in_a_sum_do_not_hide() -> None:
    image = np.zeros((2, 1, 1, 3), np.int16)
    image[:, 0, 0, 2] = 5, -5
    assert brain_box(image)[2] == slice(2, 3)


def test_image_without_any_brain_is_refused() -> None:
    with pytest.raises(DataError, match="all modalities are 0 everywhere"):
        brain_box(np.zeros((4, 3, 3, 3), np.int16))


# ---- type ----


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 300], "i2", "i2"),
        ([0, 255], "u1", "i2"),
        ([0, 32767], "u2", "i2"),
        ([0, 32768], "u2", "f4"),
        ([-32768, 5], "i4", "i2"),
        ([-32769, 5], "i4", "f4"),
        ([-3.0, 900.0], "f4", "i2"),
        ([0.0, 1.5], "f4", "f4"),
        ([0.0, 1.5], "f8", "f4"),
        ([0.0, 1e9], "f4", "f4"),
    ],
)
def test_integers_that_fit_are_kept_as_int16(values: list[float], dtype: str, expected: str) -> None:
    image = np.array(values, dtype)
    stored = as_stored(image)
    assert stored.dtype == np.dtype(expected)
    np.testing.assert_array_equal(stored, image)


# ---- moments ----


def test_moments_are_those_of_the_nonzero_voxels() -> None:
    # nonzero 2, 4, 6: mean 4, population variance (4 + 0 + 4) / 3; nonzero -1, 3: mean 1, variance 4
    image = np.array([[[[0, 2, 4, 6, 0]]], [[[0, -1, 3, 0, 0]]]], np.int16)
    mean, sd = intensity_statistics(image)
    np.testing.assert_allclose(mean, [4, 1], rtol=1e-15)
    np.testing.assert_allclose(sd, [np.sqrt(8 / 3), 2], rtol=1e-15)
    for dtype in ("f4", "i4"):
        np.testing.assert_allclose(intensity_statistics(image.astype(dtype)), (mean, sd), rtol=1e-15)


def test_empty_and_constant_modalities_have_sd_one() -> None:
    mean, sd = intensity_statistics(np.array([[[[0, 0]]], [[[7, 7]]]], np.int16))
    np.testing.assert_array_equal(mean, [0, 7])
    np.testing.assert_array_equal(sd, [1, 1])


def test_moments_of_many_large_integers_are_exact() -> None:
    # 50,000 of 32767 and 50,000 of 32765 in more than one chunk: mean 32766, sd 1; float32 sums would lose this
    image = np.tile(np.array([32767, 32765], np.int16), 50_000).reshape(1, 10, 100, 100)
    mean, sd = intensity_statistics(image)
    assert (mean[0], sd[0]) == (32766, 1)


# ---- voxels of regions ----


def test_voxels_of_each_region_are_found() -> None:
    label_map = np.zeros((2, 2, 3), np.uint8)
    label_map[0, 1, 2], label_map[1, 0, 0], label_map[1, 1, 1] = 4, 2, 1  # ET, ED, NCR
    voxels = foreground_voxels(label_map, get_edition("brats2020"), "a")
    et, ed, ncr = (0, 1, 2), (1, 0, 0), (1, 1, 1)
    expected = [(0, *et), (1, *et), (1, *ncr), (2, *et), (2, *ed), (2, *ncr)]
    np.testing.assert_array_equal(voxels, expected)
    assert voxels.dtype == np.int32


def test_no_tumour_gives_no_voxels() -> None:
    assert foreground_voxels(np.zeros((2, 2, 2), np.uint8), get_edition("brats2020"), "a").shape == (0, 4)


def test_label_outside_all_regions_gives_no_voxels() -> None:
    cavity = np.full((2, 2, 2), 4, np.uint8)
    assert len(foreground_voxels(cavity, get_edition("brats2024-gli"), "a")) == 0


def test_large_region_is_sampled_evenly_and_by_name_alone() -> None:
    label_map = np.full((10, 20, 20), 2, np.uint8)  # 4,000 voxels of ED: WT only
    edition = get_edition("brats2020")
    voxels = foreground_voxels(label_map, edition, "a", limit=100)
    flat = np.ravel_multi_index(tuple(voxels[:, 1:].T), label_map.shape)
    assert (voxels[:, 0] == 2).all()
    np.testing.assert_array_equal(flat // 40, np.arange(100))  # one from each stretch of 40
    np.testing.assert_array_equal(voxels, foreground_voxels(label_map, edition, "a", limit=100))
    assert not np.array_equal(voxels, foreground_voxels(label_map, edition, "b", limit=100))


# ---- finite ----


def test_nan_is_named_with_modality_and_place() -> None:
    image = np.ones((2, 3, 3, 3), np.float32)
    image[1, 0, 2, 1], image[1, 2, 2, 2] = np.nan, np.inf
    with pytest.raises(DataError, match=r"t1c: 2 voxels are NaN or infinite, the first at \(k, j, i\) = \(0, 2, 1\)"):
        require_finite(image, ("t1", "t1c"))
    require_finite(image[:1], ("t1", "t1c"))
