"""Folders of label maps: which files belong together, all findings of a batch at once, nothing half-written."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brats_seg.data.nifti import header_for, write_label_map, write_volume
from brats_seg.errors import DataError, OutputError, UsageError
from brats_seg.evaluation.folders import Evaluation, evaluate_folder
from brats_seg.evaluation.references import find_references

SHAPE = (6, 7, 8)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def header(shape: tuple[int, int, int] = SHAPE, affine: np.ndarray = AFFINE, dtype: type = np.uint8) -> bytes:
    """Return a header whose spacing is the affine's."""
    return header_for(shape, tuple(np.abs(np.diag(affine)[2::-1]).tolist()), affine, dtype)


def tumor(labels: tuple[int, ...] = (4, 1, 2), shape: tuple[int, int, int] = SHAPE, shift: int = 0) -> np.ndarray:
    """Return a label map with one row of two voxels a label."""
    label_map = np.zeros(shape, np.uint8)
    for row, label in enumerate(labels):
        label_map[2, 2 + row, 2 + shift : 4 + shift] = label
    return label_map


def write(path: Path, label_map: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a label map and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, label_map, header(label_map.shape, affine))
    return path


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a flat folder of three references, predictions of all of them (one shifted), and where to write."""
    for number in (1, 2, 3):
        write(tmp_path / "reference" / f"BraTS20_Training_00{number}.nii.gz", tumor())
        write(tmp_path / "prediction" / f"BraTS20_Training_00{number}.nii", tumor(shift=number == 3))
    return tmp_path / "reference", tmp_path / "prediction", tmp_path / "out"


def run(places: tuple[Path, Path, Path], **options: Any) -> Evaluation:
    """Evaluate under brats2020 unless told otherwise."""
    return evaluate_folder(*places, **{"protocol": "brats2020", **options})


def test_a_flat_folder_is_scored_case_by_case(places: tuple[Path, Path, Path]) -> None:
    result = run(places)
    with (places[2] / "cases.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 5  # ET, TC, WT, NCR, ED
    assert [line["dice"] for line in lines if line["region"] == "ET"] == ["1.0", "1.0", "0.5"]
    assert {line["protocol"] for line in lines} == {"brats2020"}
    names = {"cases.csv", "summary.json", "portal.csv", "supplement.csv", "run.json"}
    assert {path.name for path in places[2].iterdir()} == names
    assert {path.name for path in result.files} == {path.name for path in places[2].iterdir()}


def test_summary_and_run_say_what_was_compared(places: tuple[Path, Path, Path]) -> None:
    run(places)
    summary = json.loads((places[2] / "summary.json").read_text())
    assert (summary["protocol"], summary["num_cases"], summary["editions"]) == ("brats2020", 3, ["brats2020"])
    assert summary["regions"]["ET"]["metrics"]["dice"]["mean"] == pytest.approx(2.5 / 3)
    record = json.loads((places[2] / "run.json").read_text())
    assert (record["reference"], record["prediction"], record["images"]) == (str(places[0]), str(places[1]), None)


def test_run_names_the_models_behind_the_predictions(places: tuple[Path, Path, Path]) -> None:
    (places[1] / "predictions.json").write_text('{"models": ["/runs/a", "/runs/b"], "cases": {}}')
    run(places)
    assert json.loads((places[2] / "run.json").read_text())["runs"] == ["/runs/a", "/runs/b"]
    (places[1].parent / "model.safetensors").touch()
    run(places, overwrite=True)
    assert json.loads((places[2] / "run.json").read_text())["runs"] == [str(places[1].parent)]


def test_any_number_of_jobs_gives_the_same_bytes(places: tuple[Path, Path, Path]) -> None:
    run(places)
    run((places[0], places[1], places[2].with_name("again")), jobs=2)
    for name in ("cases.csv", "summary.json", "portal.csv"):
        assert (places[2] / name).read_bytes() == (places[2].with_name("again") / name).read_bytes()


def test_spacing_of_the_header_counts(tmp_path: Path) -> None:
    affine = np.diag([3.0, 2.0, 5.0, 1.0])  # I, J, K
    write(tmp_path / "r" / "x.nii.gz", tumor((4,)), affine)
    write(tmp_path / "p" / "x.nii.gz", tumor((4,), shift=1), affine)
    row = evaluate_folder(tmp_path / "r", tmp_path / "p", tmp_path / "o", protocol="plain", edition="brats2020").rows[0]
    assert (row.hd95_mm, row.reference_ml) == (3.0, 2 * 30 / 1000)


def test_a_download_is_scored_by_its_label_maps_alone(tmp_path: Path) -> None:
    download = tmp_path / "download"
    for number, labels in ((1, (4, 1, 2)), (2, (1, 2))):
        case = f"BraTS20_Training_00{number}"
        for token in ("t1", "t1ce", "t2", "flair"):
            write(download / case / f"{case}_{token}.nii.gz", tumor())
        write(download / case / f"{case}_seg.nii.gz", tumor(labels))
        write(tmp_path / "p" / f"{case}.nii.gz", tumor(labels))
    (download / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz").unlink()
    result = evaluate_folder(download, tmp_path / "p", tmp_path / "o", protocol="brats2020")
    assert {row.dice for row in result.rows} == {1.0}
    assert json.loads((tmp_path / "o" / "run.json").read_text())["images"] == str(download)
    one = evaluate_folder(download / "BraTS20_Training_001", tmp_path / "p", tmp_path / "o1", protocol="brats2020")
    assert {row.case for row in one.rows} == {"BraTS20_Training_001"}


def test_a_download_without_reference_label_maps_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        case = f"BraTS20_Validation_00{number}"
        for token in ("t1", "t1ce", "t2", "flair"):
            write(tmp_path / case / f"{case}_{token}.nii.gz", tumor())
    with pytest.raises(DataError, match=r"(?s)2 problems.*BraTS20_Validation_001: no reference label map.*_002"):
        find_references(tmp_path)


def test_names_in_a_flat_folder_are_never_parsed(tmp_path: Path) -> None:
    for name in ("patient 1_seg", "patient 2_t1", "BraTS20_Training_001", "a.b"):
        write(tmp_path / f"{name}.nii.gz", tumor())
    cases = [one.case for one in find_references(tmp_path, "brats2020")[0]]
    assert cases == ["BraTS20_Training_001", "a.b", "patient 1_seg", "patient 2_t1"]


@pytest.mark.parametrize(
    ("name", "shape", "labels", "edition"),
    [
        ("BraTS20_Training_001", SHAPE, (4,), "brats2020"),
        ("BraTS-GLI-00001-000", (155, 240, 240), (3,), "brats2023-gli"),
        ("BraTS-GLI-02001-000", (182, 218, 182), (3,), "brats2024-gli"),
        ("BraTS-MET-00001-000", SHAPE, (3, 4), "brats2024-met"),
        ("BraTS-PED-00001-000", SHAPE, (3, 4), "brats2024-ped"),
    ],
)
def test_edition_of_a_flat_folder_is_told_by_names_grid_and_labels(
    tmp_path: Path, name: str, shape: tuple[int, int, int], labels: tuple[int, ...], edition: str
) -> None:
    write(tmp_path / f"{name}.nii", tumor(labels, shape))
    assert [one.edition for one in find_references(tmp_path)[0]] == [edition]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("patient1", r"case patient1: no edition names its cases so; name the edition with --edition \(brats2017, "),
        ("BraTS-PED-00001-000", "may be brats2023-ped or brats2024-ped, whose labels mean different things.*--edition"),
    ],
)
def test_an_edition_that_cannot_be_told_is_asked_for(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / f"{name}.nii.gz", tumor((1, 2, 3)))
    with pytest.raises(DataError, match=message):
        find_references(tmp_path)


def test_missing_predictions_are_all_named(places: tuple[Path, Path, Path]) -> None:
    for number in (1, 3):
        (places[1] / f"BraTS20_Training_00{number}.nii").unlink()
    with pytest.raises(DataError, match=r"no prediction for 2 of 3 cases: .*_001, .*_003 .*--missing score-as-failure"):
        run(places)
    assert not places[2].exists()


def test_nothing_is_scored_once_something_is_known_to_be_wrong(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (places[1] / "BraTS20_Training_002.nii").unlink()
    monkeypatch.setattr("brats_seg.evaluation.pairs.evaluate_case", None)
    with pytest.raises(DataError, match="no prediction for 1 of 3 cases"):
        run(places)


def test_missing_predictions_can_be_scored_as_failures(places: tuple[Path, Path, Path]) -> None:
    (places[1] / "BraTS20_Training_002.nii").unlink()
    result = run(places, missing="score-as-failure")
    scores = {(row.dice, row.hd95_mm) for row in result.rows if row.case == "BraTS20_Training_002"}
    assert scores == {(0, 374)}
    assert (result.summary["missing"], result.summary["num_missing"]) == (["BraTS20_Training_002"], 1)


def test_extra_predictions_are_named_and_not_scored(places: tuple[Path, Path, Path]) -> None:
    write(places[1] / "stranger.nii.gz", tumor())
    (places[1] / ".incomplete-1-other.nii.gz").write_bytes(b"")
    (places[1] / "probabilities").mkdir()
    result = run(places, select=lambda names: names[:1])
    assert result.warnings == ("not scored, no such reference: stranger",)
    assert result.summary["extra_predictions"] == ["stranger"]
    assert {row.case for row in result.rows} == {"BraTS20_Training_001"}


def test_every_finding_of_every_pair_is_reported_at_once(places: tuple[Path, Path, Path]) -> None:
    reference, prediction, out = places
    names = ("shape", "affine", "labels", "fraction", "nan", "page", "both", "twice", "gone")
    for name in names:
        write(reference / f"{name}.nii.gz", tumor())
        write(prediction / f"{name}.nii.gz", tumor())
    write(prediction / "shape.nii.gz", tumor(shape=(6, 7, 9)))
    write(prediction / "affine.nii.gz", tumor(), np.diag([-1.0, -1.0, 2.0, 1.0]))
    write(prediction / "labels.nii.gz", tumor((3, 1, 2)))
    for name, value in (("fraction", 0.5), ("nan", np.nan)):
        write_volume(prediction / f"{name}.nii.gz", np.full(SHAPE, value, np.float32), header(dtype=np.float32))
    (prediction / "page.nii.gz").write_text("<!DOCTYPE html><title>404</title>")
    write(reference / "both.nii.gz", tumor((5,)))
    write(prediction / "twice.nii", tumor())
    (prediction / "gone.nii.gz").unlink()
    with pytest.raises(DataError) as caught:
        run(places, edition="brats2020")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(names)
    for expected in (
        "no prediction for 1 of 12 cases: gone",
        "case twice: two predictions (twice.nii, twice.nii.gz)",
        "case shape: prediction",
        "case affine: prediction",
        "case labels: prediction",
        "case fraction: prediction",
        "case nan: prediction",
        "case page: prediction",
        "case both: reference",
    ):
        assert sum(expected in line for line in lines) == 1, (expected, lines)
    assert not out.exists()


def finding(places: tuple[Path, Path, Path]) -> str:
    """Return the one finding of an evaluation that fails."""
    with pytest.raises(DataError) as caught:
        run(places)
    return str(caught.value)


def test_another_shape_is_told_with_both(places: tuple[Path, Path, Path]) -> None:
    write(places[1] / "BraTS20_Training_001.nii", tumor(shape=(6, 7, 9)))
    message = finding(places)
    assert "case BraTS20_Training_001: prediction" in message
    assert "6x7x9" in message
    assert "6x7x8" in message


def test_another_affine_is_told_with_both(places: tuple[Path, Path, Path]) -> None:
    write(places[1] / "BraTS20_Training_001.nii", tumor(), np.diag([-1.0, -1.0, 2.0, 1.0]))
    message = finding(places)
    assert "reference [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]" in message
    assert "prediction [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]" in message


def test_labels_of_another_edition_name_the_editions_they_fit(places: tuple[Path, Path, Path]) -> None:
    write(places[1] / "BraTS20_Training_001.nii", tumor((3, 1, 2)))
    message = finding(places)
    assert "labels [0, 1, 2, 3], but edition brats2020 has [0, 1, 2, 4]" in message
    assert "brats2023-gli" in message


def test_probabilities_are_told_from_labels(places: tuple[Path, Path, Path]) -> None:
    path = places[1] / "BraTS20_Training_001.nii"
    write_volume(path, np.full(SHAPE, 100, np.uint8), header(), slope=1 / 255)
    assert "a label map has whole numbers" in finding(places)


def test_label_maps_of_any_type_with_whole_numbers_are_read(places: tuple[Path, Path, Path]) -> None:
    path = places[1] / "BraTS20_Training_001.nii"
    write_volume(path, tumor().astype(np.float32), header(dtype=np.float32))
    image = nib.Nifti1Image(tumor().T.astype(np.int16), AFFINE)
    nib.save(image, places[1] / "BraTS20_Training_002.nii")
    assert {row.dice for row in run(places).rows if not row.case.endswith("3")} == {1.0}


def test_output_inside_an_input_is_refused(places: tuple[Path, Path, Path]) -> None:
    for folder in places[:2]:
        with pytest.raises(OutputError, match="lies inside the input"):
            run((places[0], places[1], folder / "out"))
        assert not (folder / "out").exists()


def test_an_evaluation_is_replaced_only_when_asked(places: tuple[Path, Path, Path]) -> None:
    run(places)
    with pytest.raises(OutputError, match=r"has an evaluation already.*--overwrite"):
        run(places, protocol="plain")
    run(places, protocol="plain", overwrite=True)
    assert "plain" in (places[2] / "cases.csv").read_text()
    assert not (places[2] / "portal.csv").exists()  # it would be the other evaluation's


@pytest.mark.parametrize("which", [0, 1])
def test_a_folder_that_is_not_there_is_an_error(places: tuple[Path, Path, Path], which: int) -> None:
    wrong = [*places]
    wrong[which] = places[0].parent / "nowhere"
    with pytest.raises(DataError, match=f"nowhere: no such folder; {('reference', 'prediction')[which]} must be"):
        run(tuple(wrong))
    wrong[which] = places[0] / "BraTS20_Training_001.nii.gz"
    with pytest.raises(DataError, match="is a file"):
        run(tuple(wrong))


def test_an_empty_prediction_folder_is_an_error(places: tuple[Path, Path, Path]) -> None:
    empty = places[2].with_name("empty")
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: no predictions in it; expected <case>\.nii\.gz"):
        run((places[0], empty, places[2]))


def test_editions_with_other_regions_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "BraTS20_Training_001.nii.gz", tumor())
    write(tmp_path / "BraTS-MEN-RT-0001-1.nii.gz", tumor((1,)))
    with pytest.raises(DataError, match=r"cases of brats2020, brats2024-men-rt, whose regions differ"):
        find_references(tmp_path)
    (one,), names = find_references(tmp_path, select=lambda names: [name for name in names if "BraTS20" in name])
    assert (one.edition, len(names)) == ("brats2020", 2)


def test_what_is_wrong_with_cases_that_are_not_chosen_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "flat" / "patient3.nii.gz", tumor())
    for name in ("BraTS20_Training_001", "BraTS20_Training_002"):
        write(tmp_path / "flat" / f"{name}.nii.gz", tumor())
        for token in ("t1", "t1ce", "t2", "flair", *["seg"] * (name != "BraTS20_Training_002")):
            write(tmp_path / "download" / name / f"{name}_{token}.nii.gz", tumor())
    write(tmp_path / "flat" / "BraTS20_Training_002.nii", tumor())
    for folder, num_names in (("flat", 3), ("download", 2)):
        (one,), names = find_references(tmp_path / folder, select=lambda names: ["BraTS20_Training_001"])
        assert (one.case, one.edition, len(names)) == ("BraTS20_Training_001", "brats2020", num_names)


def test_unknown_names_are_refused_before_any_work(places: tuple[Path, Path, Path]) -> None:
    with pytest.raises(UsageError, match="protocol 'brats2019' is unknown"):
        run(places, protocol="brats2019")
    with pytest.raises(UsageError, match="edition 'brats20' is unknown"):
        run(places, edition="brats20")


def test_a_protocol_that_counts_lesions_lists_them_and_says_its_rules(places: tuple[Path, Path, Path]) -> None:
    result = run(places, protocol="brats2024", nsd_tolerances_mm=(2,))
    assert [path.name for path in result.files] == [
        *("cases.csv", "summary.json", "portal.csv", "portal_full.csv", "supplement.csv", "lesions.csv", "run.json"),
    ]
    (rules,) = json.loads((places[2] / "summary.json").read_text())["rules"]
    assert rules.startswith(
        "GLI: parts within 3 steps of dilation are one lesion (NETC 5, RC 5); reference lesions up to"
    )
    assert "HD95 337" in rules
    assert "nsd_2mm" in result.summary["regions"]["ET"]["metrics"]
    run(places, protocol="plain", overwrite=True)
    left = {path.name for path in places[2].iterdir()}
    assert left == {"cases.csv", "summary.json", "supplement.csv", "run.json"}  # none of the evaluation before


def test_a_task_without_rules_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("reference", "prediction"):
        write(tmp_path / name / "BraTS-MEN-RT-0001-1.nii.gz", tumor((1,)))
    with pytest.raises(UsageError, match="brats2023: has no rules for task MEN-RT"):
        run((tmp_path / "reference", tmp_path / "prediction", tmp_path / "out"), protocol="brats2023")
    assert not (tmp_path / "out").exists()


def test_tasks_of_one_evaluation_are_scored_by_their_own_rules(tmp_path: Path) -> None:
    for case in ("BraTS-GLI-00001-000", "BraTS-MET-00001-000"):
        lesions = np.zeros((20, 20, 20), np.uint8)
        lesions[2:6, 2:6, 2:6] = lesions[15:18, 15:18, 15:18] = 3  # 64 and 27 voxels
        write(tmp_path / "reference" / f"{case}.nii.gz", lesions)
        lesions = lesions.copy()
        lesions[15:] = 0
        write(tmp_path / "prediction" / f"{case}.nii.gz", lesions)
    places = (tmp_path / "reference", tmp_path / "prediction", tmp_path / "out")
    # Editions told by name: cases of 20 x 20 x 20 voxels fit 2023 and 2024 alike, whose labels agree where 4 is absent.
    rows = {row.case: row for row in run(places, protocol="brats2023", edition=None).rows if row.region == "ET"}
    assert rows["BraTS-GLI-00001-000"].lesionwise_dice == 1  # 27 mm3 are left out
    assert rows["BraTS-MET-00001-000"].lesionwise_dice == 0.5


@pytest.mark.parametrize(("protocol", "is_told"), [("brats2020", True), ("instance", True), ("plain", False)])
def test_distances_in_voxels_that_are_not_1_mm_are_told(tmp_path: Path, protocol: str, is_told: bool) -> None:
    for name in ("reference", "prediction"):
        write(tmp_path / name / "BraTS20_Training_001.nii.gz", tumor(), np.diag([-1.0, -1.0, 3.0, 1.0]))
        write(tmp_path / name / "BraTS20_Training_002.nii.gz", tumor())
    result = run((tmp_path / "reference", tmp_path / "prediction", tmp_path / "out"), protocol=protocol)
    told = "hd95_mm is in voxels under .*those of 1 cases are not 1 mm .BraTS20_Training_001.; --protocol plain"
    assert bool(result.warnings) is is_told
    assert all(re.search(told, line) for line in result.warnings)
    assert result.summary["warnings"] == list(result.warnings)
