"""Numbers that the reference implementations give on real cases, reproduced from the files up.

The golden folder lies beside the folder of real cases that BRATS_SEG_DATA names; its README says how it was made.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from brats_seg.evaluation.pairs import Pair, Scoring, score_pairs
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.references import Reference

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden(real_data: Path) -> Path:
    """Return the folder of golden numbers, or skip."""
    folder = real_data.parent / "golden"
    if not (folder / "brats2020.json").is_file():
        pytest.skip(f"no golden numbers beside the real cases (expected {folder}/brats2020.json)")
    return folder


Scored = list[tuple[dict[str, Any], Row]]


def score(golden: Path, name: str, protocol: str) -> Scored:
    """Return each region of each pair of a golden file with our record."""
    pairs: list[dict[str, Any]] = json.loads((golden / f"{name}.json").read_text())["pairs"]
    files = [
        Pair(Reference(str(number), "brats2021", golden.parent / pair["reference"]), golden.parent / pair["prediction"])
        for number, pair in enumerate(pairs)
    ]
    scores = score_pairs(files, Scoring(protocol))
    assert scores.findings == []
    ours = {(row.case, row.region): row for row in scores.rows}
    found = [
        (expected | pair.get("corrected", {}).get(region, {}), ours[str(number), region])
        for number, pair in enumerate(pairs)
        for region, expected in pair["regions"].items()
    ]
    assert len(found) == 33 * 3
    return found


@pytest.fixture(scope="module")
def portal(golden: Path) -> Scored:
    """Return the golden numbers of the portal's rules with our records."""
    return score(golden, "brats2020", "brats2020")


def test_counts_and_dice_are_exact(portal: Scored) -> None:
    for expected, row in portal:
        assert row.reference_voxels == expected["tp"] + expected["fn"]
        assert row.prediction_voxels == expected["tp"] + expected["fp"]
        assert row.dice == expected["dice"]


@pytest.mark.parametrize("name", ["sensitivity", "specificity", "precision"])
def test_ratios_are_exact(portal: Scored, name: str) -> None:
    for expected, row in portal:
        assert getattr(row, name) == pytest.approx(float(expected[name]), rel=0, abs=0, nan_ok=True)


def test_hd95_is_the_portals(portal: Scored) -> None:
    num_empty = 0
    for expected, row in portal:
        is_one_empty = (row.reference_voxels == 0) != (row.prediction_voxels == 0)
        num_empty += is_one_empty
        tolerance = 1e-5 if is_one_empty else 1e-9  # the golden penalty is the literal 373.12866
        assert row.hd95_mm == pytest.approx(expected["hd95"], rel=0, abs=tolerance)
    assert num_empty > 0


WHOLE = {"Legacy_Dice": "dice", "Legacy_HD95": "hd95_mm", "Sensitivity": "sensitivity", "Specificity": "specificity"}
COUNTS = {"Num_TP": "num_tp", "Num_FP": "num_fp", "Num_FN": "num_fn", "GT_Complete_Volume": "reference_voxels"}
LESIONS = {"LesionWise_Score_Dice": "lesionwise_dice", "LesionWise_Score_HD95": "lesionwise_hd95_mm"}
COLUMNS = {
    "brats2023": WHOLE | COUNTS | LESIONS,
    "brats2024": {
        **WHOLE,
        **COUNTS,
        **LESIONS,
        "LesionWise_Score_NSD @ 0.5": "lesionwise_nsd_0_5mm",
        "LesionWise_Score_NSD @ 1.0": "lesionwise_nsd_1mm",
        "Legacy NSD @ 0.5": "nsd_0_5mm",
        "Legacy NSD @ 1.0": "nsd_1mm",
    },
    "instance": {
        **{"tp": "num_tp", "fp": "num_fp", "fn": "num_fn", "rq": "f1"},
        **{"prec": "detection_precision", "rec": "detection_recall"},
        **{"sq_dsc": "instance_dice", "sq_nsd": "instance_nsd", "sq_hd95": "instance_hd95_mm"},
        **{"global_bin_dsc": "dice", "global_bin_nsd": "nsd_0_5mm", "global_bin_hd95": "hd95_mm"},
    },
}
"""Protocol -> the official program's column -> ours."""


@pytest.mark.parametrize("protocol", COLUMNS)
def test_every_number_of_the_official_programs_is_reproduced(golden: Path, protocol: str) -> None:
    num_compared = 0
    for expected, row in score(golden, protocol, protocol):
        for theirs, ours in COLUMNS[protocol].items():
            if theirs not in expected:  # precision of detection where nothing was predicted
                continue
            value = float(expected[theirs])
            if theirs == "global_bin_hd95" and math.isinf(value):
                value = 373.0  # as the package's own table has it
            own = row.nsd[ours] if ours in row.nsd else getattr(row, ours)
            assert own == pytest.approx(value, rel=1e-9, abs=0, nan_ok=True), (row.case, row.region, theirs)
            num_compared += 1
    assert num_compared >= 33 * 3 * (len(COLUMNS[protocol]) - 2)


def test_mean_surface_distance_and_pooled_hd95_are_medpys(golden: Path) -> None:
    defined = [(expected, row) for expected, row in score(golden, "medpy", "plain") if expected["assd"] is not None]
    assert len(defined) > 33
    for expected, row in defined:
        assert row.assd_mm == pytest.approx(expected["assd"], rel=1e-9)
        assert row.hd95_mm == pytest.approx(expected["hd95"], rel=1e-9)
