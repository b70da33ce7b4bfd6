"""A slice of a case with the outlines of reference and prediction."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.editions import get_edition
from brats_seg.reporting.pictures.slices import PREDICTION_COLOR, REFERENCE_COLOR, largest_slice, outlined_slice

EDITION = get_edition("brats2020")
MODALITIES = ("t1", "t1c", "t2", "flair")


def label_map(k: int, start: int, stop: int) -> NDArray[np.uint8]:
    """4 slices of 40 x 50, a square of oedema in slice k and a voxel of it in slice 0."""
    labels = np.zeros((4, 40, 50), np.uint8)
    labels[k, start:stop, start:stop] = 2
    labels[0, 0, 0] = 2
    return labels


def places(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.int_]:
    return np.argwhere((picture == color).all(axis=-1))


def picture_of(reference: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.random.default_rng(0).integers(1, 900, (4, *reference.shape)).astype(np.int16)
    return outlined_slice(image, MODALITIES, reference, prediction, EDITION)


def test_slice_with_the_largest_tumour_is_shown_and_the_middle_one_where_there_is_none() -> None:
    assert largest_slice(label_map(2, 10, 20)) == 2
    assert largest_slice(np.zeros((9, 5, 5), np.uint8)) == 4


def test_picture_has_a_row_a_region_and_t1c_beside_flair() -> None:
    scale, gap = round(320 / 50), 6
    picture = picture_of(label_map(2, 10, 20), label_map(2, 10, 20))
    assert picture.dtype == np.uint8
    assert picture.shape == (3 * 40 * scale + 2 * gap, 2 * 50 * scale + gap, 3)


def test_outline_of_the_reference_lies_outside_its_mask_and_that_of_the_prediction_inside_its_own() -> None:
    scale = round(320 / 50)
    picture = picture_of(label_map(2, 10, 20), label_map(2, 25, 30))[: 40 * scale, : 50 * scale]  # WT on T1c
    own, predicted = (places(picture, color) for color in (REFERENCE_COLOR, PREDICTION_COLOR))
    assert own.min() == 10 * scale - 2
    assert own.max() == 20 * scale + 1
    assert not ((own >= 10 * scale) & (own < 20 * scale)).all(axis=1).any()
    assert predicted.min() == 25 * scale
    assert predicted.max() == 30 * scale - 1


def test_both_outlines_are_seen_where_reference_and_prediction_are_the_same() -> None:
    picture = picture_of(label_map(2, 10, 20), label_map(2, 10, 20))
    assert min(len(places(picture, color)) for color in (REFERENCE_COLOR, PREDICTION_COLOR)) > 100


def test_only_regions_that_hold_the_label_are_outlined() -> None:
    picture = picture_of(label_map(2, 10, 20), label_map(2, 10, 20))
    assert places(picture, REFERENCE_COLOR)[:, 0].max() < picture.shape[0] / 3  # oedema is in WT alone, the first row


@pytest.mark.parametrize("value", [0, 7])
def test_case_without_tumour_or_contrast_is_a_picture_without_outlines(value: int) -> None:
    nothing = np.zeros((3, 8, 8), np.uint8)
    image = np.full((1, 3, 8, 8), value, np.int16)
    picture = outlined_slice(image, ("t2",), nothing, nothing, EDITION)
    assert set(np.unique(picture)) <= {0, 255}
    assert places(picture, REFERENCE_COLOR).size == 0
