"""Synthetic 2D sets: the layout is Kaggle's, and no threshold finds the tumour."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brats_seg.data.phantom_slices import (
    SlicedPhantom,
    make_sliced_phantom,
    sliced_case_name,
    write_images,
    write_slices,
)
from brats_seg.errors import UsageError


@pytest.fixture(scope="module")
def patients() -> list[SlicedPhantom]:
    return [make_sliced_phantom(0, index, size=96, num_slices=12) for index in range(1, 13)]


def test_a_patient_follows_from_seed_index_and_size_alone() -> None:
    first, again = (make_sliced_phantom(3, 4, size=48, num_slices=5) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.image.shape == (3, 5, 48, 48)
    assert not np.array_equal(first.image, make_sliced_phantom(4, 4, size=48, num_slices=5).image)


def test_tumour_lies_in_the_head_and_some_slices_have_none(patients: list[SlicedPhantom]) -> None:
    for patient in patients:
        assert (patient.image[:, patient.mask] > 0).all()
        with_tumour = patient.mask.any(axis=(1, 2))
        assert 0 < with_tumour.sum() < len(with_tumour)


def test_flair_stands_for_what_is_missing_in_two_of_eight_patients(patients: list[SlicedPhantom]) -> None:
    assert [patient.copied for patient in patients[:8]] == [None, "t1c", None, None, "t1", None, None, None]
    for patient in patients:
        t1, flair, t1c = patient.image
        assert np.array_equal(t1, flair) == (patient.copied == "t1")
        assert np.array_equal(t1c, flair) == (patient.copied == "t1c")


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_no_single_threshold_of_any_channel_finds_the_tumour(patients: list[SlicedPhantom], channel: int) -> None:
    # The threshold and its direction are chosen on these very patients, which flatters it.
    values, masks = (np.stack([getattr(p, name) for p in patients]) for name in ("image", "mask"))
    values = values[:, channel]
    head = values > 0
    dice = []
    for threshold in range(1, 255, 3):
        for mask in (values >= threshold, head & (values < threshold)):
            sums = [(2 * (m & t).sum(), m.sum() + t.sum()) for m, t in zip(mask, masks, strict=True)]
            dice.append(np.mean([hit / both for hit, both in sums]))
    assert max(dice) < 0.7


def test_folder_is_exactly_kaggles(tmp_path: Path) -> None:
    folders = write_slices(tmp_path, 2, size=40, num_slices=3)
    name = sliced_case_name(1)
    assert [folder.name for folder in folders] == [name, sliced_case_name(2)]
    assert name == "TCGA_DU_4901_19970202"
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(
        f"{name}_{number}{what}.tif" for number in (1, 2, 3) for what in ("", "_mask")
    )
    with Image.open(folders[0] / f"{name}_2.tif") as image, Image.open(folders[0] / f"{name}_2_mask.tif") as mask:
        assert (image.mode, image.size) == ("RGB", (40, 40))
        assert (mask.mode, mask.size) == ("L", (40, 40))
        assert set(np.unique(np.asarray(mask)).tolist()) == {0, 255}
    rows = list(csv.DictReader((tmp_path / "kaggle_3m" / "data.csv").read_text().splitlines()))
    assert [row["Patient"] for row in rows] == ["TCGA_DU_4901", "TCGA_EZ_4902"]
    assert len(rows[0]) == 18


def test_a_second_call_adds_to_the_table(tmp_path: Path) -> None:
    write_slices(tmp_path, 1, size=32, num_slices=1)
    write_slices(tmp_path, 1, size=32, num_slices=1, first=2)
    rows = list(csv.DictReader((tmp_path / "kaggle_3m" / "data.csv").read_text().splitlines()))
    assert [row["Patient"] for row in rows] == ["TCGA_DU_4901", "TCGA_EZ_4902"]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".npy"])
def test_plain_images_lie_beside_masks_of_the_same_name(tmp_path: Path, suffix: str) -> None:
    images = write_images(tmp_path, 2, size=40, suffix=suffix)
    assert [path.name for path in images] == [f"0001{suffix}", f"0002{suffix}"]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [path.name for path in images]


def test_slices_too_small_for_a_head_are_refused() -> None:
    with pytest.raises(UsageError, match="of at least 32 pixels"):
        make_sliced_phantom(0, 1, size=16)
