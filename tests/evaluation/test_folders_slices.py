"""Evaluation of 2D sets: patients, their slices, presence of tumour."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import write_label_map
from brats_seg.data.phantom import write_download
from brats_seg.data.phantom_slices import write_images, write_slices
from brats_seg.data.reading import read_label_map
from brats_seg.errors import DataError, UsageError
from brats_seg.evaluation.folders import evaluate_folder


def predict(root: Path, out: Path, shift: int) -> Path:
    """Write each case's own masks, moved along the rows, as predictions."""
    out.mkdir()
    for case in find_cases(root).cases:
        label_map, header = read_label_map(case.label)
        write_label_map(out / f"{case.name}.nii.gz", np.roll(label_map, shift, axis=-1), header.raw)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("slices")
    for folder in write_slices(root / "set", 3, size=40, num_slices=5):
        for what in ("", "_mask"):
            (folder / f"{folder.name}_2{what}.tif").unlink()
    predict(root / "set", root / "predictions", 1)
    return root


@pytest.fixture(scope="module")
def evaluation(slices: Path) -> Path:
    evaluate_folder(slices / "set", slices / "predictions", slices / "out", protocol="plain")
    return slices / "out"


def test_cases_are_patients_and_slices_have_the_numbers_of_their_files(evaluation: Path) -> None:
    cases, slices = rows_of(evaluation / "cases.csv"), rows_of(evaluation / "slices.csv")
    assert [row["region"] for row in cases] == ["WT"] * 3
    assert list(slices[0])[:3] == ["case", "slice", "region"]
    assert [name for name in slices[0] if name != "slice"] == list(cases[0])
    assert [row["slice"] for row in slices] == ["1", "3", "4", "5"] * 3
    for row in cases:
        own = [one for one in slices if one["case"] == row["case"]]
        assert sum(int(one["reference_voxels"]) for one in own) == int(row["reference_voxels"])


def test_a_slice_is_scored_by_itself(slices: Path, evaluation: Path) -> None:
    case = find_cases(slices / "set").cases[0]
    reference, _ = read_label_map(case.label)
    predicted = np.roll(reference, 1, axis=-1)
    own = [row for row in rows_of(evaluation / "slices.csv") if row["case"] == case.name]
    for k, row in enumerate(own):
        both, total = (reference[k] & predicted[k]).sum(), reference[k].sum() + predicted[k].sum()
        expected = 2 * both / total if total else np.nan
        np.testing.assert_allclose(float(row["dice"]), expected)


def test_presence_is_told_by_case_and_by_slice_at_one_voxel(evaluation: Path) -> None:
    presence = json.loads((evaluation / "summary.json").read_text())["presence"]
    assert (presence["region"], presence["threshold_from"]) == ("WT", "given")
    assert presence["levels"]["case"]["num"] == 3
    slices = presence["levels"]["slice"]
    assert slices["num"] == 12
    assert slices["sensitivity"]["value"] == slices["auc"]["value"] == 1
    curve = rows_of(evaluation / "presence.csv")
    assert {row["level"] for row in curve} == {"case", "slice"}
    assert (curve[0]["sensitivity"], curve[-1]["threshold_voxels"]) == ("0.0", "0")


def test_threshold_of_one_evaluation_is_taken_to_another(slices: Path, tmp_path: Path) -> None:
    folders = slices / "set", slices / "predictions"
    evaluate_folder(*folders, tmp_path / "first", protocol="plain", presence="auto")
    chosen = json.loads((tmp_path / "first" / "summary.json").read_text())["presence"]
    assert chosen["threshold_from"].startswith("chosen on these cases (Youden), which flatters them")
    evaluate_folder(*folders, tmp_path / "second", protocol="plain", presence=str(tmp_path / "first"))
    second = json.loads((tmp_path / "second" / "summary.json").read_text())["presence"]
    assert second["threshold_from"] == f"chosen by the evaluation {tmp_path / 'first'}"
    assert second["levels"] == chosen["levels"]


def test_a_threshold_that_is_none_is_refused_before_the_work(slices: Path, tmp_path: Path) -> None:
    for rule, error, reason in (
        ("0", UsageError, "expected a number from 1, auto, or the folder"),
        ("soon", UsageError, "expected a number"),
        (str(tmp_path), DataError, "no thresholds of presence"),
    ):
        with pytest.raises(error, match=reason):
            evaluate_folder(slices / "set", slices / "predictions", tmp_path / "out", protocol="plain", presence=rule)
    assert not (tmp_path / "out").exists()


def test_pixels_are_said_to_be_no_millimetres_and_pooled_metrics_are_beside_the_right_ones(evaluation: Path) -> None:
    summary = json.loads((evaluation / "summary.json").read_text())
    assert "pictures have no voxel size: mm are pixels, ml are thousands of pixels" in summary["warnings"]
    assert summary["pooled"]["accuracy"] > 0.98
    assert summary["pooled"]["tumour"]["dice"] < 0.95
    assert list(summary["pooled"]["dice_per_class"]) == ["background", "WT"]


def test_images_are_cases_themselves(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 4, size=40)
    evaluation = evaluate_folder(
        tmp_path / "set", predict(tmp_path / "set", tmp_path / "p", 1), tmp_path / "out", protocol="brats2020"
    )
    assert [row["case"] for row in rows_of(tmp_path / "out" / "cases.csv")] == ["0001", "0002", "0003", "0004"]
    assert list(evaluation.summary["presence"]["levels"]) == ["case"]


def test_a_mask_of_another_size_than_the_prediction_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 2, size=40)
    predictions = predict(tmp_path / "set", tmp_path / "p", 0)
    write_images(tmp_path / "other", 2, size=48)
    with pytest.raises(DataError, match="shape 1x40x40 differs from 1x48x48"):
        evaluate_folder(tmp_path / "other", predictions, tmp_path / "out", protocol="plain")


def test_volumes_have_slices_and_presence_where_asked_for(tmp_path: Path) -> None:
    write_download(tmp_path / "set", 2, shape=(16, 24, 24))
    predictions = predict(tmp_path / "set", tmp_path / "p", 1)
    evaluate_folder(tmp_path / "set", predictions, tmp_path / "without", protocol="plain")
    assert not (tmp_path / "without" / "slices.csv").exists()
    assert not (tmp_path / "without" / "presence.csv").exists()
    result = evaluate_folder(
        tmp_path / "set", predictions, tmp_path / "with", protocol="plain", with_slices=True, presence="auto"
    )
    rows = rows_of(tmp_path / "with" / "slices.csv")
    assert [row["slice"] for row in rows if row["region"] == "WT"] == [str(k) for k in range(16)] * 2
    assert set(result.summary["presence"]["levels"]) == {"case", "slice"}
    # what is no longer asked for is gone after the next evaluation into the folder
    evaluate_folder(tmp_path / "set", predictions, tmp_path / "with", protocol="plain", overwrite=True)
    assert not (tmp_path / "with" / "slices.csv").exists()


def test_pooled_metrics_are_left_out_where_editions_call_labels_differently(tmp_path: Path) -> None:
    write_download(tmp_path / "set", 1, shape=(16, 24, 24))
    write_download(tmp_path / "set", 1, shape=(16, 24, 24), edition="brats2021", first=2)
    result = evaluate_folder(
        tmp_path / "set", predict(tmp_path / "set", tmp_path / "p", 1), tmp_path / "out", protocol="plain"
    )
    assert result.summary["pooled"] is not None  # 2020 and 2021 name their labels alike
    write_download(tmp_path / "set", 1, shape=(16, 24, 24), edition="brats2023-gli", first=3)
    result = evaluate_folder(
        tmp_path / "set", predict(tmp_path / "set", tmp_path / "q", 1), tmp_path / "out2", protocol="plain"
    )
    assert result.summary["pooled"] is None
