"""Files beside a workspace: copies to carry elsewhere, and label maps on exactly the image's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data.cases import Case, ImageFile
from brats_seg.data.nifti import header_for, read_label_map, write_label_map, write_volume
from brats_seg.errors import DataError
from brats_seg.reporting.itksnap import View, open_case
from brats_seg.reporting.workspace_files import gather_files, grid_as_itk_reads_it

sitk = pytest.importorskip("SimpleITK")

SHAPE = (3, 4, 5)
AFFINE = np.array([[-0.9, 0, 0, 12.3], [0, -1.1, 0, 239.7], [0, 0, 1.3, -5.1], [0, 0, 0, 1]])
SPACING = (1.3, 1.1, 0.9)
LABELS = (np.arange(60, dtype=np.uint8).reshape(SHAPE) % 5 == 0) * np.uint8(4)


def written(path: Path, volume: NDArray, affine: NDArray[np.float64] = AFFINE) -> Path:
    write_volume(path, volume, header_for(SHAPE, SPACING, affine, volume.dtype))
    return path


def view_of(folder: Path, prediction_affine: NDArray[np.float64] = AFFINE, suffix: str = ".nii.gz") -> View:
    folder.mkdir(exist_ok=True)
    image = np.arange(60, dtype=np.int16).reshape(SHAPE)
    images = {one: ImageFile(written(folder / f"a_{one}.nii.gz", image)) for one in ("t1", "t1c", "t2", "flair")}
    case = Case("a", "a", None, "brats2020", folder, images, None)
    maps = {
        "prediction": written(folder / f"p{suffix}", LABELS, prediction_affine),
        "reference": written(folder / "r.nii.gz", LABELS),
    }
    view, findings = open_case(case, maps)
    assert view is not None, findings
    return view


def moved(millimetres: float) -> NDArray[np.float64]:
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def test_files_on_one_grid_stay_where_they_are(tmp_path) -> None:
    view = view_of(tmp_path)
    assert gather_files(view, tmp_path / "out", is_copied=False) == (view, ())


def test_a_label_map_off_by_rounding_is_written_anew_on_the_grid_that_itk_reads(tmp_path) -> None:
    view, (file,) = gather_files(view_of(tmp_path, moved(1e-4)), tmp_path / "out", is_copied=False)
    assert file.source == tmp_path / "p.nii.gz"
    assert not file.is_there()
    file.write()
    assert file.is_there()
    assert view.label_maps[0].path == file.target == tmp_path / "out" / "prediction.nii.gz"
    assert view.label_maps[1].path == tmp_path / "r.nii.gz"
    image, own = sitk.ReadImage(str(view.main.path)), sitk.ReadImage(str(file.target))
    assert own.GetSpacing() == image.GetSpacing()  # compared exactly by ITK-SNAP, so no tolerance here
    assert own.GetOrigin() == image.GetOrigin()
    assert own.GetDirection() == image.GetDirection()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(own), LABELS)
    off = sitk.ReadImage(str(file.source))
    assert off.GetOrigin() != image.GetOrigin(), "or nothing was tested"


def test_a_file_with_other_labels_or_another_grid_is_not_there_yet(tmp_path) -> None:
    _, (file,) = gather_files(view_of(tmp_path, moved(1e-4)), tmp_path / "out", is_copied=False)
    file.write()
    label_map, header = read_label_map(file.target)
    label_map[0, 0, 0] = 1
    write_label_map(file.target, label_map, header.raw)
    assert not file.is_there()
    written(file.target, LABELS, moved(1e-4))
    assert not file.is_there()
    file.target.write_bytes(b"mine")
    assert not file.is_there()


def test_copies_hold_the_same_bytes_and_the_workspace_names_them(tmp_path) -> None:
    before = view_of(tmp_path / "data", suffix=".nii")
    view, files = gather_files(before, tmp_path / "out" / "a", is_copied=True)
    for file in files:
        file.write()
        assert file.target.read_bytes() == file.source.read_bytes()
        assert file.is_there()
    names = ["a_t1c.nii.gz", "a_t1.nii.gz", "a_t2.nii.gz", "a_flair.nii.gz", "prediction.nii", "reference.nii.gz"]
    assert [file.target.name for file in files] == names
    text = view.workspace(tmp_path / "out")
    assert f'value="{tmp_path}/out/a/a_t1c.nii.gz"' in text
    assert f'value="{tmp_path}/data' not in text
    assert view.main.white == before.main.white


def test_images_of_one_name_do_not_replace_each_other(tmp_path) -> None:
    view = view_of(tmp_path / "data")
    layers = []
    for layer in (view.main, *view.overlays):
        folder = tmp_path / layer.nickname
        folder.mkdir()
        (folder / "image.nii.gz").write_bytes(layer.path.read_bytes())
        layers.append(type(layer)(folder / "image.nii.gz", layer.nickname, layer.white))
    same = type(view)(view.edition, layers[0], tuple(layers[1:]), ())
    _, files = gather_files(same, tmp_path / "out", is_copied=True)
    assert [file.target.name for file in files] == [f"{one}_image.nii.gz" for one in ("T1c", "T1", "T2", "FLAIR")]


def test_a_four_dimensional_image_has_the_grid_of_its_three_axes(tmp_path) -> None:
    stack = np.zeros((2, *SHAPE), np.int16)
    write_volume(tmp_path / "stack.nii.gz", stack, header_for(SHAPE, SPACING, AFFINE, np.int16))
    assert grid_as_itk_reads_it(tmp_path / "stack.nii.gz") == grid_as_itk_reads_it(
        written(tmp_path / "a.nii", stack[0])
    )


def test_what_itk_cannot_read_is_told(tmp_path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a.nii.gz: ITK, which ITK-SNAP reads with, cannot open it \(") as caught:
        grid_as_itk_reads_it(tmp_path / "a.nii.gz")
    assert "\n" not in str(caught.value)
