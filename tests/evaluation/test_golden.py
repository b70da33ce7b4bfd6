"""Numbers that the reference implementations give on real cases, reproduced from the files up.

The golden folder lies beside the folder of real cases that BRATS_SEG_DATA names; its README says how it was made.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from brats_seg.evaluation.evaluate import Row
from brats_seg.evaluation.pairs import Pair, Reference, score_pairs
from brats_seg.evaluation.protocols import get_protocol

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden(real_data: Path) -> Path:
    """Return the folder of golden numbers, or skip."""
    folder = real_data.parent / "golden"
    if not (folder / "brats2020.json").is_file():
        pytest.skip(f"no golden numbers beside the real cases (expected {folder}/brats2020.json)")
    return folder


@pytest.fixture(scope="module")
def scored(golden: Path) -> dict[str, list[tuple[dict[str, Any], Row]]]:
    """Return, per protocol file, each golden record with ours; every pair is read and scored once."""
    pairs = load(golden, "brats2020")
    files = [
        Pair(Reference(str(number), "brats2021", golden.parent / pair["reference"]), golden.parent / pair["prediction"])
        for number, pair in enumerate(pairs)
    ]
    rows, findings = score_pairs(files, get_protocol("brats2020"))
    assert findings == []
    ours = {(row.case, row.region): row for row in rows}
    return {
        name: [
            (expected, ours[str(number), region])
            for number, pair in enumerate(load(golden, name))
            for region, expected in pair["regions"].items()
        ]
        for name in ("brats2020", "medpy")
    }


def load(golden: Path, name: str) -> list[dict[str, Any]]:
    """Return the pairs of a golden file; all files have the same ones in the same order."""
    pairs: list[dict[str, Any]] = json.loads((golden / f"{name}.json").read_text())["pairs"]
    order = [pair["pair"] for pair in json.loads((golden / "brats2020.json").read_text())["pairs"]]
    assert [pair["pair"] for pair in pairs] == order
    return pairs


def test_all_pairs_and_regions_are_there(scored: dict[str, list[tuple[dict[str, Any], Row]]]) -> None:
    assert len(scored["brats2020"]) == 33 * 3


def test_counts_and_dice_are_exact(scored: dict[str, list[tuple[dict[str, Any], Row]]]) -> None:
    for expected, row in scored["brats2020"]:
        assert row.reference_voxels == expected["tp"] + expected["fn"]
        assert row.prediction_voxels == expected["tp"] + expected["fp"]
        assert row.dice == expected["dice"]


@pytest.mark.parametrize("name", ["sensitivity", "specificity", "precision"])
def test_ratios_are_exact(scored: dict[str, list[tuple[dict[str, Any], Row]]], name: str) -> None:
    for expected, row in scored["brats2020"]:
        assert getattr(row, name) == pytest.approx(float(expected[name]), rel=0, abs=0, nan_ok=True)


def test_hd95_is_the_portals(scored: dict[str, list[tuple[dict[str, Any], Row]]]) -> None:
    num_empty = 0
    for expected, row in scored["brats2020"]:
        is_one_empty = (row.reference_voxels == 0) != (row.prediction_voxels == 0)
        num_empty += is_one_empty
        tolerance = 1e-5 if is_one_empty else 1e-9  # the golden penalty is the literal 373.12866
        assert row.hd95_mm == pytest.approx(expected["hd95"], rel=0, abs=tolerance)
    assert num_empty > 0


def test_mean_surface_distance_is_medpys(scored: dict[str, list[tuple[dict[str, Any], Row]]]) -> None:
    defined = [(expected, row) for expected, row in scored["medpy"] if expected["assd"] is not None]
    assert len(defined) > 33
    for expected, row in defined:
        assert row.assd_mm == pytest.approx(expected["assd"], rel=1e-9)
        assert math.isfinite(row.assd_mm)
