"""Which cases are shown: in turn by region, each once, false alarms apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brats_seg.evaluation.saved import read_evaluation
from brats_seg.reporting.html.worst import find_empty_regions, find_worst_cases

Write = Callable[..., Path]


def test_regions_take_turns_and_a_case_comes_once(tmp_path: Path, write_evaluation: Write) -> None:
    dice = {"a": (0.1, 0.2, 0.9), "b": (0.2, 0.3, 0.8), "c": (0.3, 0.4, 0.7), "d": (0.4, 0.1, 0.95)}
    one = read_evaluation(write_evaluation(tmp_path, dice))
    found = find_worst_cases([one], "dice", 3)
    # ET's worst is a, TC's d, WT's c.
    assert [(case.case, case.region, case.rank, case.score) for case in found] == [
        ("a", "ET", 1, 0.1),
        ("d", "TC", 1, 0.1),
        ("c", "WT", 1, 0.7),
    ]
    assert [case.case for case in find_worst_cases([one], "dice", 9)] == ["a", "d", "c", "b"]


def test_several_evaluations_are_averaged(tmp_path: Path, write_evaluation: Write) -> None:
    regions, edition = ("GTV",), "brats2024-men-rt"
    first = write_evaluation(tmp_path / "x", {"a": (0.1,), "b": (0.5,)}, regions=regions, edition=edition)
    second = write_evaluation(tmp_path / "y", {"a": (0.9,), "b": (0.3,)}, regions=regions, edition=edition)
    found = find_worst_cases([read_evaluation(first), read_evaluation(second)], "dice", 2)
    assert [(case.case, case.score) for case in found] == [("b", pytest.approx(0.4)), ("a", pytest.approx(0.5))]


def test_an_invented_region_is_no_worst_case_but_fills_places_that_are_left(
    tmp_path: Path, write_evaluation: Write
) -> None:
    def voxels(case: str, region: str) -> int:
        return 0 if (case, region) in (("a", "ET"), ("b", "ET")) else 500

    dice = {"a": (0.0, 0.9, 0.9), "b": (0.0, 0.8, 0.8), "c": (0.5, 0.95, 0.95)}
    sizes = {"a": 3.0, "b": 7.0, "c": 1.0}
    folder = write_evaluation(
        tmp_path, dice, reference_voxels=voxels, prediction_voxels=9, prediction_ml=lambda case, _: sizes[case]
    )
    one = read_evaluation(folder)
    found = find_worst_cases([one], "dice", 3)
    assert [(case.case, case.region, case.is_false_alarm) for case in found] == [
        ("c", "ET", False),  # the only one whose reference has ET
        ("b", "TC", False),
        ("a", "WT", False),
    ]
    alarms = find_empty_regions([one])
    assert [(alarm.case, alarm.kind, alarm.volume_ml) for alarm in alarms] == [
        ("b", "false alarm", 7.0),
        ("a", "false alarm", 3.0),
    ]


def test_a_case_whose_only_fault_is_invented_comes_last(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(
        tmp_path,
        {"a": (0.0,), "b": (0.7,)},
        regions=("GTV",),
        edition="brats2024-men-rt",
        reference_voxels=lambda case, _: 0 if case == "a" else 100,
        prediction_voxels=50,
    )
    found = find_worst_cases([read_evaluation(folder)], "dice", 5)
    assert [(case.case, case.is_false_alarm) for case in found] == [("b", False), ("a", True)]


def test_the_largest_invented_region_comes_first_whatever_region_it_is(tmp_path: Path, write_evaluation: Write) -> None:
    sizes = {("a", "ET"): 1.0, ("b", "WT"): 9.0}
    folder = write_evaluation(
        tmp_path,
        dict.fromkeys("ab", (0.0, 0.0, 0.0)),
        reference_voxels=0,
        prediction_voxels=lambda case, region: 5 if (case, region) in sizes else 0,
        prediction_ml=lambda case, region: sizes.get((case, region), 0.0),
    )
    found = find_worst_cases([read_evaluation(folder)], "dice", 1)
    assert [(case.case, case.region) for case in found] == [("b", "WT")]


def test_a_missed_region_is_both_listed_and_the_worst(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(
        tmp_path,
        {"a": (0.0, 0.9, 0.9), "b": (0.4, 0.9, 0.9)},
        prediction_voxels=lambda case, region: 0 if (case, region) == ("a", "ET") else 10,
    )
    one = read_evaluation(folder)
    assert find_worst_cases([one], "dice", 1)[0].case == "a"
    assert [(empty.case, empty.kind, empty.volume_ml) for empty in find_empty_regions([one])] == [("a", "missed", 1.0)]


def test_undefined_scores_are_passed_over(tmp_path: Path, write_evaluation: Write) -> None:
    dice = {"a": (float("nan"), 0.9, 0.9), "b": (0.4, 0.95, 0.95)}
    found = find_worst_cases([read_evaluation(write_evaluation(tmp_path, dice, prediction_voxels=5))], "dice", 1)
    assert found[0].case == "b"
