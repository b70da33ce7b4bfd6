"""`brats-seg predict` on cases of other orientation, spacing or grid than the training cases'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import brats_seg
from brats_seg.cli import run
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_header, read_volume, write_volume
from brats_seg.inference.likeness import REFERENCE, read_reference
from brats_seg.preprocessing.placing import prepare_in_space
from brats_seg.preprocessing.prepare import prepare_case

LOW = "inference.threshold=0.3"  # at which the barely trained network segments something


@pytest.fixture
def case(phantom_download: Path) -> Case:
    return find_cases(phantom_download).cases[0]


def predicted(model: Path | str, data: Path, output: Path, *words: str) -> nib.Nifti1Image:
    assert run(["predict", str(model), str(data), str(output), "--quiet", *words]) == 0
    return nib.load(next(output.glob("*.nii.gz")))


def rewritten(case: Case, folder: Path, change: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> Path:
    """Write the case's images, changed, under the same names; return their folder."""
    target = folder / case.name
    target.mkdir(parents=True)
    for image in case.images.values():
        nib.save(change(nib.load(image.path)), target / image.path.name)
    return target


def with_axes(codes: str) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    def change(image: nib.Nifti1Image) -> nib.Nifti1Image:
        own = nib.io_orientation(image.affine)
        wanted = nib.orientations.axcodes2ornt(codes)
        return image.as_reoriented(nib.orientations.ornt_transform(own, wanted))

    return change


def with_spacing(spacing_mm: tuple[float, float, float]) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    """Resample to voxels of this size along (I, J, K), nearest neighbour, by nibabel's own means."""
    from nibabel.processing import resample_to_output

    def change(image: nib.Nifti1Image) -> nib.Nifti1Image:
        return resample_to_output(image, spacing_mm, order=0)

    return change


@pytest.mark.parametrize("codes", ["RAS", "PIR", "ASL"])
def test_a_turned_case_gives_the_same_label_map_turned(tiny_run: Path, case: Case, tmp_path: Path, codes: str) -> None:
    straight = predicted(tiny_run, case.folder, tmp_path / "straight", LOW)
    turned = predicted(tiny_run, rewritten(case, tmp_path / "in", with_axes(codes)), tmp_path / "turned", LOW)
    assert nib.aff2axcodes(turned.affine) == tuple(codes)
    assert np.asarray(straight.dataobj).any()
    expected = with_axes(codes)(straight)
    assert np.array_equal(np.asarray(turned.dataobj), np.asarray(expected.dataobj))
    assert np.allclose(turned.affine, expected.affine)


def test_label_maps_on_other_grids_are_evaluated_there(tiny_run: Path, case: Case, tmp_path: Path) -> None:
    assert case.label is not None
    dice = {}
    for name, change in (("straight", lambda image: image), ("turned", with_axes("PIR"))):
        predicted(tiny_run, rewritten(case, tmp_path / name / "in", change), tmp_path / name / "out", LOW)
        (tmp_path / name / "reference").mkdir()
        nib.save(change(nib.load(case.label)), tmp_path / name / "reference" / f"{case.name}.nii.gz")
        words = [str(tmp_path / name / folder) for folder in ("reference", "out")]
        words += ["--protocol", "brats2020", "--jobs", "1", "--quiet", "--out", str(tmp_path / name / "evaluation")]
        assert run(["evaluate", *words]) == 0
        summary = json.loads((tmp_path / name / "evaluation" / "summary.json").read_text())
        dice[name] = [summary["regions"][region]["metrics"]["dice"]["mean"] for region in ("ET", "TC", "WT")]
    assert dice["turned"] == dice["straight"]
    assert max(dice["straight"]) > 0


def test_turned_probabilities_are_turned_back_and_keep_the_header(tiny_run: Path, case: Case, tmp_path: Path) -> None:
    predicted(tiny_run, case.folder, tmp_path / "straight", LOW, "--save-probabilities")
    folder = rewritten(case, tmp_path / "in", with_axes("RAS"))
    predicted(tiny_run, folder, tmp_path / "turned", LOW, "--save-probabilities")
    name = f"probabilities/{case.name}_WT.nii.gz"
    straight, turned = (nib.load(tmp_path / where / name) for where in ("straight", "turned"))
    assert np.array_equal(with_axes("RAS")(straight).get_fdata(), turned.get_fdata())
    t1 = read_header(folder / case.images["t1"].path.name)
    for file in (tmp_path / "turned" / name, tmp_path / "turned" / f"{case.name}.nii.gz"):
        assert read_header(file).raw[252:328] == t1.raw[252:328]  # qform, sform and their codes
        assert read_header(file).raw[76:108] == t1.raw[76:108]  # pixdim


def test_a_case_in_the_model_space_is_not_touched(tiny_run: Path, case: Case) -> None:
    reference = read_reference(tiny_run)
    assert reference is not None
    assert reference.space is not None
    assert reference.space.orientation == "LPS"
    placed = prepare_in_space(case, reference.space)
    assert placed.placement is None
    assert placed.image.dtype == np.int16
    exact = prepare_case(case, with_label=False)
    assert np.array_equal(placed.image, exact.image)
    assert (placed.mean, placed.sd, placed.crop_start) == (exact.mean, exact.sd, exact.crop_start)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 5.0), (1.5, 1.5, 1.5)])
def test_other_spacing_gives_a_label_map_on_its_own_grid(
    tiny_run: Path, case: Case, tmp_path: Path, spacing_mm: tuple[float, float, float]
) -> None:
    folder = rewritten(case, tmp_path / "in", with_spacing(spacing_mm))
    result = predicted(tiny_run, folder, tmp_path / "out", LOW)
    t1 = nib.load(folder / case.images["t1"].path.name)
    assert result.shape == t1.shape
    assert np.array_equal(result.affine, t1.affine)
    straight = predicted(tiny_run, case.folder, tmp_path / "straight", LOW)
    expected = np.asarray(with_spacing(spacing_mm)(straight).dataobj) > 0
    found = np.asarray(result.dataobj) > 0
    assert 2 * (expected & found).sum() / (expected.sum() + found.sum()) > 0.75  # a noisy network's speckled map


def test_thick_slices_come_with_the_reason_of_the_doubt(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rewritten(case, tmp_path / "in", with_spacing((2.0, 2.0, 8.0)))
    predicted(tiny_run, folder, tmp_path / "out")
    line = capsys.readouterr().err
    assert line.startswith(f"warning: 1 of 1 cases are doubtful: {case.name}; voxels of 2 x 2 x 8")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"][case.name]
    assert "fine detail is lost" in record["warnings"][0]
    assert "voxels of 2x2x8 mm, axes RAS: resampled to " in record["geometry"]
    assert run(["predict", str(tiny_run), str(folder), str(tmp_path / "out")]) == 0
    assert "1 made already" in capsys.readouterr().out


def test_sizes_of_post_processing_keep_their_volume(tiny_run: Path, case: Case, tmp_path: Path) -> None:
    fine = rewritten(case, tmp_path / "in", with_spacing((1.0, 1.0, 1.0)))
    raw = np.asarray(predicted(tiny_run, case.folder, tmp_path / "raw", LOW).dataobj)
    num = int(np.count_nonzero(raw))  # voxels of the model's space: on the fine grid the tumour has 20 times as many
    words = [f"inference.postprocessing.min_component_voxels.WT={num * 2}"]
    assert not np.asarray(predicted(tiny_run, fine, tmp_path / "fine", LOW, *words).dataobj).any()


def test_a_run_without_reference_takes_cases_as_they_lie(tiny_run: Path, case: Case, tmp_path: Path) -> None:
    old = shutil.copytree(tiny_run, tmp_path / "old")
    (old / REFERENCE).unlink()
    model = brats_seg.load_model(old, device="cpu")
    assert model.predict(rewritten(case, tmp_path / "in", with_axes("RAS"))).warnings == ()


def test_a_header_without_orientation_is_taken_for_the_model_s_and_told(
    tiny_run: Path, case: Case, tmp_path: Path
) -> None:
    straight = predicted(tiny_run, case.folder, tmp_path / "straight", LOW)
    folder = rewritten(case, tmp_path / "in", lambda image: image)
    for path in folder.iterdir():
        volume, header = read_volume(path)
        raw = bytearray(header.raw)
        raw[252:256] = bytes(4)  # qform_code and sform_code
        write_volume(path, volume, bytes(raw))
    found = predicted(tiny_run, folder, tmp_path / "out", LOW)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(straight.dataobj))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"][case.name]
    assert record["warnings"] == [
        "the header tells no orientation (qform and sform codes 0): taken for LPS, the model's own"
    ]


def test_a_damaged_reference_is_refused(tiny_run: Path, case: Case, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_run, tmp_path / "broken")
    (broken / REFERENCE).write_text('{"format": 1}')
    assert run(["predict", str(broken), str(case.folder), str(tmp_path / "out")]) == 2


def test_modalities_on_different_grids_are_an_error_with_the_remedy(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rewritten(case, tmp_path / "in", with_axes("RAS"))
    shutil.copyfile(case.images["t2"].path, folder / case.images["t2"].path.name)
    assert run(["predict", str(tiny_run), str(folder), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert case.images["t2"].path.name in error
    assert "resample" in error


def test_an_empty_modality_is_an_error(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rewritten(case, tmp_path / "in", lambda image: image)
    path = folder / case.images["t2"].path.name
    volume, header = read_volume(path)
    write_volume(path, np.zeros_like(volume), header.raw)
    assert run(["predict", str(tiny_run), str(folder), str(tmp_path / "out")]) == 1
    assert f"t2 ({path.name}) is 0 everywhere" in capsys.readouterr().err
    assert not (tmp_path / "out" / f"{case.name}.nii.gz").exists()


def test_nan_names_file_and_count_on_any_grid(
    tiny_run: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for codes in ("LPS", "RAS"):
        folder = rewritten(case, tmp_path / codes, with_axes(codes))
        path = folder / case.images["t2"].path.name
        volume, header = read_volume(path)
        volume = volume.astype(np.float32)
        volume[10, 10, 10:13] = np.nan
        write_volume(path, volume, header.raw)
        assert run(["predict", str(tiny_run), str(folder), str(tmp_path / "out")]) == 1
        assert f"t2 ({path.name}): 3 voxels are NaN" in capsys.readouterr().err


@pytest.mark.data
def test_a_real_case_turned_is_the_same_and_in_thick_slices_nearly(real_data: Path, tmp_path: Path) -> None:
    real = find_cases(real_data).cases[0]
    straight = np.asarray(predicted("starter", real.folder, tmp_path / "straight").dataobj)
    turned = predicted("starter", rewritten(real, tmp_path / "ras", with_axes("RAS")), tmp_path / "turned")
    assert np.array_equal(np.asarray(with_axes("LPS")(turned).dataobj), straight)
    thick = rewritten(real, tmp_path / "thick", with_spacing((1.0, 1.0, 3.0)))
    found = np.asarray(predicted("starter", thick, tmp_path / "out").dataobj)
    reference = np.asarray(
        with_spacing((1.0, 1.0, 3.0))(nib.load(tmp_path / "straight" / f"{real.name}.nii.gz")).dataobj
    )
    assert 2 * ((found > 0) & (reference > 0)).sum() / ((found > 0).sum() + (reference > 0).sum()) > 0.85
