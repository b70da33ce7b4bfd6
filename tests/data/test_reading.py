"""A case's files as volumes, whatever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brats_seg.data import nifti
from brats_seg.data.phantom_slices import make_sliced_phantom, write_slices
from brats_seg.data.reading import (
    count_lossy,
    files_of,
    is_picture,
    picture_header,
    read_header,
    read_label_map,
    read_stack,
    read_volume,
    slice_numbers,
)
from brats_seg.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices"), 1, size=40, num_slices=12)[0]


def test_slices_are_stacked_by_number_not_by_name(folder: Path) -> None:
    phantom = make_sliced_phantom(0, 1, size=40, num_slices=12)
    path = folder / f"{folder.name}_*.tif"
    assert slice_numbers(path) == tuple(range(1, 13))
    assert [file.name for file in files_of(path)][9:] == [f"{folder.name}_{n}.tif" for n in (10, 11, 12)]
    for channel in range(3):
        volume, header = read_volume(path, channel=channel)
        np.testing.assert_array_equal(volume, phantom.image[channel])
        assert header.grid == (12, 40, 40)
    label_map, _ = read_label_map(folder / f"{folder.name}_*_mask.tif")
    np.testing.assert_array_equal(label_map, phantom.mask)
    assert label_map.dtype == np.uint8


def test_channels_of_slices_are_read_in_the_order_asked_for(folder: Path) -> None:
    path = folder / f"{folder.name}_*.tif"
    stack, headers = read_stack([(path, 0), (path, 2), (path, 1)])
    phantom = make_sliced_phantom(0, 1, size=40, num_slices=12)
    np.testing.assert_array_equal(stack, phantom.image[[0, 2, 1]])
    assert len(headers) == 3
    assert read_header(path).grid == headers[0].grid


def test_a_picture_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    volume, header = read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume, values[None])
    assert header.spacing_mm == (1, 1, 1)
    assert read_header(tmp_path / "a.png").grid == (1, 2, 3)
    assert slice_numbers(tmp_path / "a.png") is None


def test_a_label_map_written_with_the_header_of_pictures_lies_on_them(tmp_path: Path) -> None:
    header = picture_header((2, 3, 4), np.uint8)
    nifti.write_label_map(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8), header.raw)
    values, own = read_label_map(tmp_path / "a.nii.gz")
    assert nifti.same_geometry(header, own) is None
    assert values.sum() == 24
    # upright in viewers: columns run to the left of the patient, rows to the back, as in BraTS
    np.testing.assert_array_equal(np.diag(own.affine), [-1, -1, 1, 1])


def test_nifti_files_are_read_as_before(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nifti.write_volume(tmp_path / "a.nii.gz", values, picture_header((2, 3, 4), np.int16).raw)
    assert not is_picture(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz")[0], values)
    np.testing.assert_array_equal(read_stack([(tmp_path / "a.nii.gz", None)])[0][0], values)
    assert files_of(tmp_path / "a.nii.gz") == [tmp_path / "a.nii.gz"]
    assert count_lossy(tmp_path / "a.nii.gz") == (0, 0)


def test_slices_that_differ_in_size_are_refused_with_both(tmp_path: Path) -> None:
    for number, size in ((1, 4), (2, 5)):
        Image.new("L", (size, size)).save(tmp_path / f"a_{number}_mask.png")
    with pytest.raises(DataError, match=r"a_2_mask.png: 5x5 pixels .* a_1_mask.png has 4x4"):
        read_label_map(tmp_path / "a_*_mask.png")


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("a_1.png", "a_01.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"a_01.png and a_1.png are both slice 1"):
        slice_numbers(tmp_path / "a_*.png")


def test_slices_that_are_gone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such slices"):
        read_volume(tmp_path / "a_*.png")
    with pytest.raises(DataError, match="cannot be listed"):
        read_volume(tmp_path / "gone" / "a_*.png")
