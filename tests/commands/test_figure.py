from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import header_for, read_header, read_label_map, write_label_map


@pytest.fixture
def case(phantom_download: Path) -> Case:
    return find_cases(phantom_download).cases[1]


@pytest.fixture
def predictions(case: Case, tmp_path: Path) -> Path:
    """A folder with the case's prediction: its reference, moved by two voxels."""
    label_map, header = read_label_map(case.label)
    (tmp_path / "predictions").mkdir()
    write_label_map(tmp_path / "predictions" / f"{case.name}.nii.gz", np.roll(label_map, 2, axis=2), header.raw)
    return tmp_path / "predictions"


def figure(data: Path, out: Path, *more: object) -> int:
    return run(["figure", str(data), "--out", str(out), "--dpi", "40", *map(str, more)])


@pytest.mark.parametrize(("name", "first_bytes"), [("a.png", b"\x89PNG"), ("b.svg", b"<?xml"), ("c.pdf", b"%PDF")])
def test_the_suffix_is_the_format(case, predictions, tmp_path, capsys, name, first_bytes) -> None:
    assert figure(case.folder, tmp_path / "new" / name, "--prediction", predictions) == 0
    assert (tmp_path / "new" / name).read_bytes().startswith(first_bytes)
    printed, errors = capsys.readouterr()
    assert printed.startswith(f"wrote {tmp_path}/new/{name} (montage: axial k = ")
    assert errors == ""


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_is_a_sweep_unless_another_kind_is_named(case, predictions, tmp_path, capsys, suffix) -> None:
    from PIL import Image

    words = ("--prediction", predictions, "--plane", "sagittal", "--zoom", "--theme", "dark")
    assert figure(case.folder, tmp_path / f"a{suffix}", *words) == 0
    printed = capsys.readouterr().out
    with Image.open(tmp_path / f"a{suffix}") as picture:
        assert f"({picture.n_frames} sagittal slices)" in printed
        assert picture.n_frames > 10


def test_one_panel_of_a_chosen_slice(case, predictions, tmp_path, capsys) -> None:
    words = ("--prediction", predictions, "--plane", "coronal", "--slice", 30)
    assert figure(case.folder, tmp_path / "a.webp", *words, "--kind", "overlay", "--modality", "t2w") == 0
    assert "(overlay: coronal j = 30)" in capsys.readouterr().out
    assert figure(case.folder, tmp_path / "b.png", *words, "--kind", "slice", "--colors", "itksnap", "--width", 60) == 0
    assert figure(case.folder, tmp_path / "c.png", "--kind", "slice", "--no-reference", "--quiet") == 0


def test_a_case_of_a_download_is_named_by_cases(phantom_download, case, predictions, tmp_path, capsys) -> None:
    words = ("--prediction", predictions, "--slice", "worst")
    assert figure(phantom_download, tmp_path / "a.png", *words, "--cases", case.name) == 0
    assert figure(phantom_download, tmp_path / "b.png", *words) == 2
    assert "6 cases (" in (error := capsys.readouterr().err)
    assert "name it by --cases ID" in error


def test_a_run_and_a_download_are_places_of_label_maps(phantom_download, case, predictions, tmp_path, capsys) -> None:
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "config.yaml").write_text("")
    predictions.rename(run_folder / "validation")
    data = tmp_path / "data" / case.name
    shutil.copytree(case.folder, data)
    (data / case.label.name).unlink()
    words = ("--prediction", run_folder, "--reference", phantom_download, "--slice", "worst")
    assert figure(data, tmp_path / "a.png", *words) == 0
    assert figure(data, tmp_path / "b.png", "--prediction", phantom_download) == 2
    assert f"case {case.name}: no prediction {phantom_download}/{case.name}.nii.gz (found: no label map)" in (
        capsys.readouterr().err
    )


def test_a_missing_modality_is_told_and_the_others_are_drawn(case, tmp_path, capsys) -> None:
    data = tmp_path / "data" / case.name
    shutil.copytree(case.folder, data)
    (data / case.images["t2"].path.name).unlink()
    assert figure(data, tmp_path / "a.png") == 0
    assert f"case {case.name}: no T2; the others are drawn" in capsys.readouterr().out
    assert figure(data, tmp_path / "b.png", "--kind", "slice", "--modality", "t2") == 2
    assert f"case {case.name}: no t2 (found: t1, t1c, flair)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["with space", 'O\'Brien "x" & <script>alert(1)</script>'.replace("/", "_"), "Müller $x$"]
)
def test_names_with_odd_characters_are_drawn(case, tmp_path, name) -> None:
    data = tmp_path / name
    data.mkdir()
    for modality, file in case.images.items():
        shutil.copy(file.path, data / f"{name}_{modality}.nii.gz")
    target = tmp_path / f"{name}.svg"
    assert figure(data, target, "--edition", "brats2020") == 0
    text = target.read_text(encoding="utf-8")
    assert "<script" not in text
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in text


def test_a_prediction_on_another_grid_is_one_line(case, tmp_path, capsys) -> None:
    header = read_header(case.images["t1"].path)
    moved = header.affine.copy()
    moved[2, 3] += 2
    target = tmp_path / "moved.nii.gz"
    write_label_map(
        target, np.zeros(header.grid, np.uint8), header_for(header.grid, header.spacing_mm, moved, np.uint8)
    )
    assert figure(case.folder, tmp_path / "a.png", "--prediction", target) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: case {case.name}: prediction {target}: affine differs")
    assert error.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_file_that_is_there_is_replaced_only_with_overwrite(case, tmp_path, capsys) -> None:
    (tmp_path / "a.png").write_text("mine")
    assert figure(case.folder, tmp_path / "a.png") == 2
    assert "is there already; choose another --out, or replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_text() == "mine"
    assert figure(case.folder, tmp_path / "a.png", "--overwrite") == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("out", "words", "message"),
    [
        ("a.tiff", [], "suffix '.tiff' is no picture's; expected one of .png, .svg"),
        ("a", [], "no suffix, which tells the format; expected one of .png"),
        ("a.png", ["--kind", "sweep"], "a sweep is written as .gif, .webp; choose another suffix or --kind"),
        ("a.gif", ["--kind", "montage"], "a montage is written as .png"),
        ("a.gif", ["--slice", "3"], "--slice 3: a sweep shows all slices"),
        ("a.png", ["--slice", "3"], "slice 3: of which plane? name one of axial, coronal, sagittal"),
        ("a.png", ["--slice", "99", "--plane", "axial"], "slice 99: axial slices of case"),
        ("a.png", ["--modality", "t1"], "--modality t1: a montage shows all"),
        ("a.png", ["--modality", "t3", "--kind", "slice"], "--modality 't3' is unknown; did you mean t"),
        ("a.png", ["--no-reference", "--slice", "worst"], "slice worst: needs a reference and a prediction"),
        ("a.png", ["--reference", "r", "--no-reference"], "--reference and --no-reference: give one of them"),
        ("a.png", ["--prediction", "gone"], "--prediction gone: no such file or folder"),
        ("predictions", [], "expected one of .png"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(case, predictions, tmp_path, capsys, out, words, message) -> None:
    assert figure(case.folder, tmp_path / out, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]


def test_pictures_are_never_written_into_a_case(case, capsys) -> None:
    assert figure(case.folder, case.folder / "a.png") == 2
    assert "never written to" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_told(case, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert figure(case.folder, tmp_path / "file" / "a.png") == 2
    assert "cannot write there" in capsys.readouterr().err


@pytest.mark.data
def test_real_cases_are_drawn(real_data, tmp_path) -> None:
    case = find_cases(real_data / "brats2021").cases[0]
    assert figure(case.folder, tmp_path / "a.png", "--prediction", case.label) == 0
    assert figure(case.folder, tmp_path / "a.gif", "--prediction", case.label, "--modality", "flair") == 0
