"""Planes through a case: which slice, which way up, in which units, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data.nifti import header_for, write_label_map, write_volume
from brats_seg.errors import DataError
from brats_seg.reporting.html.case_slices import CaseFiles, cut_case

GRID = (6, 8, 10)
"""K, J, I."""
SPACING = (3.0, 2.0, 1.0)
"""mm along K, J, I."""
RAS = np.diag([1.0, 2.0, 3.0, 1.0])
LPS = np.array([[-1.0, 0, 0, 0], [0, -2.0, 0, 14.0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
"""As BraTS has it: i to the left, j to the back."""


def write_case(
    folder: Path, reference: NDArray[np.uint8], prediction: NDArray[np.uint8], affine: NDArray[np.float64] = RAS
) -> CaseFiles:
    """Write a case of 2021 with a T1c and a FLAIR image that are 100 in the left upper front voxel, 10 elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    header = header_for(reference.shape, SPACING, affine, np.int16)
    image = np.full(reference.shape, 10, np.int16)
    for name in ("t1c", "flair"):
        write_volume(folder / f"{name}.nii.gz", image, header)
    for name, label_map in (("reference", reference), ("prediction", prediction)):
        write_label_map(folder / f"{name}.nii.gz", label_map, header)
    images = {name: (folder / f"{name}.nii.gz", None) for name in ("t1c", "flair")}
    return CaseFiles("x", "brats2021", images, folder / "reference.nii.gz", (folder / "prediction.nii.gz",), "ET")


def masks() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a reference with ET at k 2-4, j 1-3, i 7-8, and a prediction without k = 4 and with some of i = 9."""
    reference = np.zeros(GRID, np.uint8)
    reference[2:5, 1:4, 7:9] = 4
    prediction = reference.copy()
    prediction[4] = 0
    prediction[3, 1:3, 9] = 4
    return reference, prediction


def test_planes_go_through_the_most_wrong_voxels(tmp_path: Path) -> None:
    axial, coronal, sagittal = cut_case(write_case(tmp_path, *masks())).planes
    # Wrong are 3 x 2 voxels at k = 4 and 2 at k = 3; j = 1 and 2 have 3 each, i = 7 and 8, too: those nearer to the
    # front and to the right count.
    assert (axial.number, axial.num_slices, axial.num_wrong) == (5, 6, 6)
    assert (coronal.number, coronal.num_slices, coronal.num_wrong) == (3, 8, 3)
    assert (sagittal.number, sagittal.num_slices, sagittal.num_wrong) == (9, 10, 3)
    assert [plane.place_mm for plane in (axial, coronal, sagittal)] == [12.0, 4.0, 8.0]


def test_the_patients_right_is_on_the_left_and_the_front_and_top_are_up(tmp_path: Path) -> None:
    axial, coronal, sagittal = cut_case(write_case(tmp_path, *masks())).planes
    # RAS+: i = 7, 8 of 10 is right, so columns 1 and 2; j = 1-3 of 8 is at the back, so rows 4-6 from the front.
    rows, columns = np.nonzero(axial.reference[0])
    assert (set(rows), set(columns)) == ({4, 5, 6}, {1, 2})
    rows, columns = np.nonzero(coronal.reference[0])
    assert (set(rows), set(columns)) == ({1, 2, 3}, {1, 2})  # k = 2-4 of 6, from the top
    rows, columns = np.nonzero(sagittal.reference[0])
    assert (set(rows), set(columns)) == ({1, 2, 3}, {4, 5, 6})  # the front on the left


def test_a_case_in_the_order_of_brats_looks_the_same_with_its_own_slice_numbers(tmp_path: Path) -> None:
    reference, prediction = masks()
    upright = cut_case(write_case(tmp_path / "ras", reference, prediction)).planes
    turned = (np.ascontiguousarray(one[:, ::-1, ::-1]) for one in (reference, prediction))
    planes = cut_case(write_case(tmp_path / "lps", *turned, affine=LPS)).planes
    for own, other in zip(planes, upright, strict=True):
        assert np.array_equal(own.reference, other.reference)
        assert np.array_equal(own.predictions[0], other.predictions[0])
    assert [plane.number for plane in planes] == [5, 6, 2]  # j = 2 is the sixth of 8 from behind, i = 8 the second


def test_pixels_have_the_size_of_voxels(tmp_path: Path) -> None:
    planes = cut_case(write_case(tmp_path, *masks())).planes
    assert [plane.pixel_mm for plane in planes] == [(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)]
    assert planes[0].size_mm == (10.0, 16.0)


def test_missed_and_false_volumes_are_of_the_whole_case(tmp_path: Path) -> None:
    slices = cut_case(write_case(tmp_path, *masks()))
    assert slices.missed_ml[0, 0] == pytest.approx(6 * 6 / 1000)  # 6 voxels of 6 mm3
    assert slices.false_ml[0, 0] == pytest.approx(2 * 6 / 1000)


def test_a_perfect_prediction_is_shown_where_the_region_is_largest(tmp_path: Path) -> None:
    reference, _ = masks()
    reference[1, 1, 7] = 4
    assert [plane.num_wrong for plane in cut_case(write_case(tmp_path, reference, reference)).planes] == [0, 0, 0]
    assert cut_case(write_case(tmp_path, reference, reference)).planes[0].number == 3


def test_false_tumour_outside_the_brain_is_seen(tmp_path: Path) -> None:
    reference, prediction = np.zeros((20, 20, 20), np.uint8), np.zeros((20, 20, 20), np.uint8)
    prediction[10, 10, 19] = 4
    files = write_case(tmp_path, reference, prediction)
    image = np.zeros(reference.shape, np.int16)
    image[8:12, 8:12, 2:6] = 50
    for path, _ in files.images.values():
        write_volume(path, image, header_for(reference.shape, SPACING, RAS, np.int16))
    assert [plane.predictions[0][0].sum() for plane in cut_case(files).planes] == [1, 1, 1]


def test_an_empty_case_is_shown_in_its_middle(tmp_path: Path) -> None:
    empty = np.zeros(GRID, np.uint8)
    assert [plane.number for plane in cut_case(write_case(tmp_path, empty, empty)).planes] == [4, 4, 5]


def test_the_brain_is_cut_out_with_a_margin_and_never_loses_the_tumour(tmp_path: Path) -> None:
    reference = np.zeros((40, 40, 40), np.uint8)
    reference[20, 20, 20] = reference[20, 20, 39] = 4
    files = write_case(tmp_path, reference, reference)
    image = np.zeros(reference.shape, np.int16)
    image[15:25, 15:25, 15:25] = 50
    for path, _ in files.images.values():
        write_volume(path, image, header_for(reference.shape, SPACING, RAS, np.int16))
    axial = cut_case(files).planes[0]
    # i: 15 to 39, 4 voxels of margin to the left; j: 15 to 24, 2 voxels of margin.
    assert axial.reference.shape == (3, 14, 29)
    assert axial.reference[0].sum() == 2


def test_a_missing_prediction_is_an_empty_one(tmp_path: Path) -> None:
    files = write_case(tmp_path, *masks())
    slices = cut_case(CaseFiles(files.case, files.edition, files.images, files.reference, (None,), "ET"))
    assert not slices.planes[0].predictions[0].any()
    assert slices.missed_ml[0, 0] == pytest.approx(18 * 6 / 1000)


def test_a_missing_or_misplaced_modality_is_left_out_and_told(tmp_path: Path) -> None:
    files = write_case(tmp_path, *masks())
    other = header_for((6, 8, 9), SPACING, RAS, np.int16)
    write_volume(tmp_path / "flair.nii.gz", np.ones((6, 8, 9), np.int16), other)
    slices = cut_case(files)
    assert list(slices.planes[0].grey) == ["t1c"]
    assert slices.notes[:2] == ("no t1 image", "no t2 image")
    assert slices.notes[2].startswith("flair: shape 9 x 8 x 6 differs") or "flair: shape" in slices.notes[2]


def test_a_prediction_on_another_grid_is_refused(tmp_path: Path) -> None:
    files = write_case(tmp_path, *masks())
    write_label_map(tmp_path / "prediction.nii.gz", np.zeros(GRID, np.uint8), header_for(GRID, SPACING, LPS, np.uint8))
    with pytest.raises(DataError, match="affine differs"):
        cut_case(files)


def test_a_label_map_that_changed_since_the_evaluation_is_refused(tmp_path: Path) -> None:
    files = write_case(tmp_path, *masks())
    counted = CaseFiles(files.case, files.edition, files.images, files.reference, files.predictions, "ET", ((18, 13),))
    with pytest.raises(DataError, match="prediction has 14 voxels of ET, but 13 when it was evaluated"):
        cut_case(counted)


def test_grey_values_span_the_brain_and_nothing_stays_black(tmp_path: Path) -> None:
    reference, prediction = masks()
    files = write_case(tmp_path, reference, prediction)
    image = np.arange(reference.size, dtype=np.int16).reshape(GRID)
    write_volume(tmp_path / "t1c.nii.gz", image, header_for(GRID, SPACING, RAS, np.int16))
    grey = cut_case(files).planes[0].grey["t1c"]
    assert grey.dtype == np.uint8
    # k = 4 of 6: values 320-399 of 1-479 are 67 to 83 % of the way from black to white.
    assert grey.min() / 255 == pytest.approx(320 / 479, abs=0.02)
    assert grey.max() / 255 == pytest.approx(399 / 479, abs=0.02)
