"""Picture files: their own numbers, grey of colours, masks of 0 and 1, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from brats_seg.data.pictures import count_in_between, has_color, picture_size, read_mask, read_picture
from brats_seg.errors import DataError


def save(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG", ".npy"])
def test_grey_picture_keeps_its_numbers_row_by_row(tmp_path: Path, suffix: str) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    path = save(tmp_path / f"a{suffix}", values)
    np.testing.assert_array_equal(read_picture(path, num_channels=1), values[None])
    assert picture_size(path) == (2, 3)
    assert not has_color(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 1, 300], [65535, 40000, 2]], np.uint16)
    np.testing.assert_array_equal(read_picture(save(tmp_path / f"a{suffix}", values), num_channels=1), values[None])


def test_sixteen_bits_of_each_of_three_channels_are_kept(tmp_path: Path) -> None:
    values = np.array([[[0, 1, 300], [65535, 40000, 2]]], np.uint16)
    path = tmp_path / "a.tif"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(path))
    np.testing.assert_array_equal(read_picture(path, num_channels=3), np.moveaxis(values, 2, 0))
    assert has_color(path)


def test_a_tiff_of_floats_keeps_them(tmp_path: Path) -> None:
    values = np.array([[0.25, -3.5]], np.float32)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.tif", values), num_channels=1), values[None])


def test_colours_become_grey_by_itu_r_601_and_equal_channels_stay_exactly_what_they_are(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
    grey = read_picture(save(tmp_path / "a.png", colours), num_channels=1)
    assert grey.tolist() == [[[76, 150, 29, 77]]]  # .299, .587, .114 of 255


@settings(deadline=None, max_examples=25)
@given(values=hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_grey_of_colours_is_within_one_of_pillows(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = save(tmp_path_factory.mktemp("grey") / "a.png", values)
    theirs = np.asarray(Image.fromarray(values).convert("L")).astype(int)
    assert np.abs(read_picture(path, num_channels=1)[0] - theirs).max() <= 1


def test_alpha_is_dropped_and_a_palette_looked_up(tmp_path: Path) -> None:
    values = np.array([[[10, 20, 30, 0]]], np.uint8)
    assert read_picture(save(tmp_path / "a.png", values), num_channels=3).ravel().tolist() == [10, 20, 30]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png", num_channels=1).tolist() == [[[0, 9]]]


@pytest.mark.parametrize("high", [1, 255])
def test_mask_of_0_and_1_or_255_becomes_0_and_1(tmp_path: Path, high: int) -> None:
    mask = np.array([[0, high], [high, 0]], np.uint8)
    assert read_mask(save(tmp_path / "m.png", mask)).tolist() == [[0, 1], [1, 0]]


def test_mask_as_bits_or_booleans_or_in_three_channels_is_the_same_mask(tmp_path: Path) -> None:
    mask = np.array([[False, True]])
    Image.fromarray(mask).save(tmp_path / "bits.png")
    np.save(tmp_path / "bool.npy", mask)
    save(tmp_path / "rgb.png", np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)
    save(tmp_path / "deep.tif", mask.astype(np.uint16) * 65535)
    for name in ("bits.png", "bool.npy", "rgb.png", "deep.tif"):
        assert read_mask(tmp_path / name).tolist() == [[0, 1]], name


def test_empty_mask_is_a_mask(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.png", np.zeros((2, 2), np.uint8))).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("values", [[0, 128], [0, 1, 255], [0, 7, 200]])
def test_mask_with_grey_values_is_refused_with_what_was_found(tmp_path: Path, values: list[int]) -> None:
    path = save(tmp_path / "m.png", np.array([values], np.uint8))
    with pytest.raises(DataError, match=rf"m.png: mask with values {values[0]}, {values[1]}.*expected 0 and 255"):
        read_mask(path)


def test_jpeg_mask_is_cut_at_128_and_its_values_in_between_are_counted(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[9:21, 10:23] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=60)
    with Image.open(tmp_path / "m.jpg") as picture:
        found = np.asarray(picture)
    assert 0 < count_in_between(tmp_path / "m.jpg") == int(((found > 0) & (found < 255)).sum())
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg"), mask // 255)


def test_jpeg_mask_of_0_and_1_is_refused_since_nothing_is_left_of_it(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 3
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=100)
    with pytest.raises(DataError, match="JPEG mask with values of 0 to"):
        read_mask(tmp_path / "m.jpg")


def test_what_is_no_picture_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<html>")
    (tmp_path / "b.npy").write_bytes(b"")
    pages = Image.new("L", (2, 2))
    pages.save(tmp_path / "c.tif", save_all=True, append_images=[pages])
    np.save(tmp_path / "d.npy", np.zeros((2, 2, 2, 2)))
    np.save(tmp_path / "e.npy", np.array([["a"]]))
    for name, reason in (
        ("a.png", "cannot be read as a picture"),
        ("b.npy", "cannot be read as an array"),
        ("c.tif", "2 pages in one file"),
        ("d.npy", "an array of 2 x 2 x 2 x 2"),
        ("e.npy", "values of type"),
        ("f.png", "No such file"),
    ):
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            read_picture(tmp_path / name, num_channels=1)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as an array"):
        read_picture(tmp_path / "a.npy", num_channels=1)


def test_a_truncated_picture_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_picture(path, num_channels=1)


def test_grey_picture_where_three_channels_are_due_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match="a grey picture, expected 3 channels"):
        read_picture(path, num_channels=3)
