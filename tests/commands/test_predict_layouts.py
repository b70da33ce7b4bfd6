"""`brats-seg predict` on other layouts than BraTS', and the label maps that come of it through `evaluate`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_label_map

LOW = "inference.threshold=0.3"
ORDER = ("t2", "flair", "t1", "t1c")  # none that anybody would guess


@pytest.fixture
def case(phantom_download: Path) -> Case:
    return find_cases(phantom_download).cases[0]


@pytest.fixture
def raw(case: Case, tmp_path: Path) -> Path:
    """The case as nnU-Net's raw data sets hold theirs, under a name of no edition."""
    images, labels = tmp_path / "Dataset001" / "imagesTr", tmp_path / "Dataset001" / "labelsTr"
    images.mkdir(parents=True)
    labels.mkdir()
    for number, modality in enumerate(ORDER):
        shutil.copyfile(case.images[modality].path, images / f"patient7_{number:04d}{suffix_of(case)}")
    assert case.label is not None
    shutil.copyfile(case.label, labels / f"patient7{suffix_of(case)}")
    return tmp_path / "Dataset001"


def suffix_of(case: Case) -> str:
    return "".join(case.images["t1"].path.suffixes)


@pytest.fixture
def expected(tiny_run: Path, case: Case, tmp_path: Path) -> np.ndarray:
    assert run(["predict", str(tiny_run), str(case.folder), str(tmp_path / "expected"), LOW, "--quiet"]) == 0
    return read_label_map(tmp_path / "expected" / f"{case.name}.nii.gz")[0]


def test_numbered_channels_give_the_same_label_map_and_can_be_evaluated(
    tiny_run: Path, raw: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(tiny_run), str(raw / "imagesTr"), str(out), LOW, "--quiet"]
    assert run([*words, "--modalities", ",".join(ORDER)]) == 0
    assert np.array_equal(read_label_map(out / "patient7.nii.gz")[0], expected)
    record = json.loads((out / "predictions.json").read_text())["cases"]["patient7"]
    assert record["made_by"]["edition"] == "brats2020"  # the model's own
    words = ["evaluate", str(raw / "labelsTr"), str(out), "--protocol", "plain", "--edition", "brats2020", "--quiet"]
    assert run([*words, "--out", str(tmp_path / "evaluation"), "--jobs", "1"]) == 0
    with (tmp_path / "evaluation" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"patient7"}
    assert {"ET", "TC", "WT"} <= {row["region"] for row in rows}


def test_numbered_channels_without_names_are_refused_with_the_option(
    tiny_run: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(tiny_run), str(raw), str(tmp_path / "out")]) == 2
    assert "--modalities t1,t1c,t2,flair" in capsys.readouterr().err


def test_numbered_channels_are_checked_and_prepared(raw: Path, tmp_path: Path) -> None:
    words = [str(raw), "--edition", "brats2020", "--modalities", ",".join(ORDER), "--jobs", "1", "--quiet"]
    assert run(["check", *words]) == 0
    assert run(["prepare", words[0], str(tmp_path / "store"), *words[1:]]) == 0
    assert (tmp_path / "store" / "patient7" / "label.npy").is_file()


def test_a_turned_decathlon_file_gives_the_label_map_turned(
    tiny_run: Path, case: Case, expected: np.ndarray, tmp_path: Path
) -> None:
    order = ("flair", "t1", "t1c", "t2")  # Task01's
    files = [nib.load(case.images[modality].path) for modality in order]
    stack = np.stack([np.asarray(file.dataobj) for file in files], axis=-1)[::-1, ::-1]
    affine = files[0].affine.copy()
    affine[:3, :2] *= -1  # from LPS to RAS
    (tmp_path / "Task01" / "imagesTs").mkdir(parents=True)
    nib.save(nib.Nifti1Image(stack, affine), tmp_path / "Task01" / "imagesTs" / "BRATS_001.nii.gz")
    words = [str(tiny_run), str(tmp_path / "Task01"), str(tmp_path / "out"), LOW, "--edition", "brats2020", "--quiet"]
    assert run(["predict", *words]) == 0
    found = np.asarray(nib.load(tmp_path / "out" / "BRATS_001.nii.gz").dataobj)
    assert np.array_equal(found[::-1, ::-1].transpose(2, 1, 0), expected)


def test_modalities_are_no_option_of_explicit_files(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tiny_run), str(tmp_path / "out"), "--t1", str(case.images["t1"].path)]
    assert run([*words, "--modalities", "t1"]) == 2
    assert "is for a folder of nnU-Net's" in capsys.readouterr().err


def test_folder_of_names_that_tell_no_edition_has_the_model_s(
    tiny_run: Path, case: Case, expected: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "patient7"
    folder.mkdir(parents=True)
    for modality, image in case.images.items():
        shutil.copyfile(image.path, folder / f"{modality}{suffix_of(case)}")
    assert run(["predict", str(tiny_run), str(tmp_path / "in"), str(tmp_path / "out"), LOW, "--quiet"]) == 0
    assert np.array_equal(read_label_map(tmp_path / "out" / "patient7.nii.gz")[0], expected)
    words = ["predict", str(tiny_run), str(tmp_path / "in"), str(tmp_path / "new"), LOW, "--quiet"]
    assert run([*words, "--edition", "brats2023-gli"]) == 0
    newer = read_label_map(tmp_path / "new" / "patient7.nii.gz")[0]
    assert np.array_equal(newer == 3, expected == 4)


def test_files_named_as_other_modalities_are_refused(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {m: str(image.path) for m, image in case.images.items()}
    files["t1"], files["flair"] = files["flair"], files["t1"]
    options = [word for modality, path in files.items() for word in (f"--{modality}", path)]
    assert run(["predict", str(tiny_run), str(tmp_path / "out"), *options]) == 2
    assert "given as t1, but its name says flair" in capsys.readouterr().err
