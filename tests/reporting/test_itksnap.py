from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.cases import Case, ImageFile
from brats_seg.data.nifti import header_for, read_header, write_label_map, write_volume
from brats_seg.editions import EDITIONS, get_edition
from brats_seg.errors import DataError
from brats_seg.reporting.itksnap import View, brightest_shown, label_file, open_case

SHAPE = (3, 4, 5)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
SPACING = (1.0, 1.0, 1.0)
MODALITIES = ("t1", "t1c", "t2", "flair")


def make_case(folder: Path, name: str = "a", edition: str = "brats2020") -> Case:
    """A case of four images of 3 x 4 x 5 voxels with the values 0 to 59."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.arange(60, dtype=np.int16).reshape(SHAPE)
    files = {modality: ImageFile(folder / f"{name}_{modality}.nii.gz") for modality in MODALITIES}
    for file in files.values():
        write_volume(file.path, image, header_for(SHAPE, SPACING, AFFINE, np.int16))
    return Case(name, name, None, edition, folder, files, None)


def write_map(path: Path, *values: int, affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = SHAPE) -> Path:
    """A label map with the values given in its first voxels, in the geometry of an int16 image."""
    label_map = np.zeros(shape, np.uint8)
    label_map.flat[: len(values)] = values
    write_label_map(path, label_map, header_for(shape, SPACING, affine, np.int16))
    return path


def view_of(case: Case, **label_maps: Path) -> View:
    view, findings = open_case(case, label_maps)
    assert findings == []
    assert view is not None
    return view


def parse(text: str) -> dict[str, str]:
    """`Layers/Layer[000]/Role` -> value, for all entries of a workspace."""

    def walk(element: ET.Element, prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for child in element:
            assert child.tag in ("folder", "entry"), "ITK-SNAP fails on any other element"
            key = prefix + child.attrib["key"]
            found |= {key: child.attrib["value"]} if child.tag == "entry" else walk(child, f"{key}/")
        return found

    root = ET.fromstring(text)
    assert root.tag == "registry"
    return walk(root, "")


def test_the_label_file_is_told_by_its_second_line_byte_for_byte():
    lines = label_file(get_edition("brats2020")).encode().split(b"\n")
    assert lines[0] == b"#" * 48
    assert lines[1] == b"# ITK-SnAP Label Description File"
    assert lines[-1] == b""


def test_label_file_of_2020_has_the_rows_of_itk_snap():
    rows = [line for line in label_file(get_edition("brats2020")).splitlines() if not line.startswith("#")]
    assert rows == [
        '    0     0    0    0        0  0  0    "Clear Label"',
        '    1   255    0    0        1  1  1    "NCR/NET (necrotic and non-enhancing core)"',
        '    2     0  255    0        1  1  1    "ED (peritumoral edema)"',
        '    4   255  255    0        1  1  1    "ET (enhancing tumor)"',
    ]


@pytest.mark.parametrize("name", EDITIONS)
def test_every_edition_has_a_label_file_with_all_its_labels(name):
    edition = get_edition(name)
    rows = [line.split(None, 7) for line in label_file(edition).splitlines() if not line.startswith("#")]
    assert {int(row[0]): tuple(map(int, row[1:4])) for row in rows[1:]} == {
        label.value: label.color for label in edition.labels
    }
    assert all(row[7].startswith('"') and row[7].endswith('"') and '"' not in row[7][1:-1] for row in rows)


def test_brightest_shown_ignores_background_and_the_few_brightest_voxels():
    volume = np.zeros(10_000, np.int16)
    volume[:1000] = 100
    volume[:4] = 400  # 4 of the 1000 brain voxels: fewer than half a percent
    assert brightest_shown(volume.reshape(10, 20, 50)) == pytest.approx(0.25)  # 100 of 400


def test_brightest_shown_counts_from_the_smallest_value():
    volume = np.full(1000, 50, np.float32)
    volume[0], volume[1] = -50, 150
    assert brightest_shown(volume) == pytest.approx(0.5)  # 50 lies halfway from -50 to 150


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_is_shown_over_its_whole_range(value):
    assert brightest_shown(np.full(SHAPE, value, np.int16)) == 1


def test_workspace_has_t1c_as_main_image_overlays_and_two_label_maps(tmp_path):
    case = make_case(tmp_path / "in")
    prediction, reference = write_map(tmp_path / "p.nii.gz", 4), write_map(tmp_path / "r.nii.gz", 1)
    entries = parse(view_of(case, prediction=prediction, reference=reference).workspace(tmp_path))
    layers = [
        tuple(
            entries[f"Layers/Layer[{n:03d}]/{key}"] for key in ("Role", "LayerMetaData/CustomNickName", "AbsolutePath")
        )
        for n in range(6)
    ]
    assert layers == [
        ("MainRole", "T1c", str(tmp_path / "in" / "a_t1c.nii.gz")),
        ("OverlayRole", "T1", str(tmp_path / "in" / "a_t1.nii.gz")),
        ("OverlayRole", "T2", str(tmp_path / "in" / "a_t2.nii.gz")),
        ("OverlayRole", "FLAIR", str(tmp_path / "in" / "a_flair.nii.gz")),
        ("SegmentationRole", "prediction", str(prediction)),
        ("SegmentationRole", "reference", str(reference)),
    ]
    assert entries["SaveLocation"] == str(tmp_path)
    assert "Layers/Layer[006]/Role" not in entries


def test_workspace_has_the_edition_s_label_table_in_the_main_layer(tmp_path):
    case = make_case(tmp_path, edition="brats2023-gli")
    entries = parse(view_of(case, prediction=write_map(tmp_path / "p.nii.gz", 3)).workspace(tmp_path))
    table = "Layers/Layer[000]/ProjectMetaData/IRIS/LabelTable"
    assert entries[f"{table}/NumberOfElements"] == "3"
    keys = ("Index", "Label", "Color", "Alpha", "Flags")
    assert [entries[f"{table}/Element[2]/{key}"] for key in keys] == [
        "3",
        "ET (enhancing tumor)",
        "255 255 0",
        "255",
        "1 1",
    ]


def test_contrast_curve_ends_where_white_begins(tmp_path):
    case = make_case(tmp_path)
    entries = parse(view_of(case, prediction=write_map(tmp_path / "p.nii.gz")).workspace(tmp_path))
    # values 1 to 59: the 99.5th percentile is 1 + .995 x 58 = 58.71, of 59
    for layer in range(4):
        curve = f"Layers/Layer[{layer:03d}]/LayerMetaData/DisplayMapping/Curve"
        ends = [
            tuple(float(entries[f"{curve}/ControlPoint[{n}]/{key}"]) for key in ("tValue", "xValue")) for n in range(3)
        ]
        assert ends == [
            (0, 0),
            (pytest.approx(58.71 / 59 / 2, abs=1e-6), 0.5),
            (pytest.approx(58.71 / 59, abs=1e-6), 1),
        ]
    assert not any(key.startswith("Layers/Layer[004]/LayerMetaData/DisplayMapping") for key in entries)


@pytest.mark.parametrize("name", ["with space", 'O\'Brien "x" & <co>', "Müller_ä_脳", "tab\tand\nline"])
def test_names_with_odd_characters_come_back_from_the_workspace(tmp_path, name):
    case = make_case(tmp_path / name, name)
    prediction = write_map(tmp_path / name / f"{name}.nii.gz", 2)
    view = view_of(case, prediction=prediction)
    entries = parse(view.workspace(tmp_path / name))
    assert entries["Layers/Layer[004]/AbsolutePath"] == str(prediction)
    assert entries["SaveLocation"] == str(tmp_path / name)


def test_a_path_that_xml_cannot_hold_is_refused(tmp_path):
    view = view_of(make_case(tmp_path / "bell\a"), prediction=write_map(tmp_path / "p.nii.gz"))
    with pytest.raises(DataError, match=r"bell.*characters that a workspace file cannot hold; rename it"):
        view.workspace(tmp_path)


def test_links_are_followed_to_the_real_files(tmp_path):
    make_case(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files = {modality: ImageFile(tmp_path / "link" / f"a_{modality}.nii.gz") for modality in MODALITIES}
    case = Case("a", "a", None, "brats2020", tmp_path / "link", files, None)
    write_map(tmp_path / "real" / "p.nii.gz")
    entries = parse(view_of(case, prediction=tmp_path / "link" / "p.nii.gz").workspace(tmp_path / "link"))
    assert entries["Layers/Layer[000]/AbsolutePath"] == str(tmp_path / "real" / "a_t1c.nii.gz")
    assert entries["Layers/Layer[004]/AbsolutePath"] == str(tmp_path / "real" / "p.nii.gz")
    assert entries["SaveLocation"] == str(tmp_path / "real")


def test_shell_line_quotes_what_a_shell_would_split(tmp_path):
    view = view_of(make_case(tmp_path / "my cases"), prediction=write_map(tmp_path / "p.nii.gz"))
    line = view.shell_line(tmp_path / "brats2020.label")
    assert line.startswith(f"itksnap -g '{tmp_path}/my cases/a_t1c.nii.gz' -o '{tmp_path}/my cases/a_t1.nii.gz'")
    assert line.endswith(f"-s {tmp_path}/p.nii.gz -l {tmp_path}/brats2020.label")


def test_a_four_dimensional_file_is_one_main_image(tmp_path):
    header = header_for(SHAPE, SPACING, AFFINE, np.int16)
    write_volume(tmp_path / "BRATS_001.nii.gz", np.arange(240, dtype=np.int16).reshape(4, *SHAPE), header)
    channels = {"t1": 1, "t1c": 2, "t2": 3, "flair": 0}
    files = {modality: ImageFile(tmp_path / "BRATS_001.nii.gz", channel) for modality, channel in channels.items()}
    case = Case("BRATS_001", "BRATS_001", None, "msd-task01", tmp_path, files, None)
    entries = parse(view_of(case, prediction=write_map(tmp_path / "p.nii.gz", 3)).workspace(tmp_path))
    assert entries["Layers/Layer[000]/LayerMetaData/CustomNickName"] == "T1c + T1 + T2 + FLAIR"
    assert entries["Layers/Layer[001]/Role"] == "SegmentationRole"


def test_all_that_is_wrong_with_a_case_is_told_at_once(tmp_path):
    case = make_case(tmp_path)
    write_volume(case.images["flair"].path, np.zeros((3, 4, 6), np.int16), header_for((3, 4, 6), SPACING, AFFINE, "i2"))
    case.images["t2"].path.write_bytes(b"<!DOCTYPE html>")
    moved = AFFINE.copy()
    moved[0, 3] = 1
    label_maps = {
        "prediction": write_map(tmp_path / "p.nii.gz", 3),
        "reference": write_map(tmp_path / "r.nii.gz", affine=moved),
    }
    view, findings = open_case(case, label_maps)
    assert view is None
    assert all(finding.startswith("case a: ") for finding in findings)
    text = "\n".join(findings)
    for expected in (
        "a_t2.nii.gz: not a NIfTI file",
        "a_flair.nii.gz: shape 3x4x6 differs from 3x4x5",
        "prediction " + str(tmp_path / "p.nii.gz") + ": labels [0, 3], but edition brats2020 has [0, 1, 2, 4]",
        "reference " + str(tmp_path / "r.nii.gz") + ": affine differs (corners up to 1 mm apart)",
    ):
        assert expected in text
    assert len(findings) == 4


def test_a_written_label_map_lies_exactly_on_its_image_as_itk_reads_it(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image = tmp_path / "image.nii.gz"
    affine = np.array([[-0.9, 0, 0, 12.3], [0, -1.1, 0, 239.7], [0, 0, 1.3, -5.1], [0, 0, 0, 1]])
    volume = np.arange(60, dtype=np.int16).reshape(SHAPE)
    write_volume(image, volume, header_for(SHAPE, (1.3, 1.1, 0.9), affine, np.int16))
    label_map = (volume % 5 == 0).astype(np.uint8) * 4
    write_label_map(tmp_path / "p.nii.gz", label_map, read_header(image).raw)
    seen, own = sitk.ReadImage(str(image)), sitk.ReadImage(str(tmp_path / "p.nii.gz"))
    assert own.GetSpacing() == seen.GetSpacing()  # compared exactly by ITK-SNAP, so no tolerance here
    assert own.GetOrigin() == seen.GetOrigin()
    assert own.GetDirection() == seen.GetDirection()
    assert own.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(own), label_map)
