"""A case to draw: what is read, what is missing, which slice, which numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import header_for, read_header, read_label_map, read_volume, write_label_map
from brats_seg.editions import get_edition
from brats_seg.errors import DataError, UsageError
from brats_seg.reporting.pictures.subjects import Subject, main_modality, make_subject, read_subject

EDITION = get_edition("brats2020")
AFFINE = np.diag([-2.0, -1.0, 3.0, 1.0])  # voxels of 6 microlitres
SHAPE = (6, 8, 10)


def labels(**boxes: tuple[int, tuple[slice, slice, slice]]) -> NDArray[np.uint8]:
    label_map = np.zeros(SHAPE, np.uint8)
    for value, box in boxes.values():
        label_map[box] = value
    return label_map


def subject(reference: NDArray[np.uint8] | None = None, prediction: NDArray[np.uint8] | None = None) -> Subject:
    image = np.zeros(SHAPE, np.int16)
    image[1:5, 1:7, 2:9] = np.arange(1, 169).reshape(4, 6, 7)
    return make_subject({"t1c": image}, AFFINE, EDITION, name="a", reference=reference, prediction=prediction)


def one_box(k: int, value: int = 2) -> NDArray[np.uint8]:
    return labels(a=(value, (slice(k, k + 1), slice(2, 4), slice(2, 5))))


@pytest.fixture
def case(phantom_download: Path) -> Case:
    return find_cases(phantom_download).cases[1]


def without(case: Case, *modalities: str) -> Case:
    images = {modality: file for modality, file in case.images.items() if modality not in modalities}
    return Case(case.name, case.patient, case.site, case.edition, case.folder, images, case.label)


def test_volumes_are_counted_voxels_of_each_label() -> None:
    one = subject(prediction=one_box(2))
    assert one.volumes_ml("prediction") == pytest.approx({"NCR": 0, "ED": 6 * 0.006, "ET": 0})


def test_dice_is_that_of_the_evaluation_and_nan_where_both_are_empty() -> None:
    wider = labels(a=(2, (slice(2, 3), slice(2, 4), slice(2, 8))))
    scores = subject(one_box(2), wider).dice()
    assert scores["WT"] == pytest.approx(2 * 6 / (6 + 12))
    assert np.isnan(scores["ET"])
    assert subject(one_box(2)).dice() == {}


def test_the_slice_shown_is_that_with_the_largest_reference_tumour() -> None:
    both = labels(a=(2, (slice(3, 4), slice(0, 6), slice(0, 6))))
    assert subject(one_box(2), both).index("axial") == 2
    assert subject(prediction=both).index("axial") == 3


def test_the_worst_slice_has_the_most_voxels_that_differ() -> None:
    reference = one_box(2)
    prediction = one_box(2)
    prediction[4, 3, 3] = 1
    assert subject(reference, prediction).index("axial", "worst") == 4
    assert subject(reference, reference).index("axial", "worst") == 2, "equal maps: the largest tumour"
    with pytest.raises(UsageError, match="slice worst: needs a reference and a prediction"):
        subject(reference).index("axial", "worst")


def test_without_tumour_the_middle_of_the_brain_is_shown() -> None:
    assert subject().index("axial") == 3  # of 0 to 5, with a voxel of margin
    assert subject(np.zeros(SHAPE, np.uint8)).index("axial") == 3


def test_a_number_is_an_index_of_the_file() -> None:
    flipped = make_subject({"t1": np.ones(SHAPE, np.int16)}, np.diag([1.0, 1.0, -1.0, 1.0]), EDITION, name="a")
    assert flipped.index("axial", 1) == SHAPE[0] - 2
    assert flipped.index("axial", "1") == SHAPE[0] - 2
    assert flipped.slice_title("axial", SHAPE[0] - 2) == "axial k = 1"
    for bad in (6, -1):
        with pytest.raises(UsageError, match=rf"slice {bad}: axial slices of case a go from 0 to 5"):
            flipped.index("axial", bad)
    with pytest.raises(UsageError, match="slice 'first': expected a number, auto or worst"):
        flipped.index("axial", "first")


def test_the_box_is_the_brain_with_three_millimetres_around_it() -> None:
    assert subject().box == (slice(0, 6), slice(0, 8), slice(0, 10))
    assert subject(one_box(2)).tumor_box == (slice(0, 6), slice(0, 8), slice(0, 10)), "18 mm are more than there is"


def test_what_is_labelled_outside_the_brain_is_in_the_box() -> None:
    image = np.zeros((40, 40, 40), np.int16)
    image[18:22, 18:22, 18:22] = 1
    label_map = np.zeros_like(image, np.uint8)
    label_map[20, 20, 39] = 1
    one = make_subject({"t1": image}, AFFINE, EDITION, prediction=label_map)
    assert one.box == (slice(17, 23), slice(15, 25), slice(16, 40))


def test_the_window_leaves_out_background_and_half_a_percent_at_both_ends() -> None:
    values = np.arange(1, 169)
    assert subject().windows["t1c"] == pytest.approx(tuple(np.percentile(values, [0.5, 99.5])))


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_without_contrast_has_a_window(value: int) -> None:
    low, high = make_subject({"t1": np.full(SHAPE, value, np.int16)}, AFFINE, EDITION).windows["t1"]
    assert low < high


def test_values_that_are_no_numbers_do_not_spoil_the_window() -> None:
    image = np.linspace(1, 2, 480, dtype=np.float32).reshape(SHAPE)
    image[0, 0, :2] = np.nan, np.inf
    low, high = make_subject({"t1": image}, AFFINE, EDITION).windows["t1"]
    assert 1 <= low < high <= 2


def test_a_case_is_read_with_all_that_belongs_to_it(case: Case) -> None:
    one = read_subject(case, reference=case.label, prediction=case.label)
    assert list(one.images) == ["t1", "t1c", "t2", "flair"]
    np.testing.assert_array_equal(one.images["t2"], read_volume(case.images["t2"].path)[0])
    np.testing.assert_array_equal(one.label_maps["prediction"], read_label_map(case.label)[0])
    assert (one.name, one.edition.name, one.main, one.notes) == (case.name, "brats2020", "t1c", ())


def test_a_missing_modality_is_left_out_and_noted(case: Case) -> None:
    one = read_subject(without(case, "t1c", "t2"))
    assert (list(one.images), one.main, one.notes) == (["t1", "flair"], "flair", ("no T1c, T2",))
    with pytest.raises(DataError, match=f"case {case.name}: no t2 \\(found: t1\\)"):
        read_subject(without(case, "t1c", "t2", "flair"), modalities=["t2"])
    with pytest.raises(UsageError, match="modality 't3' is unknown in edition brats2020"):
        read_subject(case, modalities=["t3"])


def test_only_the_modalities_asked_for_are_read(case: Case) -> None:
    assert list(read_subject(case, modalities=["flair"]).images) == ["flair"]


def test_a_prediction_on_another_grid_is_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    header = read_header(case.images["t1"].path)
    moved = header.affine.copy()
    moved[0, 3] += 1
    write_label_map(
        tmp_path / "moved.nii.gz",
        np.zeros(header.grid, np.uint8),
        header_for(header.grid, header.spacing_mm, moved, np.uint8),
    )
    with pytest.raises(DataError, match=rf"case {case.name}: prediction .*moved.nii.gz: affine differs") as caught:
        read_subject(case, prediction=tmp_path / "moved.nii.gz")
    assert "\n" not in str(caught.value)


def test_arrays_that_do_not_fit_are_refused() -> None:
    image = np.ones(SHAPE, np.int16)
    with pytest.raises(DataError, match="no images; give at least one modality"):
        make_subject({}, AFFINE, EDITION)
    with pytest.raises(DataError, match=r"prediction has shape \(1, 1, 1\)"):
        make_subject({"t1": image}, AFFINE, EDITION, prediction=np.zeros((1, 1, 1), np.uint8))
    with pytest.raises(DataError, match=r"case a: reference: labels \[0, 3\], but edition brats2020 has"):
        make_subject({"t1": image}, AFFINE, EDITION, name="a", reference=labels(a=(3, (slice(1), slice(1), slice(1)))))


def test_t1c_stands_for_a_case_and_else_what_shows_most() -> None:
    assert main_modality(["t1", "t1c", "t2"]) == "t1c"
    assert main_modality(["t1", "t2", "flair"]) == "flair"
