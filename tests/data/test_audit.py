"""Audit: each defect alone in a sound download, found as what it is."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brats_seg.data.audit import Audit, Finding, audit_download
from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import header_for, read_header, read_volume, write_volume
from brats_seg.data.phantom_slices import sliced_case_name, write_images, write_slices
from brats_seg.data.pictures import count_in_between
from brats_seg.editions import get_edition

SHAPE = (4, 6, 8)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def write(path: Path, volume: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    write_volume(path, volume, header_for(volume.shape, tuple(spacing.tolist()), affine, volume.dtype))  # type: ignore[arg-type]
    return path


def write_case(
    root: Path,
    name: str,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    *,
    edition: str = "brats2020",
    suffix: str = ".nii.gz",
) -> Path:
    """A head of noise with two empty slices in front, and a tumour of the edition's labels."""
    rng = np.random.default_rng(seed)
    wanted = get_edition(edition)
    for modality in wanted.modalities:
        image = rng.integers(1, 1000, shape, dtype=np.int16)
        image[:2] = 0
        write(root / name / wanted.file_name(name, modality, suffix), image)
    label_map = np.zeros(shape, np.uint8)
    label_map[2, 1, : len(wanted.labels)] = [label.value for label in wanted.labels]
    label_map[3, 3, seed % shape[2]] = wanted.labels[0].value
    write(root / name / wanted.file_name(name, None, suffix), label_map)
    return root / name


@pytest.fixture
def download(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_case(tmp_path / "data", f"BraTS20_Training_{number:03d}", number)
    return tmp_path / "data"


def file_of(download: Path, token: str, number: int = 1) -> Path:
    name = f"BraTS20_Training_{number:03d}"
    return download / name / f"{name}_{token}.nii.gz"


def audit(root: Path, *, edition: str | None = None, jobs: int = 1) -> Audit:
    return audit_download(find_cases(root, edition=edition, strict=False), jobs=jobs)


def findings(root: Path, severity: str, *, without: str = "grid", edition: str | None = None) -> list[Finding]:
    return [f for f in audit(root, edition=edition).findings if f.severity == severity and f.check != without]


def the_error(root: Path) -> Finding:
    (error,) = findings(root, "error")
    return error


# ---- a sound download ----


def test_sound_download_has_no_findings_but_the_tests_small_grid(download: Path) -> None:
    result = audit(download)
    assert {(f.severity, f.check) for f in result.findings} == {("warning", "grid")}
    assert (result.num_cases, result.num_patients, result.editions) == (3, 3, {"brats2020": 3})
    assert result.counts == {"error": 0, "warning": 3, "note": 0}


def test_full_grid_is_expected(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS20_Training_001", 1, (155, 240, 240), suffix=".nii")
    assert audit(tmp_path).findings == ()


def test_radiotherapy_may_have_any_grid(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS-MEN-RT-0001-1", 1, edition="brats2024-men-rt")
    assert audit(tmp_path).findings == ()


def test_decathlon_is_audited_by_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    volumes = rng.integers(1, 99, (4, *SHAPE), dtype=np.int16)
    volumes[2] = 0
    header = header_for(SHAPE, (1.0, 1.0, 1.0), AFFINE, np.int16)
    (tmp_path / "imagesTr").mkdir()
    write_volume(tmp_path / "imagesTr" / "BRATS_001.nii.gz", volumes, header)
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[1, 1, 1:4] = 1, 2, 3
    write(tmp_path / "labelsTr" / "BRATS_001.nii.gz", label_map)
    assert [(f.file, f.message) for f in findings(tmp_path, "error")] == [
        ("imagesTr/BRATS_001.nii.gz", "t1c: empty, every voxel is 0")
    ]
    assert findings(tmp_path, "note") == []


def test_findings_come_gravest_first_and_as_json(download: Path) -> None:
    file_of(download, "t1", 3).unlink()
    (download / "notes").mkdir()
    result = audit(download)
    assert [f.severity for f in result.findings] == ["error", *["warning"] * 3, "note"]
    value = json.loads(json.dumps(result.as_json()))
    assert {key: value[key] for key in ("root", "editions", "cases", "counts")} == {
        "root": str(download),
        "editions": {"brats2020": 3},
        "cases": 3,
        "counts": {"error": 1, "warning": 3, "note": 1},
    }
    assert value["findings"][0] == {
        "severity": "error",
        "case": "BraTS20_Training_003",
        "file": "",
        "check": "missing",
        "message": "no t1 (found: t1c, t2, flair, a label map)",
    }


def test_several_processes_find_the_same(download: Path) -> None:
    file_of(download, "t1").write_bytes(b"")
    assert audit(download, jobs=2) == audit(download)


def test_progress_is_told_once_a_case(download: Path) -> None:
    ticks: list[int] = []
    audit_download(find_cases(download), progress=lambda: ticks.append(1))
    assert len(ticks) == 3


# ---- errors ----


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def claim_too_much(path: Path) -> None:
    raw = bytearray(read_header(path).raw)
    raw[42:48] = np.array([30000] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw) + bytes(100)))


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "truncated"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "empty file": (lambda path: path.write_bytes(b""), "empty"),
    "absurd size": (claim_too_much, "30000x30000x30000"),
}


@pytest.mark.parametrize(("spoil", "words"), BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("token", ["t1", "flair", "seg"])
def test_unreadable_file_is_an_error(download: Path, spoil: Callable[[Path], object], words: str, token: str) -> None:
    spoil(file_of(download, token))
    error = the_error(download)
    assert (error.case, error.check) == ("BraTS20_Training_001", "unreadable")
    assert error.file == f"BraTS20_Training_001/BraTS20_Training_001_{token}.nii.gz"
    assert words in error.message
    assert str(download) not in error.message


def test_broken_link_is_an_error(download: Path) -> None:
    file_of(download, "t2").unlink()
    file_of(download, "t2").symlink_to(download / "gone.nii.gz")
    assert the_error(download).check == "unreadable"


def test_one_broken_file_does_not_hide_the_next(download: Path) -> None:
    truncate(file_of(download, "t1"))
    write(file_of(download, "t2"), np.zeros(SHAPE, np.int16))
    write(file_of(download, "flair", 2), np.full(SHAPE, np.nan, np.float32))
    assert [(f.case[-3:], f.check) for f in findings(download, "error")] == [
        ("001", "unreadable"),
        ("001", "empty"),
        ("002", "nan"),
    ]


def test_two_t1s_are_an_error(download: Path) -> None:
    shutil.copy(file_of(download, "t1"), file_of(download, "t1n"))
    error = the_error(download)
    assert error.check == "ambiguous"
    assert error.message.startswith("two T1s (BraTS20_Training_001_t1.nii.gz, BraTS20_Training_001_t1n.nii.gz)")


def test_missing_label_map_among_labelled_cases_is_an_error(download: Path) -> None:
    file_of(download, "seg", 2).unlink()
    error = the_error(download)
    assert (error.case, error.check) == ("BraTS20_Training_002", "missing")
    assert error.message == "no label map, though 2 of the 3 cases in its folder have one"


def test_validation_cases_need_no_label_map(download: Path) -> None:
    for number in (1, 2, 3):
        file_of(download, "seg", number).unlink()
    assert findings(download, "error") == []
    assert {f.message for f in findings(download, "note")} == {"no label map: can be predicted, not trained on"}


@pytest.mark.parametrize("token", ["t1", "t2", "seg"])
def test_file_of_another_shape_is_an_error_of_that_file(download: Path, token: str) -> None:
    volume, _ = read_volume(file_of(download, token))
    write(file_of(download, token), volume[:, :-1])
    error = the_error(download)
    assert (error.check, Path(error.file).name) == ("geometry", f"BraTS20_Training_001_{token}.nii.gz")
    assert "4x5x8" in error.message
    assert "4x6x8" in error.message


def test_file_at_another_place_is_an_error(download: Path) -> None:
    volume, _ = read_volume(file_of(download, "seg"))
    moved = AFFINE.copy()
    moved[1, 3] = 0
    write(file_of(download, "seg"), volume, moved)
    error = the_error(download)
    assert error.check == "geometry"
    assert "affine differs" in error.message


def test_affine_is_compared_as_resolved_when_the_sform_code_is_0(download: Path) -> None:
    path = file_of(download, "seg")
    raw = bytearray(read_header(path).raw)
    raw[254:256] = bytes(2)  # sform_code
    raw[280:328] = bytes(48)  # srow_x, srow_y, srow_z: would be no affine at all
    write_volume(path, read_volume(path)[0], bytes(raw))
    assert findings(download, "error") == []
    assert [f.message for f in findings(download, "note")] == ["label maps with sform code 0"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxel_that_is_no_number_is_an_error(download: Path, value: float) -> None:
    volume = read_volume(file_of(download, "t1ce"))[0].astype(np.float32)
    volume[2, 2, 2] = value
    write(file_of(download, "t1ce"), volume)
    error = the_error(download)
    assert (error.check, error.message) == ("nan", "t1c: 1 of 192 voxels are NaN or infinite")


def test_labels_of_another_edition_are_an_error_that_names_it(download: Path) -> None:
    label_map, _ = read_volume(file_of(download, "seg"))
    label_map[2, 2, 2] = 3
    label_map[label_map == 4] = 0
    write(file_of(download, "seg"), label_map)
    error = the_error(download)
    assert error.check == "labels"
    assert "labels [0, 1, 2, 3], but edition brats2020 has [0, 1, 2, 4]" in error.message
    assert "brats2023-gli" in error.message


def test_named_edition_is_what_labels_are_held_against(download: Path) -> None:
    messages = [f.message for f in findings(download, "error", edition="brats2023-gli")]
    assert len(messages) == 3
    assert all("edition brats2023-gli has [0, 1, 2, 3]" in message for message in messages)


def test_label_map_with_fractions_is_an_error_of_labels(download: Path) -> None:
    write(file_of(download, "seg"), read_volume(file_of(download, "seg"))[0] * np.float32(0.5))
    assert the_error(download).check == "labels"


@pytest.mark.parametrize("value", [0, 7])
def test_modality_of_one_value_is_an_error(download: Path, value: int) -> None:
    write(file_of(download, "flair"), np.full(SHAPE, value, np.int16))
    error = the_error(download)
    assert (error.check, error.message) == ("empty", f"flair: empty, every voxel is {value}")


def test_four_dimensional_file_of_one_modality_is_an_error(download: Path) -> None:
    volume, header = read_volume(file_of(download, "t1"))
    write_volume(file_of(download, "t1"), np.stack([volume, volume]), header.raw)
    assert "2 volumes in one file" in the_error(download).message


# ---- warnings ----


def test_other_grid_is_a_warning_of_the_case(download: Path) -> None:
    (finding, *_) = findings(download, "warning", without="")
    assert (finding.check, finding.file) == ("grid", "")
    assert finding.message == "grid 4x6x8 of 1x1x1 mm; brats2020 has 155x240x240 of 1 mm"


def test_tumour_outside_the_brain_is_a_warning_that_counts_voxels(download: Path) -> None:
    label_map, _ = read_volume(file_of(download, "seg"))
    label_map[0, 0, :2] = 1  # slices 0 and 1 are empty; four tumour voxels lie inside
    write(file_of(download, "seg"), label_map)
    (warning,) = findings(download, "warning")
    assert warning.check == "tumour outside brain"
    assert warning.message == "2 of 6 tumour voxels lie where every modality is 0"


def test_tumour_inside_one_modality_alone_is_inside_the_brain(download: Path) -> None:
    label_map, _ = read_volume(file_of(download, "seg"))
    label_map[0, 0, 0] = 1
    write(file_of(download, "seg"), label_map)
    image, _ = read_volume(file_of(download, "t2"))
    image[0, 0, 0] = 5
    write(file_of(download, "t2"), image)
    assert findings(download, "warning") == []


def test_same_modality_twice_in_a_case_is_a_warning(download: Path) -> None:
    shutil.copy(file_of(download, "t1"), file_of(download, "t1ce"))
    (warning,) = findings(download, "warning")
    assert (warning.check, warning.message) == ("duplicate", "t1 and t1c have the same voxels")


def test_same_voxels_in_two_cases_are_one_warning_whatever_header_and_type(download: Path) -> None:
    for token in ("t1", "t1ce", "t2", "flair"):
        volume, _ = read_volume(file_of(download, token, 1))
        write(file_of(download, token, 3), volume.astype(np.float32), AFFINE * [[1], [-1], [1], [1]])
    (warning,) = findings(download, "warning")
    assert (warning.case, warning.check) == ("BraTS20_Training_001", "duplicate")
    assert warning.message == "same voxels as BraTS20_Training_003: t1, t1c, t2, flair"


def test_one_voxel_makes_a_difference(download: Path) -> None:
    volume, _ = read_volume(file_of(download, "t1", 1))
    volume[2, 2, 2] += 1
    write(file_of(download, "t1", 3), volume)
    assert findings(download, "warning") == []


def test_empty_label_maps_are_no_duplicates(download: Path) -> None:
    for number in (1, 2):
        write(file_of(download, "seg", number), np.zeros(SHAPE, np.uint8))
    assert findings(download, "warning") == []
    assert [f.message for f in findings(download, "note")] == ["label map is empty: no tumour"] * 2


# ---- notes ----


def test_header_oddities_are_notes(download: Path) -> None:
    path = file_of(download, "t1")
    volume, header = read_volume(path)
    raw = bytearray(header.raw)
    raw[252:254] = np.array([2], "<i2").tobytes()  # qform_code
    raw[108:112] = np.array([352 + 32], "<f4").tobytes()  # vox_offset
    extension = bytes([1, 0, 0, 0]) + np.array([32, 4], "<i4").tobytes() + bytes(24)
    path.write_bytes(gzip.compress(bytes(raw) + extension + volume.tobytes()))
    assert [(f.check, f.message) for f in findings(download, "note")] == [
        ("header", "images with header extensions (read over, never written)"),
        ("header", "images with qform code 2"),
    ]
    assert findings(download, "error") == []


def test_types_on_disk_are_notes(download: Path) -> None:
    write(file_of(download, "seg"), read_volume(file_of(download, "seg"))[0].astype(np.float32))
    write(file_of(download, "t1"), read_volume(file_of(download, "t1"))[0].astype(np.float32))
    assert sorted(f.message for f in findings(download, "note")) == [
        "images of type float32",
        "label maps of type float32",
    ]


def test_other_orientation_is_a_note(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS20_Training_001", 1)
    for path in (tmp_path / "BraTS20_Training_001").iterdir():
        write(path, read_volume(path)[0], np.eye(4))
    assert [f.message for f in findings(tmp_path, "note")] == ["voxel axes run to RAS; BraTS gives LPS out"]
    assert findings(tmp_path, "error") == []


def test_odd_segmentation_name_is_a_note(download: Path) -> None:
    file_of(download, "seg").rename(download / "BraTS20_Training_001" / "W39_1998.09.19_Segm.nii.gz")
    (note,) = findings(download, "note")
    assert (note.check, note.file) == ("naming", "BraTS20_Training_001/W39_1998.09.19_Segm.nii.gz")


def test_what_was_passed_over_is_a_note(download: Path) -> None:
    (download / "notes").mkdir()
    (download / ".DS_Store").touch()
    assert [(f.file, f.message) for f in findings(download, "note")] == [
        (".DS_Store", "file of no case, passed over"),
        ("notes/", "folder of no case, passed over"),
    ]


@pytest.mark.data
@pytest.mark.parametrize("name", ["BraTS2021_00019", "BraTS2021_00031"])
def test_real_case_has_no_errors_and_its_known_oddities(real_data: Path, name: str) -> None:
    result = audit(real_data / "brats2021" / name)
    assert result.counts["error"] == 0
    notes = {(f.file, f.message) for f in result.findings if f.severity == "note"}
    assert (f"{name}_seg.nii.gz", "label maps of type uint16") in notes
    assert (f"{name}_seg.nii.gz", "label maps with sform code 0") in notes


# ---- 2D sets ----


def findings_of_set(root: Path, check: str) -> list[Finding]:
    audit = audit_download(find_cases(root, strict=False))
    return [finding for finding in audit.findings if finding.check == check]


def test_a_sound_set_of_slices_has_no_findings_but_what_flair_stands_for(tmp_path: Path) -> None:
    write_slices(tmp_path, 5, size=40, num_slices=4)
    audit = audit_download(find_cases(tmp_path))
    assert audit.editions == {"lgg-mri": 5}
    assert [(f.severity, f.check, f.case, f.message) for f in audit.findings] == [
        ("note", "filled", sliced_case_name(5), "t1: a copy of flair, which stands for what is missing"),
        ("note", "filled", sliced_case_name(2), "t1c: a copy of flair, which stands for what is missing"),
    ]


def test_masks_of_another_size_or_with_grey_values_are_errors(tmp_path: Path) -> None:
    write_images(tmp_path, 3, size=40)
    Image.new("L", (20, 40)).save(tmp_path / "masks" / "0002.png")
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (40, 1))).save(tmp_path / "masks" / "0003.png")
    (size,) = findings_of_set(tmp_path, "geometry")
    assert (size.severity, size.case) == ("error", "0002")
    assert "shape 1x40x20 differs from 1x40x40" in size.message
    (grey,) = findings_of_set(tmp_path, "labels")
    assert (grey.severity, grey.case, grey.file) == ("error", "0003", "masks/0003.png")
    assert grey.message.startswith("mask with values 0, 1, 2, 3, 4, 5 ...; expected 0 and 255")


def test_jpeg_masks_are_one_warning_that_counts_what_lies_in_between(tmp_path: Path) -> None:
    write_images(tmp_path, 3, size=40, suffix=".jpg")
    (finding,) = findings_of_set(tmp_path, "lossy masks")
    total = sum(count_in_between(path) for path in (tmp_path / "masks").iterdir())
    assert total > 0
    assert (finding.severity, finding.case) == ("warning", "")
    assert (
        f"3 masks are JPEGs, whose compression blurs edges: {total:,} values are neither 0 nor 255" in finding.message
    )


def test_colours_where_grey_is_due_are_a_note(tmp_path: Path) -> None:
    (image, _) = write_images(tmp_path, 2, size=40)
    with Image.open(image) as picture:
        colours = picture.convert("RGB")
    colours.save(image)
    (finding,) = findings_of_set(tmp_path, "colours")
    assert (finding.severity, finding.case) == ("note", "0001")


def test_a_gap_between_slices_is_a_note_with_its_numbers(tmp_path: Path) -> None:
    (folder,) = write_slices(tmp_path, 1, size=40, num_slices=6)
    for number in (2, 4):
        for what in ("", "_mask"):
            (folder / f"{folder.name}_{number}{what}.tif").unlink()
    (finding,) = findings_of_set(tmp_path, "gap")
    assert finding.severity == "note"
    assert finding.message.startswith("slices 2, 4 not there: fine in 2D")


def test_an_image_without_mask_is_one_error(tmp_path: Path) -> None:
    write_images(tmp_path, 3, size=40)
    (tmp_path / "masks" / "0002.png").unlink()
    audit = audit_download(find_cases(tmp_path, strict=False))
    assert [(f.case, f.check) for f in audit.findings if f.severity == "error"] == [("0002", "missing mask")]
