"""Records and their tables: `cases.csv`, `supplement.csv`, `lesions.csv`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.records import (
    COLUMNS,
    Row,
    columns_of,
    write_cases_csv,
    write_lesions_csv,
    write_supplement_csv,
)


def row(case: str = "a", region: str = "ET", dice: float = 0.5, **changes: object) -> Row:
    """Return a record whose other values do not matter."""
    values = dict.fromkeys(COLUMNS[2:12], 0.25) | {"reference_voxels": 3, "prediction_voxels": 2}
    return Row(**{"case": case, "region": region, **values, "dice": dice, "protocol": "brats2020"} | changes)


@pytest.mark.parametrize(
    ("protocol", "own"),
    [
        ("brats2020", ""),
        ("plain", ""),
        ("brats2023", "lesionwise_dice,lesionwise_hd95_mm,num_tp,num_fp,num_fn,"),
        (
            "brats2024",
            "lesionwise_dice,lesionwise_hd95_mm,num_tp,num_fp,num_fn,lesionwise_nsd_0_5mm,lesionwise_nsd_1mm,",
        ),
        ("instance", "num_tp,num_fp,num_fn,f1,instance_dice,instance_nsd,instance_hd95_mm,"),
    ],
)
def test_columns_are_those_of_the_contract(protocol: str, own: str) -> None:
    assert ",".join(columns_of(protocol)) == (
        "case,region,dice,iou,sensitivity,specificity,precision,hd95_mm,assd_mm,nsd_1mm,reference_ml,prediction_ml,"
        f"reference_voxels,prediction_voxels,{own}protocol"
    )


def test_csv_has_full_precision_and_inf_and_nan_in_words(tmp_path: Path) -> None:
    rows = [row("a,b", dice=1 / 3, hd95_mm=math.inf), row("c", dice=math.nan, precision=1.0)]
    write_cases_csv(tmp_path / "cases.csv", rows)
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    assert lines[1].startswith('"a,b",ET,0.3333333333333333,0.25,0.25,0.25,0.25,inf,')
    assert lines[2] == "c,ET,nan,0.25,0.25,0.25,1.0,0.25,0.25,0.25,0.25,0.25,3,2,brats2020"
    assert len(lines) == 3


REFERENCE = np.zeros((8, 20, 20), np.uint8)
REFERENCE[2:6, 2:6, 2:6] = 4
PREDICTION = np.roll(REFERENCE, 1, axis=2)
PREDICTION[2:5, 15:18, 15:18] = 4


def read(path: Path) -> list[dict[str, str]]:
    """Return the lines of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_lesion_wise_columns_stand_before_the_protocol(tmp_path: Path) -> None:
    rows = evaluate_case("a", REFERENCE, PREDICTION, "brats2020", "brats2023", (1.0, 1.0, 1.0))
    write_cases_csv(tmp_path / "cases.csv", rows)
    first = read(tmp_path / "cases.csv")[0]
    assert tuple(first) == columns_of("brats2023")
    assert {name: first[name] for name in ("lesionwise_dice", "lesionwise_hd95_mm", "num_tp", "num_fp", "num_fn")} == {
        "lesionwise_dice": "0.375",
        "lesionwise_hd95_mm": "187.5",
        "num_tp": "1",
        "num_fp": "1",
        "num_fn": "0",
    }


def test_supplement_has_what_no_protocol_asks_for(tmp_path: Path) -> None:
    rows = evaluate_case("a", REFERENCE, PREDICTION, "brats2020", "plain", (1.0, 1.0, 1.0), nsd_tolerances_mm=(2, 0.25))
    write_supplement_csv(tmp_path / "supplement.csv", rows)
    first = read(tmp_path / "supplement.csv")[0]
    assert list(first) == [
        *("case", "region", "accuracy", "relative_volume_difference", "hd95_directed_mm", "nsd_0_25mm", "nsd_2mm"),
    ]
    assert float(first["accuracy"]) == (3200 - 16 - 16 - 27) / 3200
    assert float(first["relative_volume_difference"]) == 27 / 64


def test_supplement_has_precision_and_recall_of_detection_where_instances_are_matched(tmp_path: Path) -> None:
    rows = evaluate_case("a", REFERENCE, PREDICTION, "brats2020", "instance", (1.0, 1.0, 1.0))
    write_supplement_csv(tmp_path / "supplement.csv", rows)
    first = read(tmp_path / "supplement.csv")[0]
    assert (first["detection_precision"], first["detection_recall"]) == ("0.5", "1.0")
    assert "nsd_0_5mm" in first  # the package's own tolerance for the whole region


@pytest.mark.parametrize(
    ("protocol", "surface_dice"),
    [("brats2023", []), ("brats2024", ["nsd_0_5mm", "nsd_1mm"]), ("instance", ["nsd"])],
)
def test_lesions_have_a_line_each(tmp_path: Path, protocol: str, surface_dice: list[str]) -> None:
    rows = evaluate_case("a", REFERENCE, PREDICTION, "brats2020", protocol, (1.0, 1.0, 1.0))
    write_lesions_csv(tmp_path / "lesions.csv", rows)
    lines = read(tmp_path / "lesions.csv")
    assert list(lines[0])[-len(surface_dice) - 2 :] == ["dice", "hd95_mm", *surface_dice]
    et = [(line["lesion"], line["kind"], line["dice"]) for line in lines if line["region"] == "ET"]
    assert et == [("1", "found", "0.75"), ("2", "false", "0.0")]
