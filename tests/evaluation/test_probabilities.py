"""Folders of saved probabilities: what is read, what is written, and everything that is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.nifti import Header, header_for, header_from_bytes, write_label_map, write_volume
from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.calibration import count_levels, sum_counts
from brats_seg.evaluation.probabilities import (
    count_case,
    find_probabilities,
    read_levels,
    read_probabilities,
    write_calibration,
)
from brats_seg.inference.outputs import PredictionFolder, Wanted

EDITION = get_edition("brats2020")
SHAPE = (3, 4, 5)
RAW = header_for(SHAPE, (1.0, 1.0, 1.0), np.diag([-1.0, -1.0, 1.0, 1.0]), np.uint8)
HEADER = header_from_bytes(RAW)
LEVELS = np.arange(60, dtype=np.uint8).reshape(SHAPE) * 4


def reference() -> np.ndarray:
    """Return a label map with ET, NCR and ED in its last plane."""
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[2, 1:4, 2] = (4, 1, 2)
    return label_map


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the probabilities of cases a and b, three regions each, ET of `b` in float32."""
    for case in ("a", "b"):
        for region in EDITION.region_names:
            write_volume(tmp_path / "p" / f"{case}_{region}.nii.gz", LEVELS, RAW, slope=1 / 255)
    write_volume(tmp_path / "p" / "b_ET.nii.gz", LEVELS.astype(np.float32) / np.float32(255), RAW)
    return tmp_path / "p"


@pytest.fixture(autouse=True)
def _make_folder(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()


def references(*cases: str) -> list[tuple[str, np.ndarray, Header]]:
    return [(case, reference(), HEADER) for case in cases]


def test_levels_are_those_saved_in_either_type(folder: Path) -> None:
    for name in ("a_ET", "b_ET"):
        levels, header = read_levels(folder / f"{name}.nii.gz")
        assert levels.dtype == np.uint8
        np.testing.assert_array_equal(levels, LEVELS)
        assert header.grid == SHAPE


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "expected"),
    [
        (LEVELS.astype(np.uint16) * 257, 1 / 65535, 0.0, LEVELS),
        (np.array([[[0, 50, 100]]], np.uint8), 0.01, 0.0, [[[0, 128, 255]]]),  # 255 * .5 = 127.5, to the even 128
        (np.array([[[0, 51, 102]]], np.uint8), 1 / 255, 0.2, [[[51, 102, 153]]]),
    ],
    ids=["uint16", "percent", "intercept"],
)
def test_other_scalings_are_read_as_the_values_they_mean(
    tmp_path: Path, stored: np.ndarray, slope: float, intercept: float, expected: np.ndarray
) -> None:
    raw = header_for(stored.shape, (1.0, 1.0, 1.0), np.diag([-1.0, -1.0, 1.0, 1.0]), np.uint8)
    write_volume(tmp_path / "x.nii.gz", stored, raw, slope=slope, intercept=intercept)
    np.testing.assert_array_equal(read_levels(tmp_path / "x.nii.gz")[0], expected)


def test_counts_are_of_each_region_in_the_editions_order(folder: Path) -> None:
    files = find_probabilities(folder, ["a", "b"], EDITION.region_names)
    assert files["a"] == {region: folder / f"a_{region}.nii.gz" for region in ("ET", "TC", "WT")}
    counts, findings = count_case("a", reference(), HEADER, EDITION, files["a"])
    assert findings == []
    assert counts is not None
    expected = [count_levels(LEVELS, np.isin(reference(), labels)) for labels in ([4], [1, 4], [1, 2, 4])]
    np.testing.assert_array_equal(counts, expected)


def test_a_folder_is_the_sum_of_its_cases(folder: Path) -> None:
    total = read_probabilities(folder, iter(references("a", "b")), EDITION)
    one = read_probabilities(folder, references("a"), EDITION)
    np.testing.assert_array_equal(total, sum_counts([one, one]))


def test_what_predict_writes_is_what_is_read(tmp_path: Path) -> None:
    out = PredictionFolder(tmp_path / "out", {}, {})
    values = {region: LEVELS.astype(np.float32) / 255 for region in EDITION.region_names}
    out.write(Wanted("a", "brats2020"), reference(), RAW, values)
    total = read_probabilities(tmp_path / "out" / "probabilities", references("a"), EDITION)
    np.testing.assert_array_equal(total[0], count_levels(LEVELS, reference() == 4))


def test_uncompressed_files_are_found(folder: Path) -> None:
    (folder / "a_ET.nii.gz").unlink()
    write_volume(folder / "a_ET.nii", LEVELS, RAW, slope=1 / 255)
    assert find_probabilities(folder, ["a"], EDITION.region_names)["a"]["ET"].name == "a_ET.nii"


def test_missing_files_are_all_named(folder: Path) -> None:
    (folder / "a_ET.nii.gz").unlink()
    with pytest.raises(DataError) as caught:
        find_probabilities(folder, ["a", "b", "c"], EDITION.region_names)
    assert "case a: no probabilities of ET (expected a_ET.nii.gz)" in str(caught.value)
    assert "case c: no probabilities of ET, TC, WT (expected c_ET.nii.gz)" in str(caught.value)
    assert "case b" not in str(caught.value)


def test_a_folder_without_any_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no probabilities of any of 2 cases \(expected x_ET.nii.gz .*predict --save"):
        find_probabilities(folder, ["x", "y"], EDITION.region_names)
    folder.rename(tmp_path / "probabilities")
    with pytest.raises(DataError, match=r"did you mean .*probabilities\?"):
        find_probabilities(tmp_path, ["a"], EDITION.region_names)
    with pytest.raises(DataError, match="no such folder; expected a folder of <case>_<region>"):
        find_probabilities(tmp_path / "nowhere", ["a"], EDITION.region_names)
    with pytest.raises(DataError, match="no such folder"):
        read_probabilities(tmp_path / "nowhere", references("a"), EDITION)


def test_all_findings_of_all_cases_come_at_once(folder: Path) -> None:
    write_label_map(folder / "a_ET.nii.gz", reference(), RAW)
    write_volume(folder / "a_TC.nii.gz", np.full(SHAPE, 4, np.float32), RAW)
    write_volume(
        folder / "a_WT.nii.gz", LEVELS[1:], header_for((2, 4, 5), (1.0, 1.0, 1.0), np.eye(4), np.uint8), slope=1 / 255
    )
    broken = LEVELS.astype(np.float32) / 255
    broken[0, 0, 0] = np.nan
    write_volume(folder / "b_ET.nii.gz", broken, RAW)
    (folder / "b_TC.nii.gz").write_bytes(b"<html>")
    write_volume(folder / "b_WT.nii.gz", np.stack([LEVELS, LEVELS]), RAW, slope=1 / 255)
    with pytest.raises(DataError) as caught:
        read_probabilities(folder, references("a", "b", "c"), EDITION)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("7 problems")
    for line, words in zip(
        lines[1:],
        (
            ("case a", "a_ET.nii.gz: whole numbers without scaling (uint8), as in a label map"),
            ("case a", "a_TC.nii.gz: values from 4 to 4, expected probabilities from 0 to 1"),
            ("case a", "a_WT.nii.gz: ", "write them on the reference's grid"),
            ("case b", "b_ET.nii.gz: nan among the values"),
            ("case b", "b_TC.nii.gz: not a NIfTI file"),
            ("case b", "b_WT.nii.gz: 2 volumes in one file, expected one region's"),
            ("case c: no probabilities of ET, TC, WT",),
        ),
        strict=True,
    ):
        assert all(word in line for word in words), line


def test_another_affine_is_another_grid(folder: Path) -> None:
    shifted = np.diag([-1.0, -1.0, 1.0, 1.0])
    shifted[0, 3] = 5
    write_volume(folder / "a_ET.nii.gz", LEVELS, header_for(SHAPE, (1.0, 1.0, 1.0), shifted, np.uint8), slope=1 / 255)
    counts, findings = count_case(
        "a", reference(), HEADER, EDITION, find_probabilities(folder, ["a"], EDITION.region_names)["a"]
    )
    assert counts is None
    assert len(findings) == 1
    assert "affine" in findings[0]


def test_a_case_without_all_regions_is_a_finding(folder: Path) -> None:
    counts, findings = count_case("a", reference(), HEADER, EDITION, {"ET": folder / "a_ET.nii.gz"})
    assert counts is None
    assert findings[0].startswith("case a: no probabilities of TC, WT (expected a_TC.nii.gz)")


def test_no_case_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no counts to pool"):
        read_probabilities(folder, [], EDITION)


def test_tables_hold_the_curves(folder: Path, tmp_path: Path) -> None:
    counts = read_probabilities(folder, references("a", "b"), EDITION)
    out = tmp_path / "out"
    out.mkdir()
    paths, numbers = write_calibration(out, counts, EDITION.region_names)
    assert [path.name for path in paths] == ["calibration.csv", "precision_recall.csv"]
    tables = []
    for path in paths:
        with path.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    bins, recall = tables
    assert list(bins[0]) == ["region", "bin", "from", "to", "mean_probability", "observed_share", "count"]
    assert [(line["region"], line["bin"]) for line in bins[14:16]] == [("ET", "15"), ("TC", "1")]
    assert (float(bins[1]["from"]), float(bins[1]["to"])) == (1 / 15, 2 / 15)
    assert sum(int(line["count"]) for line in bins if line["region"] == "WT") == numbers["regions"]["WT"]["num_voxels"]
    assert numbers["regions"]["WT"]["num_voxels"] == 2 * 59  # level 0 occurs once a case, outside the reference
    assert numbers["regions"]["WT"]["num_reference_voxels"] == 2 * 3
    assert len(recall) == 3 * 255
    # WT lies at planes 2, rows 1 to 3, column 2: voxels 47, 52, 57 of 60, the last of which is the third from the top.
    top = next(line for line in recall if (line["region"], line["threshold"]) == ("WT", repr(228 / 255)))
    assert (float(top["precision"]), float(top["recall"])) == (1 / 3, 1 / 3)
    assert "step sum" in numbers["rules"]
