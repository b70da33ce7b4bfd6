"""Predictions as pictures, named as masks are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brats_seg.data.cases import find_cases
from brats_seg.data.phantom import write_download
from brats_seg.data.phantom_slices import write_images, write_slices
from brats_seg.data.reading import read_label_map
from brats_seg.errors import UsageError
from brats_seg.inference.mask_pictures import require_pictures, write_masks


def test_masks_of_a_patients_slices_have_their_numbers_and_are_read_as_masks(tmp_path: Path) -> None:
    (folder,) = write_slices(tmp_path / "set", 1, size=40, num_slices=4)
    for what in ("", "_mask"):
        (folder / f"{folder.name}_2{what}.tif").unlink()
    (case,) = find_cases(tmp_path / "set").cases
    label_map, _ = read_label_map(case.label)
    paths = write_masks(tmp_path / "out", case, label_map)
    assert [path.name for path in paths] == [f"{case.name}_{number}_mask.png" for number in (1, 3, 4)]
    again, _ = read_label_map(tmp_path / "out" / "masks" / case.name / f"{case.name}_*_mask.png")
    np.testing.assert_array_equal(again, label_map)
    with Image.open(paths[1]) as picture:
        assert picture.mode == "L"
        assert set(np.unique(np.asarray(picture)).tolist()) == {0, 255}


def test_mask_of_an_image_has_its_name(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 2, size=40)
    case = find_cases(tmp_path / "set").cases[1]
    (path,) = write_masks(tmp_path / "out", case, np.ones((1, 40, 40), np.uint8))
    assert path == tmp_path / "out" / "masks" / "0002.png"


def test_volumes_have_no_pictures_of_masks(tmp_path: Path) -> None:
    write_download(tmp_path, 1, shape=(16, 24, 24))
    with pytest.raises(UsageError, match=r"--save-masks: case BraTS20_Training_001 is a volume"):
        require_pictures(list(find_cases(tmp_path).cases))
