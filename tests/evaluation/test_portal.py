"""The portals' own tables."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from brats_seg.evaluation.portal import write_portal_csv
from brats_seg.evaluation.records import COLUMNS, Row


def row(case: str = "a", region: str = "ET", dice: float = 0.5, **changes: object) -> Row:
    """Return a record whose other values do not matter."""
    values = dict.fromkeys(COLUMNS[2:12], 0.25) | {"reference_voxels": 3, "prediction_voxels": 2}
    return Row(**{"case": case, "region": region, **values, "dice": dice, "protocol": "brats2020"} | changes)


def test_portal_table_has_a_line_a_case_and_five_of_statistics(tmp_path: Path) -> None:
    rows = [row(case, region, dice) for case, dice in (("a", 0.2), ("b", 0.6)) for region in ("ET", "TC", "WT", "ED")]
    rows[2] = replace(rows[2], hd95_mm=7.0)  # WT of a
    assert write_portal_csv(tmp_path, rows, ("ET", "TC", "WT")) == [tmp_path / "portal.csv"]
    with (tmp_path / "portal.csv").open(newline="") as file:
        header, first, second, *footer = csv.reader(file)
    assert header[:5] == ["Label", "Dice_ET", "Dice_WT", "Dice_TC", "Sensitivity_ET"]
    assert header[-3:] == ["Hausdorff95_ET", "Hausdorff95_WT", "Hausdorff95_TC"]
    assert (first[:2], first[-3:], second[0]) == (["a", "0.2"], ["0.25", "7.0", "0.25"], "b")
    assert [line[0] for line in footer] == ["Mean", "StdDev", "Median", "25quantile", "75quantile"]
    expected = [0.4, math.sqrt(0.08), 0.4, 0.3, 0.5]  # of 0.2 and 0.6, sd of the sample
    assert [float(line[1]) for line in footer] == pytest.approx(expected)


def test_lesion_wise_tables_are_those_of_the_scorer_of_2023(tmp_path: Path) -> None:
    lesions = {"lesionwise_dice": 0.5, "lesionwise_hd95_mm": 2.0, "num_tp": 1, "num_fp": 0, "num_fn": 2}
    rows = [
        row(case, region, 0.25, protocol="brats2023", **lesions) for case in ("a", "b") for region in ("ET", "TC", "WT")
    ]
    rows[3] = replace(rows[3], lesionwise_dice=1.0)
    paths = write_portal_csv(tmp_path, rows, ("WT", "ET", "TC"))
    assert [path.name for path in paths] == ["portal.csv", "portal_full.csv"]
    header, first, second, *footer = csv.reader(paths[0].read_text().splitlines())
    titles = ("LesionWise_Dice", "LesionWise_Hausdorff95", "Num_TP", "Num_FP", "Num_FN")
    assert header == ["", *(f"{title}_{region}" for title in titles for region in ("ET", "TC", "WT"))]
    assert (first[:2], second[:2], first[-3:]) == (["a", "0.5"], ["b", "1.0"], ["2", "2", "2"])
    assert [line[0] for line in footer] == ["mean", "std", "25quantile", "median", "75quantile"]
    assert [float(line[1]) for line in footer] == pytest.approx([0.75, math.sqrt(0.125), 0.625, 0.75, 0.875])
    full = next(csv.reader(paths[1].read_text().splitlines()))
    assert full[1::3] == ["Dice_ET", "Hausdorff95_ET", "Sensitivity_ET", "Specificity_ET"]


@pytest.mark.parametrize(("protocol", "regions"), [("plain", ("ET", "TC", "WT")), ("brats2020", ("GTV",))])
def test_without_a_portal_nothing_is_written(tmp_path: Path, protocol: str, regions: tuple[str, ...]) -> None:
    assert write_portal_csv(tmp_path, [row(protocol=protocol)], regions) == []
    assert list(tmp_path.iterdir()) == []
