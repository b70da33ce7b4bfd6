"""Statistics over cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from brats_seg.errors import DataError
from brats_seg.evaluation.records import COLUMNS, Row
from brats_seg.evaluation.summary import summarize


def row(case: str = "a", region: str = "ET", dice: float = 0.5, **changes: object) -> Row:
    """Return a record whose other values do not matter."""
    values = dict.fromkeys(COLUMNS[2:12], 0.25) | {"reference_voxels": 3, "prediction_voxels": 2}
    return Row(**{"case": case, "region": region, **values, "dice": dice, "protocol": "brats2020"} | changes)


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


def test_worst_cases_are_by_what_the_challenge_ranks() -> None:
    lesions = {"lesionwise_hd95_mm": 1.0, "num_tp": 1, "num_fp": 0, "num_fn": 0, "protocol": "brats2023"}
    rows = [row("a", dice=0.9, lesionwise_dice=0.1, **lesions), row("b", dice=0.2, lesionwise_dice=0.8, **lesions)]
    summary = summarize(rows)
    assert summary["main_metrics"] == ["lesionwise_dice", "lesionwise_hd95_mm"]
    assert [one["case"] for one in summary["worst_cases"]] == ["a", "b"]
    worst = summary["worst_cases"][0]
    assert (worst["score"], worst["mean_dice"], worst["lesionwise_dice"]) == (0.1, 0.9, {"ET": 0.1})
    assert summary["regions"]["ET"]["metrics"]["num_tp"]["mean"] == 1


def test_every_column_is_summarized_and_what_no_protocol_asks_for_too() -> None:
    metrics = summarize([row(accuracy=0.5, nsd={"nsd_2mm": 0.25})])["regions"]["ET"]["metrics"]
    assert {"dice", "reference_ml", "accuracy", "relative_volume_difference", "nsd_2mm"} <= set(metrics)
    assert (metrics["accuracy"]["mean"], metrics["nsd_2mm"]["mean"]) == (0.5, 0.25)
