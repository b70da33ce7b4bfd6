"""Where thresholds of presence come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brats_seg.errors import DataError, UsageError
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.presence_files import presence_of, thresholds_of, write_presence_csv
from brats_seg.evaluation.records import Row, SliceRow


def rows_of(areas: dict[str, list[tuple[int, int]]]) -> tuple[list[Row], list[SliceRow]]:
    """Cases of slices of 1 x 10 pixels with so many voxels in reference and prediction."""
    cases, slices = [], []
    for case, of in areas.items():
        maps = [np.array([[[n < area[side] for n in range(10)]] for area in of], np.uint8) for side in (0, 1)]
        cases += evaluate_case(case, *maps, "lgg-mri", "plain", (1, 1, 1))
        for k in range(len(of)):
            rows = evaluate_case(case, *(one[k : k + 1] for one in maps), "lgg-mri", "plain", (1, 1, 1))
            slices += [SliceRow(k, row) for row in rows]
    return cases, slices


def test_a_number_is_for_cases_and_slices_alike() -> None:
    assert thresholds_of("7") == {"case": 7, "slice": 7}
    assert thresholds_of("auto") is None


def test_a_folder_gives_the_threshold_of_each_level(tmp_path: Path) -> None:
    levels = {"case": {"threshold_voxels": 30}, "slice": {"threshold_voxels": 4}}
    (tmp_path / "summary.json").write_text(json.dumps({"presence": {"levels": levels}}))
    assert thresholds_of(str(tmp_path)) == {"case": 30, "slice": 4}


@pytest.mark.parametrize("content", [None, "{}", "[1]", '{"presence": {"levels": {"case": {}}}}', "no JSON"])
def test_a_folder_without_thresholds_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(DataError, match="no thresholds of presence in its summary"):
        thresholds_of(str(tmp_path))


@pytest.mark.parametrize("rule", ["0", "-3", "1.5", "gone"])
def test_anything_else_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match=f"--presence-voxels {rule}: expected a number from 1"):
        thresholds_of(rule)


def test_thresholds_are_chosen_by_level(tmp_path: Path) -> None:
    # slices without tumour have up to 2 predicted voxels, slices with tumour at least 5; whole cases 4 and 12
    rows, slices = rows_of({"a": [(0, 2), (0, 2)], "b": [(6, 5), (7, 7)], "c": [(0, 1), (0, 0)]})
    found = presence_of(rows, slices, "WT", "auto")
    assert {level: of["threshold_voxels"] for level, of in found["levels"].items()} == {"case": 5, "slice": 3}
    assert found["levels"]["slice"]["specificity"]["value"] == 1
    write_presence_csv(tmp_path / "presence.csv", rows, slices, "WT")
    lines = (tmp_path / "presence.csv").read_text().splitlines()
    assert lines[:3] == ["level,threshold_voxels,sensitivity,specificity", "case,13,0.0,1.0", "case,12,1.0,1.0"]


def test_one_slice_a_case_has_no_level_of_slices() -> None:
    rows, slices = rows_of({"a": [(0, 2)], "b": [(6, 5)]})
    assert list(presence_of(rows, slices, "WT", "1")["levels"]) == ["case"]


def test_a_level_that_the_other_evaluation_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"presence": {"levels": {"case": {"threshold_voxels": 2}}}}')
    rows, slices = rows_of({"a": [(0, 2), (1, 1)], "b": [(6, 5), (0, 0)]})
    with pytest.raises(DataError, match="has a threshold of presence by case, none by slice"):
        presence_of(rows, slices, "WT", str(tmp_path))
