"""Records of one case, `cases.csv`, `portal.csv` and the summary."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.evaluate import (
    COLUMNS,
    Row,
    evaluate_case,
    summarize,
    write_cases_csv,
    write_portal_csv,
)
from brats_seg.evaluation.protocols import get_protocol

ISO = (1.0, 1.0, 1.0)
REFERENCE = np.zeros((4, 5, 6), np.uint8)
REFERENCE[1, 1, 1:5] = (4, 1, 2, 2)


def row(case: str = "a", region: str = "ET", dice: float = 0.5, **changes: object) -> Row:
    """Return a record whose other values do not matter."""
    values = dict.fromkeys(COLUMNS[2:12], 0.25) | {"reference_voxels": 3, "prediction_voxels": 2}
    return Row(**{"case": case, "region": region, **values, "dice": dice, "protocol": "brats2020"} | changes)


def test_columns_are_those_of_the_contract() -> None:
    assert ",".join(COLUMNS) == (
        "case,region,dice,iou,sensitivity,specificity,precision,hd95_mm,assd_mm,nsd_1mm,reference_ml,prediction_ml,"
        "reference_voxels,prediction_voxels,protocol"
    )


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


def test_csv_has_full_precision_and_inf_and_nan_in_words(tmp_path: Path) -> None:
    rows = [row("a,b", dice=1 / 3, hd95_mm=math.inf), row("c", dice=math.nan, precision=1.0)]
    write_cases_csv(tmp_path / "cases.csv", rows)
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    assert lines[1].startswith('"a,b",ET,0.3333333333333333,0.25,0.25,0.25,0.25,inf,')
    assert lines[2] == "c,ET,nan,0.25,0.25,0.25,1.0,0.25,0.25,0.25,0.25,0.25,3,2,brats2020"
    assert len(lines) == 3


def test_portal_table_has_a_line_a_case_and_five_of_statistics(tmp_path: Path) -> None:
    rows = [row(case, region, dice) for case, dice in (("a", 0.2), ("b", 0.6)) for region in ("ET", "TC", "WT", "ED")]
    rows[2] = replace(rows[2], hd95_mm=7.0)  # WT of a
    write_portal_csv(tmp_path / "portal.csv", rows)
    with (tmp_path / "portal.csv").open(newline="") as file:
        header, first, second, *footer = csv.reader(file)
    assert header[:5] == ["Label", "Dice_ET", "Dice_WT", "Dice_TC", "Sensitivity_ET"]
    assert header[-3:] == ["Hausdorff95_ET", "Hausdorff95_WT", "Hausdorff95_TC"]
    assert (first[:2], first[-3:], second[0]) == (["a", "0.2"], ["0.25", "7.0", "0.25"], "b")
    assert [line[0] for line in footer] == ["Mean", "StdDev", "Median", "25quantile", "75quantile"]
    expected = [0.4, math.sqrt(0.08), 0.4, 0.3, 0.5]  # of 0.2 and 0.6, sd of the sample
    assert [float(line[1]) for line in footer] == pytest.approx(expected)


def test_summary_is_over_the_cases_where_a_metric_is_defined() -> None:
    dices = {"a": 0.0, "b": 0.5, "c": 1.0, "d": math.nan}
    statistics = summarize([row(case, dice=dice) for case, dice in dices.items()])["regions"]["ET"]["metrics"]["dice"]
    expected = {"mean": 0.5, "sd": 0.5, "median": 0.5, "q25": 0.25, "q75": 0.75, "num": 3, "num_undefined": 1}
    assert {name: statistics[name] for name in expected} == expected
    assert 0 <= statistics["ci95_low"] <= 0.5 <= statistics["ci95_high"] <= 1


def test_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    statistics = summarize([row(str(n), dice=float(x)) for n, x in enumerate(values)])["regions"]["ET"]["metrics"]
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert statistics["dice"]["ci95_low"] == pytest.approx(values.mean() - half, abs=half / 10)
    assert statistics["dice"]["ci95_high"] == pytest.approx(values.mean() + half, abs=half / 10)


def test_one_case_has_no_sd_and_an_interval_without_width() -> None:
    statistics = summarize([row(dice=0.5)])["regions"]["ET"]["metrics"]["dice"]
    assert math.isnan(statistics["sd"])
    assert (statistics["ci95_low"], statistics["mean"], statistics["ci95_high"]) == (0.5, 0.5, 0.5)


def test_a_metric_that_no_case_defines_is_nan_and_counted() -> None:
    statistics = summarize([row(dice=math.nan)])["regions"]["ET"]["metrics"]["dice"]
    assert (statistics["num"], statistics["num_undefined"]) == (0, 1)
    assert all(math.isnan(statistics[name]) for name in ("mean", "sd", "median", "q25", "q75", "ci95_low"))


def test_infinite_distances_stay_infinite_without_a_warning() -> None:
    statistics = summarize([row("a", hd95_mm=math.inf), row("b", hd95_mm=1.0)])["regions"]["ET"]["metrics"]["hd95_mm"]
    assert (statistics["mean"], statistics["num"]) == (math.inf, 2)


def test_summary_counts_empty_and_missing_cases() -> None:
    rows = [
        row("a"),
        row("b", reference_voxels=0),
        row("c", prediction_voxels=0),
        row("d", reference_voxels=0, prediction_voxels=0),
        row("e", prediction_voxels=0),
    ]
    summary = summarize(rows, missing=["e"])
    assert (summary["protocol"], summary["num_cases"], summary["missing"]) == ("brats2020", 5, ["e"])
    counts = {key: value for key, value in summary["regions"]["ET"].items() if key != "metrics"}
    assert counts == {"num_cases": 5, "num_empty_reference": 2, "num_empty_prediction": 2, "num_both_empty": 1}


def test_worst_cases_are_by_mean_dice_of_the_regions_named() -> None:
    dices = {"a": (0.9, 0.1), "b": (0.5, 0.9), "c": (math.nan, 0.0), "d": (0.7, 0.0)}
    rows = [
        row(case, region, dice) for case, both in dices.items() for region, dice in zip(("ET", "ED"), both, strict=True)
    ]
    assert [one["case"] for one in summarize(rows, regions=["ET"])["worst_cases"]] == ["b", "d", "a"]
    everything = summarize(rows)["worst_cases"]
    assert [(one["case"], one["mean_dice"]) for one in everything[:2]] == [("c", 0.0), ("d", 0.35)]


def test_summary_is_the_same_every_time_and_plain_json() -> None:
    rows = [row(str(n), dice=n / 7) for n in range(7)]
    assert json.dumps(summarize(rows)) == json.dumps(summarize(list(rows)))


@pytest.mark.parametrize("rows", [[], [row(), row(protocol="plain")]], ids=["none", "two protocols"])
def test_records_of_no_or_two_protocols_are_not_summarized(rows: list[Row]) -> None:
    with pytest.raises(DataError, match="records of one protocol"):
        summarize(rows)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("brats_seg.evaluation.evaluate", {"torch", "monai", "SimpleITK", "scipy", "nibabel"}),
        ("brats_seg.evaluation.pairs", {"torch", "monai", "SimpleITK"}),
    ],
)
def test_importing_evaluation_loads_no_torch(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())
