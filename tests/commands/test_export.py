from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import header_for, read_header, read_label_map, write_label_map
from brats_seg.data.phantom_slices import write_images
from brats_seg.editions import get_edition
from brats_seg.reporting.itksnap import label_file

CASES = [f"BraTS20_Training_00{n}" for n in range(1, 7)]


@pytest.fixture
def predictions(phantom_download: Path, tmp_path: Path) -> Path:
    """Label maps of the first two cases, which happen to equal the reference."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for case in find_cases(phantom_download).cases[:2]:
        assert case.label is not None
        label_map, _ = read_label_map(case.label)
        write_label_map(folder / f"{case.name}.nii.gz", label_map, read_header(case.images["t1"].path).raw)
    return folder


def export(data: Path, prediction: Path, out: Path, *more: object) -> int:
    return run(["export", "itksnap", str(data), "--prediction", str(prediction), "--out", str(out), *map(str, more)])


def nicknames(workspace: Path) -> list[str]:
    entries = ET.parse(workspace).getroot().iter("entry")
    return [entry.attrib["value"] for entry in entries if entry.attrib["key"] == "CustomNickName"]


def paths_of(workspace: Path) -> list[Path]:
    entries = ET.parse(workspace).getroot().iter("entry")
    return [Path(entry.attrib["value"]) for entry in entries if entry.attrib["key"] == "AbsolutePath"]


def test_a_download_is_exported_as_far_as_there_are_predictions(phantom_download, predictions, tmp_path, capsys):
    out = tmp_path / "snap"
    assert export(phantom_download, predictions, out) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{CASES[0]}.itksnap", f"{CASES[1]}.itksnap", "brats2020.label"]
    )
    assert (out / "brats2020.label").read_text() == label_file(get_edition("brats2020"))
    assert all(path.is_file() for path in paths_of(out / f"{CASES[0]}.itksnap"))
    printed = capsys.readouterr().out
    assert "4 of 6 cases have no prediction" in printed
    assert f"itksnap -w {out}/{CASES[0]}.itksnap" in printed
    assert f"itksnap -w {out}/{CASES[1]}.itksnap" in printed


def test_one_case_with_one_label_map(phantom_download, predictions, tmp_path, capsys):
    folder = find_cases(phantom_download).cases[0].folder
    assert export(folder, predictions / f"{CASES[0]}.nii.gz", tmp_path / "snap") == 0
    assert nicknames(tmp_path / "snap" / f"{CASES[0]}.itksnap") == [
        "T1c",
        "T1",
        "T2",
        "FLAIR",
        "prediction",
        "reference",
    ]
    printed = capsys.readouterr().out
    assert f"itksnap -g {folder}/{CASES[0]}_t1ce.nii" in printed
    assert f"-l {tmp_path}/snap/brats2020.label" in printed


def test_reference_is_the_one_given_or_none(phantom_download, predictions, tmp_path):
    assert export(phantom_download, predictions, tmp_path / "a", "--reference", predictions, "--cases", CASES[1]) == 0
    assert paths_of(tmp_path / "a" / f"{CASES[1]}.itksnap")[-2:] == [predictions / f"{CASES[1]}.nii.gz"] * 2
    assert export(phantom_download, predictions, tmp_path / "b", "--no-reference") == 0
    assert nicknames(tmp_path / "b" / f"{CASES[1]}.itksnap")[-1] == "prediction"


def test_quiet_prints_nothing(phantom_download, predictions, tmp_path, capsys):
    assert export(phantom_download, predictions, tmp_path / "snap", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_case_asked_for_without_a_prediction_is_an_error(phantom_download, predictions, tmp_path, capsys):
    assert export(phantom_download, predictions, tmp_path / "snap", "--cases", f"{CASES[0]},{CASES[4]}") == 2
    assert f"case {CASES[4]}: no prediction {predictions}/{CASES[4]}.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "snap").exists()


def test_no_prediction_at_all_is_an_error_that_names_every_case(phantom_download, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert export(phantom_download, tmp_path / "empty", tmp_path / "snap") == 2
    error = capsys.readouterr().err
    assert all(f"case {case}: no prediction" in error for case in CASES)


def test_predictions_of_no_case_are_told(phantom_download, predictions, tmp_path, capsys):
    shutil.copy(predictions / f"{CASES[0]}.nii.gz", predictions / "stranger.nii.gz")
    assert export(phantom_download, predictions, tmp_path / "snap") == 0
    assert "1 predictions in" in (printed := capsys.readouterr().out)
    assert "belong to no selected case: stranger" in printed


def test_problems_of_all_cases_are_told_at_once_and_nothing_is_written(phantom_download, predictions, tmp_path, capsys):
    label_map, header = read_label_map(predictions / f"{CASES[0]}.nii.gz")
    label_map[0, 0, 0] = 3
    write_label_map(predictions / f"{CASES[0]}.nii.gz", label_map, header.raw)
    other = header_for((40, 56, 57), header.spacing_mm, header.affine, np.uint8)
    write_label_map(predictions / f"{CASES[1]}.nii.gz", np.zeros((40, 56, 57), np.uint8), other)
    assert export(phantom_download, predictions, tmp_path / "snap") == 2
    error = capsys.readouterr().err
    assert f"case {CASES[0]}: prediction" in error
    assert "but edition brats2020 has [0, 1, 2, 4]" in error
    assert f"case {CASES[1]}: prediction" in error
    assert "shape 40x56x57 differs from 40x56x56" in error
    assert not (tmp_path / "snap").exists()


def test_a_case_without_a_modality_is_told_only_if_it_is_selected(phantom_download, predictions, tmp_path, capsys):
    data = tmp_path / "copy"
    shutil.copytree(phantom_download, data)
    case = find_cases(data).cases[1]
    case.images["t2"].path.unlink()
    assert export(data, predictions, tmp_path / "a", "--cases", CASES[0]) == 0
    assert export(data, predictions, tmp_path / "b") == 2
    assert f"case {CASES[1]}: no t2" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_other_content_is_replaced_only_with_overwrite(phantom_download, predictions, tmp_path, capsys):
    out = tmp_path / "snap"
    assert export(phantom_download, predictions, out) == 0
    assert export(phantom_download, predictions, out) == 0, "the same again changes nothing"
    assert export(phantom_download, predictions, out, "--no-reference") == 2
    assert f"{out}/{CASES[0]}.itksnap: is there with other content" in capsys.readouterr().err
    assert nicknames(out / f"{CASES[0]}.itksnap")[-1] == "reference"
    assert export(phantom_download, predictions, out, "--no-reference", "--overwrite") == 0
    assert nicknames(out / f"{CASES[0]}.itksnap")[-1] == "prediction"


def test_one_file_for_many_cases_is_refused(phantom_download, predictions, tmp_path, capsys):
    assert export(phantom_download, predictions / f"{CASES[0]}.nii.gz", tmp_path / "snap") == 2
    assert "one file for 6 cases; give a folder, or one case by --cases" in capsys.readouterr().err


def test_downloads_are_never_written_into(phantom_download, predictions, capsys):
    assert export(phantom_download, predictions, phantom_download / "snap") == 2
    assert "never written to" in capsys.readouterr().err


def test_a_prediction_that_is_not_there_is_named(phantom_download, tmp_path, capsys):
    assert export(phantom_download, tmp_path / "gone", tmp_path / "snap") == 2
    assert f"--prediction {tmp_path}/gone: no such file or folder" in capsys.readouterr().err


def test_reference_and_no_reference_contradict_each_other(phantom_download, predictions, tmp_path, capsys):
    assert export(phantom_download, predictions, tmp_path / "s", "--reference", predictions, "--no-reference") == 2
    assert "--reference and --no-reference: give one of them" in capsys.readouterr().err


def test_a_2d_set_is_refused_with_what_to_do_instead(phantom_download, tmp_path, capsys):
    write_images(tmp_path / "set", 1, size=32)
    assert export(tmp_path / "set", tmp_path / "p", tmp_path / "snap") == 2
    assert "a 2D set; ITK-SNAP files are for volumes: predict with --save-masks" in capsys.readouterr().err


def test_copies_make_a_folder_that_opens_where_it_is_carried_to(phantom_download, predictions, tmp_path, capsys):
    out = tmp_path / "snap"
    assert export(phantom_download, predictions, out, "--copy") == 0
    assert "wrote 15 files" in capsys.readouterr().out  # a label file; two cases of a workspace and six volumes
    out.rename(tmp_path / "elsewhere")
    workspace = tmp_path / "elsewhere" / f"{CASES[0]}.itksnap"
    entries = {entry.attrib["key"]: entry.attrib["value"] for entry in ET.parse(workspace).getroot().iter("entry")}
    for path in paths_of(workspace):  # ITK-SNAP's way: what lay below SaveLocation is looked for beside the workspace
        assert (workspace.parent / path.relative_to(entries["SaveLocation"])).is_file()
    (tmp_path / "elsewhere").rename(out)
    assert export(phantom_download, predictions, out, "--copy") == 0, "the same again changes nothing"
    (out / CASES[0] / "prediction.nii.gz").write_bytes(b"mine")
    assert export(phantom_download, predictions, out, "--copy") == 2
    assert f"{out}/{CASES[0]}/prediction.nii.gz: is there with other content" in capsys.readouterr().err


def test_a_prediction_off_by_rounding_is_put_on_the_image_s_grid_and_told(
    phantom_download, predictions, tmp_path, capsys
):
    source = predictions / f"{CASES[0]}.nii.gz"
    label_map, header = read_label_map(source)
    affine = header.affine.copy()
    affine[:3, 3] += 1e-4
    write_label_map(source, label_map, header_for(header.grid, header.spacing_mm, affine, np.uint8))
    out = tmp_path / "snap"
    assert export(phantom_download, predictions, out) == 0
    told = f"1 label maps lie off the image's grid by rounding and were written anew: {source}"
    assert told in capsys.readouterr().out
    assert paths_of(out / f"{CASES[0]}.itksnap")[4] == out / CASES[0] / "prediction.nii.gz"
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [CASES[0]]


@pytest.mark.parametrize("words", [["export", "--help"], ["export", "itksnap", "--help"]])
def test_help_is_there(words, capsys):
    assert run(words) == 0
    assert "itksnap" in capsys.readouterr().out


@pytest.mark.data
def test_real_cases_open_with_all_layers_on_one_grid(real_data, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    case = next(iter(find_cases(real_data / "brats2021").cases))
    label_map, _ = read_label_map(case.label)
    write_label_map(tmp_path / "p.nii.gz", label_map, read_header(case.images["t1"].path).raw)
    assert export(case.folder, tmp_path / "p.nii.gz", tmp_path / "snap") == 0
    images = [sitk.ReadImage(str(path)) for path in paths_of(tmp_path / "snap" / f"{case.name}.itksnap")]
    assert {(image.GetSpacing(), image.GetOrigin(), image.GetDirection()) for image in images[:5]} == {
        ((1, 1, 1), (0, -239, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    }
    np.testing.assert_array_equal(sitk.GetArrayFromImage(images[4]), sitk.GetArrayFromImage(images[5]))
