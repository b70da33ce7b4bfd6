from __future__ import annotations

import builtins
import gzip
import importlib
import stat
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data import nifti
from brats_seg.data.header import header_for, header_from_bytes
from brats_seg.data.nifti import (
    read_header,
    read_label_map,
    read_stack,
    read_stored,
    read_volume,
    same_geometry,
    write_label_map,
    write_volume,
)
from brats_seg.errors import DataError, OutputError

BRATS_AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def _volume(dtype: str = "i2", shape: tuple[int, ...] = (3, 4, 5)) -> NDArray[Any]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def _save(path: Path, volume: NDArray[Any], affine: NDArray[Any] = BRATS_AFFINE, **fields: Any) -> Path:
    """Write (K, J, I) with nibabel, an independent writer, and set header fields."""
    image = nib.Nifti1Image(volume.T, affine)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def _patched(path: Path, position: int, content: bytes) -> Path:
    """Overwrite bytes of an uncompressed file."""
    data = bytearray(path.read_bytes())
    data[position : position + len(content)] = content
    path.write_bytes(bytes(data))
    return path


# ---- reading ----


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
def test_volume_equals_nibabels_in_file_order_and_own_type(tmp_path: Path, dtype: str, suffix: str) -> None:
    image = nib.Nifti1Image(_volume(dtype).T, BRATS_AFFINE, dtype=np.dtype(dtype))
    nib.save(image, tmp_path / f"a{suffix}")
    volume, header = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume, _volume(dtype))
    assert volume.dtype == np.dtype(dtype)
    assert volume.flags.c_contiguous
    assert header.shape == (3, 4, 5)
    np.testing.assert_array_equal(header.affine, BRATS_AFFINE)


def test_big_endian_file_comes_out_in_native_order(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_volume().T, BRATS_AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    volume, header = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume, _volume())
    assert volume.dtype.isnative
    assert header.dtype == np.dtype(">f4")  # a fresh header's own type


def test_header_extensions_are_passed_over(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_volume().T, BRATS_AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"user@host" * 200))
    nib.save(image, tmp_path / "a.nii.gz")
    volume, header = read_volume(tmp_path / "a.nii.gz")
    assert header.vox_offset > 352 + 1800
    np.testing.assert_array_equal(volume, _volume())


def test_scaled_file_gives_float32_values(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii", _volume("u1"), _header((3, 4, 5)), slope=0.5, intercept=1.0)
    volume, header = read_volume(tmp_path / "a.nii")
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(volume, _volume("f4") * 0.5 + 1)
    assert (header.slope, header.intercept) == (0.5, 1.0)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii").get_fdata().T, volume)


def test_stored_numbers_are_neither_scaled_nor_swapped(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_volume().T, BRATS_AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    _patched(tmp_path / "a.nii", 112, np.array([0.5, 3.0], ">f4").tobytes())  # scl_slope, scl_inter
    stored, header = read_stored(tmp_path / "a.nii")
    np.testing.assert_array_equal(stored, _volume())
    assert stored.dtype == np.dtype(">f4")
    assert (header.slope, header.intercept) == (0.5, 3.0)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii")[0], _volume() * 0.5 + 3)


def test_affine_comes_from_the_qform_where_the_sform_code_is_zero(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_volume().T, BRATS_AFFINE)
    image.set_qform(BRATS_AFFINE, code=1)
    image.set_sform(np.diag([9.0, 9, 9, 1]), code=0)
    nib.save(image, tmp_path / "a.nii")
    header = read_header(tmp_path / "a.nii")
    assert (header.qform_code, header.sform_code) == (1, 0)
    np.testing.assert_array_equal(header.affine, nib.load(tmp_path / "a.nii").affine)
    np.testing.assert_allclose(header.affine, BRATS_AFFINE)


def test_affine_without_any_code_is_nibabels(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume(), qform_code=0, sform_code=0)
    np.testing.assert_array_equal(read_header(path).affine, nib.load(path).affine)


def test_spacing_is_in_the_order_of_the_arrays_axes(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume(), np.diag([0.5, 2.0, 3.0, 1.0]))  # I, J, K
    assert read_header(path).spacing_mm == (3.0, 2.0, 0.5)


def test_channel_of_a_four_dimensional_file(tmp_path: Path) -> None:
    volumes = _volume(shape=(4, 2, 3, 5))
    path = _save(tmp_path / "a.nii.gz", volumes)
    whole, header = read_volume(path)
    assert header.shape == (4, 2, 3, 5)
    assert header.grid == (2, 3, 5)
    np.testing.assert_array_equal(whole, volumes)
    np.testing.assert_array_equal(read_volume(path, channel=2)[0], volumes[2])
    with pytest.raises(DataError, match="no channel 4: it has 4"):
        read_volume(path, channel=4)


def test_trailing_dimension_of_one_is_dropped(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume(shape=(1, 3, 4, 5)))
    assert read_header(path).shape == (3, 4, 5)


def test_stack_joins_files_and_promotes_types(tmp_path: Path) -> None:
    first, second = _save(tmp_path / "a.nii.gz", _volume()), _save(tmp_path / "b.nii", _volume("f4") + 0.5)
    stack, headers = read_stack([(first, None), (second, None)])
    np.testing.assert_array_equal(stack, np.stack([_volume("f4"), _volume("f4") + 0.5]))
    assert stack.dtype == np.float32
    assert len(headers) == 2


def test_stack_takes_channels_of_one_file_in_the_order_asked_for(tmp_path: Path) -> None:
    volumes = _volume(shape=(4, 2, 3, 5))
    path = _save(tmp_path / "a.nii.gz", volumes)
    stack, _ = read_stack([(path, 1), (path, 2), (path, 3), (path, 0)])
    np.testing.assert_array_equal(stack, volumes[[1, 2, 3, 0]])


def test_stack_refuses_another_grid(tmp_path: Path) -> None:
    first, second = _save(tmp_path / "a.nii", _volume()), _save(tmp_path / "b.nii", _volume(shape=(3, 4, 6)))
    with pytest.raises(DataError, match=r"b\.nii: shape 3x4x6 differs from 3x4x5, against a\.nii"):
        read_stack([(first, None), (second, None)])


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume()).rename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(path)[0], _volume())


# ---- files that lie ----


def test_truncated_gz_is_told(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 30, 40), np.int16))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.nii\.gz: truncated"):
        read_volume(path)


def test_gz_that_lacks_only_its_check_sum_is_told(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", _volume())
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match=r"a\.nii\.gz: truncated"):
        read_volume(path)


def test_changed_byte_in_a_gz_is_told(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii.gz", _volume())
    _patched(path, path.stat().st_size - 7, bytes([path.read_bytes()[-7] ^ 255]))  # of the check sum
    with pytest.raises(DataError, match="damaged: it cannot be decompressed"):
        read_volume(path)


def test_truncated_nii_is_told_from_its_header_alone(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"header claims 3x4x5 voxels \(472 bytes\), but its 471 bytes"):
        read_header(path)


def test_file_that_ends_in_its_header_is_told(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", _volume())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="truncated"):
        read_header(path)


def test_web_page_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("<!DOCTYPE html><html><body>Please log in</body></html>" * 20)
    with pytest.raises(DataError, match=r"not a NIfTI file: it begins with '<!DOCTYPE html>.*a web page was saved"):
        read_volume(path)


def test_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(DataError, match=r"a\.nii\.gz: empty \(0 bytes\)"):
        read_header(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_absurd_size_is_refused_before_memory_is_asked_for(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(_header((3, 4, 5)))
    raw[42:48] = np.array([30000] * 3, "<i2").tobytes()
    content = bytes(raw) + bytes(4) + bytes(1000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    monkeypatch.setattr(nifti.np, "empty", lambda *_: pytest.fail("asked for memory"))
    with pytest.raises(DataError, match="header claims 30000x30000x30000 voxels"):
        read_volume(path)


def test_size_that_no_study_has_is_refused_even_if_the_file_could_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "a.nii.gz", _volume())
    monkeypatch.setattr(nifti, "_LARGEST_VOLUME_BYTES", 400)  # the file claims 472
    with pytest.raises(DataError, match="can hold at most 400"):
        read_header(path)


@pytest.mark.parametrize(
    ("position", "content", "message"),
    [
        (70, np.int16(32).tobytes(), "data type code 32"),  # complex64
        (40, np.int16(2).tobytes(), r"dimensions \[5, 4\]"),
        (42, np.int16(-3).tobytes(), r"dimensions \[-3, 4, 3\]"),
        (108, np.float32(17).tobytes(), "voxels begin at byte 17"),
        (0, np.int32(540).tobytes(), "NIfTI-2"),
        (344, b"ni1\0", "a header without voxels"),
        (112, np.float32([1, np.nan]).tobytes(), "scaling cannot be used"),
    ],
    ids=["complex", "two dimensions", "negative size", "offset", "NIfTI-2", "pair", "intercept"],
)
def test_header_that_cannot_be_used_is_told(tmp_path: Path, position: int, content: bytes, message: str) -> None:
    path = _patched(_save(tmp_path / "a.nii", _volume()), position, content)
    with pytest.raises(DataError, match=message):
        read_header(path)


def test_sheared_sform_is_refused(tmp_path: Path) -> None:
    sheared = BRATS_AFFINE.copy()
    sheared[0, 1] = 0.5  # J leans towards I by atan(0.5): axes meet at 63.4 degrees
    with pytest.raises(DataError, match=r"sform is sheared: axes meet at 63\.4 degrees"):
        read_header(_save(tmp_path / "a.nii", _volume(), sheared, qform_code=0))


def test_rotated_sform_is_read(tmp_path: Path) -> None:
    angle = np.radians(20)
    rotated = np.eye(4)
    rotated[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    header = read_header(_save(tmp_path / "a.nii", _volume(), rotated @ np.diag([1, 1, 3, 1])))
    np.testing.assert_allclose(header.spacing_mm, (3, 1, 1), atol=1e-6)


def test_axis_without_length_is_refused(tmp_path: Path) -> None:
    path = _patched(_save(tmp_path / "a.nii", _volume()), 280, bytes(12))  # srow_x: no axis leads along x
    with pytest.raises(DataError, match="has an axis without length"):
        read_header(path)


def test_missing_file_and_missing_permission_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"a\.nii: cannot be read \(No such file"):
        read_header(tmp_path / "a.nii")
    path = _save(tmp_path / "b.nii", _volume())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so the refusal is played
    with pytest.raises(DataError, match=r"b\.nii: cannot be read \(Permission denied\)"):
        read_volume(path)


# ---- label maps ----


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4", "f8"])
def test_label_map_of_any_type_comes_out_as_uint8(tmp_path: Path, dtype: str) -> None:
    labels = np.array([0, 1, 2, 4], dtype).reshape(1, 2, 2)
    label_map, _ = read_label_map(_save(tmp_path / "a.nii.gz", labels))
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, labels)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1.5, "f4", r"value 1\.5, but a label map has whole numbers"),
        (np.nan, "f4", "NaN, but a label map"),
        (-1, "i2", "values from -1 to 0, but a label map"),
        (256, "i2", "values from 0 to 256, but a label map"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path: Path, value: float, dtype: str, message: str) -> None:
    labels = np.zeros((2, 2, 2), dtype)
    labels[1, 0, 1] = value
    with pytest.raises(DataError, match=message):
        read_label_map(_save(tmp_path / "a.nii.gz", labels))


def test_label_map_of_four_dimensions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 volumes in one file, expected one"):
        read_label_map(_save(tmp_path / "a.nii", _volume("u1", (2, 2, 2, 2))))


# ---- writing ----


def _header(shape: tuple[int, int, int], dtype: str = "i2") -> bytes:
    return header_for(shape, (1.0, 1.0, 1.0), BRATS_AFFINE, dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_label_map_lies_where_its_image_lies_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    affine = BRATS_AFFINE + np.array([[0, 0, 0, 0.1], [0, 0, 0, 1 / 3], [0, 0, 0, -7], [0, 0, 0, 0]])
    image = _save(tmp_path / "t1.nii.gz", _volume("f4"), affine, descrip=b"scanned at", cal_max=900, qform_code=2)
    source = read_header(image)
    labels = _volume("u1") % 5
    write_label_map(tmp_path / f"p{suffix}", labels, source.raw)
    written, header = read_volume(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(written, labels)
    geometry = [slice(40, 56), slice(76, 92), slice(123, 124), slice(252, 328)]  # dim, qfac and spacing, units, forms
    assert all(header.raw[part] == source.raw[part] for part in geometry)
    fields = nib.load(tmp_path / f"p{suffix}").header
    assert fields.get_data_dtype() == np.uint8
    assert (header.slope, header.intercept, int(fields["intent_code"])) == (1.0, 0.0, 1002)
    assert fields["descrip"] == b""
    assert float(fields["cal_max"]) == 0
    assert header.vox_offset == 352


def test_extensions_are_never_written(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_volume().T, BRATS_AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("afni", b"user@host"))
    nib.save(image, tmp_path / "t1.nii")
    write_label_map(tmp_path / "p.nii", _volume("u1"), read_header(tmp_path / "t1.nii").raw)
    assert b"user@host" not in (tmp_path / "p.nii").read_bytes()
    assert not nib.load(tmp_path / "p.nii").header.extensions


def test_label_map_of_a_four_dimensional_image_has_three(tmp_path: Path) -> None:
    source = read_header(_save(tmp_path / "a.nii", _volume(shape=(4, 2, 3, 5))))
    write_label_map(tmp_path / "p.nii", _volume("u1", (2, 3, 5)), source.raw)
    assert nib.load(tmp_path / "p.nii").shape == (5, 3, 2)


def test_label_map_on_a_big_endian_image_keeps_its_geometry(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_volume().T, BRATS_AFFINE, nib.Nifti1Header(endianness=">")), tmp_path / "a.nii")
    write_label_map(tmp_path / "p.nii", _volume("u1"), read_header(tmp_path / "a.nii").raw)
    np.testing.assert_array_equal(nib.load(tmp_path / "p.nii").affine, BRATS_AFFINE)
    np.testing.assert_array_equal(read_label_map(tmp_path / "p.nii")[0], _volume("u1"))


def test_equal_label_maps_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(tmp_path / name, _volume("u1"), _header((3, 4, 5)))
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert content[3:8] == bytes(5)  # gzip's flags and clock time: no file name, no time


def test_array_of_another_shape_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="array of shape 3x4x6, but the header's grid is 3x4x5"):
        write_label_map(tmp_path / "p.nii.gz", _volume("u1", (3, 4, 6)), _header((3, 4, 5)))
    assert list(tmp_path.iterdir()) == []


def test_write_into_a_folder_that_is_none_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match=r"p\.nii\.gz: cannot be written"):
        write_label_map(tmp_path / "taken" / "p.nii.gz", _volume("u1"), _header((3, 4, 5)))


def test_probabilities_survive_as_scaled_bytes(tmp_path: Path) -> None:
    write_volume(tmp_path / "p.nii.gz", np.array([[[0, 51, 255]]], np.uint8), _header((1, 1, 3)), slope=1 / 255)
    np.testing.assert_allclose(read_volume(tmp_path / "p.nii.gz")[0], [[[0, 0.2, 1]]], rtol=1e-6)


def test_type_that_nifti_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="voxels of type float16"):
        write_volume(tmp_path / "p.nii", np.zeros((3, 4, 5), np.float16), _header((3, 4, 5)))


def test_new_header_is_like_those_of_brats() -> None:
    header = header_from_bytes(header_for((155, 240, 240), (1.0, 1.0, 1.0), BRATS_AFFINE, np.int16))
    assert header.shape == (155, 240, 240)
    assert header.dtype == np.int16
    assert (header.qform_code, header.sform_code) == (1, 1)
    assert nib.aff2axcodes(header.affine) == ("L", "P", "S")


def test_bytes_that_are_no_header_are_refused() -> None:
    with pytest.raises(DataError, match="crop: 100 bytes, but a NIfTI-1 header has 348"):
        header_from_bytes(bytes(100), "crop")


def test_geometry_differs_in_words() -> None:
    moved = BRATS_AFFINE + np.array([[0.0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    here, there = (header_from_bytes(header_for((3, 4, 5), (1.0, 1.0, 1.0), a, "u1")) for a in (BRATS_AFFINE, moved))
    assert same_geometry(here, here) is None
    assert same_geometry(here, there) == "affine differs (corners up to 2 mm apart)"


def test_files_are_read_and_written_without_isal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def import_without_isal(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("isal", "SimpleITK"):
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", import_without_isal)
    for name in [n for n in sys.modules if n.split(".")[0] == "isal"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "brats_seg.data.nifti")
    bare = importlib.import_module("brats_seg.data.nifti")
    assert bare._fast_gzip is gzip
    bare.write_label_map(tmp_path / "p.nii.gz", _volume("u1"), _header((3, 4, 5)))
    np.testing.assert_array_equal(bare.read_label_map(tmp_path / "p.nii.gz")[0], _volume("u1"))
    (tmp_path / "p.nii.gz").write_bytes((tmp_path / "p.nii.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match="truncated"):
        bare.read_volume(tmp_path / "p.nii.gz")


def test_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_label_map(tmp_path / "p.nii", _volume("u1"), _header((3, 4, 5)))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "p.nii")}
    assert len(modes) == 1


# ---- real cases ----


@pytest.mark.data
def test_real_files_equal_nibabels(real_data: Path) -> None:
    folders = sorted(path.parent for path in real_data.rglob("*_seg.nii.gz"))[::9]
    for path in (path for folder in folders for path in sorted(folder.glob("*.nii.gz"))):
        volume, header = read_volume(path)
        image = nib.load(path)
        np.testing.assert_array_equal(volume, np.asanyarray(image.dataobj).T)
        np.testing.assert_array_equal(header.affine, image.affine)
