"""Records of one case's label maps."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.protocols import get_protocol

ISO = (1.0, 1.0, 1.0)
REFERENCE = np.zeros((4, 5, 6), np.uint8)
REFERENCE[1, 1, 1:5] = (4, 1, 2, 2)


def test_one_record_a_region_then_one_a_label_that_is_no_region() -> None:
    rows = evaluate_case("x", REFERENCE, REFERENCE, "brats2020", "brats2020", ISO)
    assert [(one.case, one.region, one.reference_voxels) for one in rows] == [
        ("x", "ET", 1),
        ("x", "TC", 2),
        ("x", "WT", 4),
        ("x", "NCR", 1),
        ("x", "ED", 2),
    ]


def test_editions_and_protocols_may_be_given_as_objects() -> None:
    by_name = evaluate_case("x", REFERENCE, REFERENCE, "brats2020", "brats2020", ISO)
    assert by_name == evaluate_case("x", REFERENCE, REFERENCE, get_edition("brats2020"), get_protocol("brats2020"), ISO)


def test_volumes_are_in_ml_of_the_spacing() -> None:
    wt = evaluate_case("x", REFERENCE, np.zeros_like(REFERENCE), "brats2020", "plain", (5.0, 4.0, 2.0))[2]
    assert (wt.reference_ml, wt.prediction_ml) == (4 * 40 / 1000, 0)
    assert (wt.reference_voxels, wt.prediction_voxels) == (4, 0)


def test_the_grid_counts_for_specificity_and_not_the_tumours_box() -> None:
    prediction = np.zeros_like(REFERENCE)
    prediction[1, 1, 2] = 4
    et = evaluate_case("x", REFERENCE, prediction, "brats2020", "brats2020", ISO)[0]
    assert et.specificity == 118 / 119


def test_arrays_in_any_memory_order_score_alike() -> None:
    prediction = np.roll(REFERENCE, 1, axis=2)
    expected = evaluate_case("x", REFERENCE, prediction, "brats2020", "plain", ISO)
    fortran = [np.asfortranarray(array) for array in (REFERENCE, prediction)]
    strided = [np.repeat(array, 2, axis=2)[..., ::2] for array in (REFERENCE, prediction)]
    assert repr(evaluate_case("x", *fortran, "brats2020", "plain", ISO)) == repr(expected)
    assert repr(evaluate_case("x", *strided, "brats2020", "plain", ISO)) == repr(expected)


def test_arrays_are_left_as_they_were() -> None:
    reference, prediction = REFERENCE.copy(), np.roll(REFERENCE, 1, axis=2)
    for array in (reference, prediction):
        array.flags.writeable = False
    evaluate_case("x", reference, prediction, "brats2020", "plain", ISO)
    np.testing.assert_array_equal(reference, REFERENCE)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((4, 5, 7), np.uint8), r"case x: reference is \(4, 5, 6\) voxels, prediction \(4, 5, 7\)"),
        (np.zeros((4, 5, 6), np.float32), "case x: label maps must be uint8, found uint8 .* and float32"),
        (np.full((4, 5, 6), 3, np.uint8), r"case x: prediction: labels \[3\].*edition brats2020"),
    ],
    ids=["shape", "type", "labels"],
)
def test_maps_that_cannot_be_compared_are_refused(prediction: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_case("x", REFERENCE, prediction, "brats2020", "brats2020", ISO)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("brats_seg.evaluation.evaluate", {"torch", "monai", "SimpleITK", "scipy", "nibabel"}),
        ("brats_seg.evaluation.folders", {"torch", "monai", "SimpleITK"}),
    ],
)
def test_importing_evaluation_loads_no_torch(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())
