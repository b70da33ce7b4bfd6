from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_header, read_label_map, read_volume, write_volume
from brats_seg.data.phantom import write_download
from brats_seg.errors import DataError, OutputError
from brats_seg.files import TEMPORARY_PREFIX
from brats_seg.preprocessing.prepare import prepare_case, write_case

SHAPE = (40, 56, 56)


@pytest.fixture
def case(phantom_download: Path, tmp_path: Path) -> Case:
    """The first synthetic case, in a folder of its own that a test may spoil."""
    first = find_cases(phantom_download).cases[0]
    shutil.copytree(first.folder, tmp_path / first.name)
    return find_cases(tmp_path / first.name).cases[0]


def _label(case: Case) -> Path:
    assert case.label is not None
    return case.label


def test_prepared_case_is_the_files_own_voxels(case: Case) -> None:
    prepared = prepare_case(case)
    box = tuple(slice(s, s + n) for s, n in zip(prepared.crop_start, prepared.image.shape[1:], strict=True))
    for volume, file in zip(prepared.image, case.images.values(), strict=True):
        original = read_volume(file.path)[0]
        np.testing.assert_array_equal(volume, original[box])
        assert np.count_nonzero(volume) == np.count_nonzero(original)  # nothing of the brain is cut off
    np.testing.assert_array_equal(prepared.label_map, read_label_map(_label(case))[0][box])
    assert prepared.shape == SHAPE
    assert prepared.header_bytes == read_header(case.images["t1"].path).raw
    assert (prepared.name, prepared.edition) == (case.name, "brats2020")


def test_label_map_is_left_alone_if_not_asked_for(case: Case) -> None:
    _label(case).write_text("not read")
    prepared = prepare_case(case, with_label=False)
    assert prepared.label_map is None
    assert prepared.foreground is None
    assert prepared.has_et is None


def test_modalities_come_in_canonical_order_from_a_four_dimensional_file(tmp_path: Path) -> None:
    write_download(tmp_path / "msd", 1, shape=(24, 32, 32), edition="msd-task01")
    case = find_cases(tmp_path / "msd").cases[0]
    prepared = prepare_case(case)
    whole, header = read_volume(case.images["t1"].path)  # FLAIR, T1w, T1gd, T2w
    assert header.shape == (4, 24, 32, 32)
    box = (slice(None), *(slice(s, s + n) for s, n in zip(prepared.crop_start, prepared.image.shape[1:], strict=True)))
    np.testing.assert_array_equal(prepared.image, whole[[1, 2, 3, 0]][box])


def test_case_of_one_modality_is_prepared(tmp_path: Path) -> None:
    write_download(tmp_path / "rt", 1, shape=(24, 32, 32), edition="brats2024-men-rt")
    prepared = prepare_case(find_cases(tmp_path / "rt").cases[0])
    assert len(prepared.image) == len(prepared.mean) == 1
    assert prepared.has_et is None


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_integers_in_any_type_are_stored_as_int16(tmp_path: Path, dtype: type) -> None:
    write_download(tmp_path / "d", 1, shape=(24, 32, 32), image_dtype=dtype, label_dtype=np.float32, sform_code=0)
    prepared = prepare_case(find_cases(tmp_path / "d").cases[0])
    assert prepared.image.dtype == np.int16


def test_missing_modality_is_named(case: Case) -> None:
    case.images["t2"].path.unlink()
    broken = find_cases(case.folder, strict=False).cases[0]
    with pytest.raises(DataError, match=rf"case {case.name}: no t2 \(found: t1, t1c, flair\)"):
        prepare_case(broken)


def test_truncated_file_is_named_with_its_case(case: Case) -> None:
    path = case.images["flair"].path
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=rf"^case {case.name}: .*{path.name}: truncated"):
        prepare_case(case)


def test_label_map_of_another_shape_is_refused(case: Case) -> None:
    header = read_header(_label(case))
    raw = bytearray(header.raw)
    raw[46:48] = np.int16(39).tobytes()
    write_volume(_label(case), np.zeros((39, 56, 56), np.uint8), bytes(raw))
    with pytest.raises(DataError, match=rf"case {case.name}: label map: shape 39x56x56 differs from 40x56x56"):
        prepare_case(case)


def test_modality_of_another_place_is_refused(case: Case) -> None:
    path = case.images["t2"].path
    volume, header = read_volume(path)
    raw = bytearray(header.raw)
    raw[292:296] = np.float32(7).tobytes()  # srow_x[3]
    write_volume(path, volume, bytes(raw))
    with pytest.raises(DataError, match="affine differs"):
        prepare_case(case)


def test_nan_is_refused_with_its_modality_and_file(case: Case) -> None:
    path = case.images["t1c"].path
    volume, header = read_volume(path)
    volume = volume.astype(np.float32)
    volume[20, 28, 28] = np.nan
    write_volume(path, volume, header.raw)
    file = re.escape(path.name)
    with pytest.raises(
        DataError, match=rf"t1c \({file}\): 1 voxels are NaN or infinite, the first at \(k, j, i\) = \(20, 28, 28\)"
    ):
        prepare_case(case)


def test_foreign_labels_are_refused(case: Case) -> None:
    other = find_cases(case.folder, edition="brats2023-gli").cases[0]
    with pytest.raises(DataError, match=r"labels \[0, 1, 2, 4\], but edition brats2023-gli has"):
        prepare_case(other)


def test_odd_cases_carry_notes(case: Case) -> None:
    label_map, header = read_label_map(_label(case))
    label_map[0, 0, :3] = 2
    write_volume(_label(case), label_map, header.raw)
    path = case.images["t2"].path
    write_volume(path, np.zeros(SHAPE, np.int16), header.raw)
    prepared = prepare_case(case)
    assert prepared.notes == (
        f"case {case.name}: t2 is 0 everywhere",
        f"case {case.name}: 3 labelled voxels lie outside the brain's box and are cropped away",
    )
    assert (prepared.mean[2], prepared.sd[2]) == (0.0, 1.0)


def test_written_case_is_complete_and_leftovers_vanish(case: Case, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / f"{TEMPORARY_PREFIX}1-{case.name}").mkdir(parents=True)
    folder = write_case(store, prepare_case(case), settings_hash="0")
    assert [path.name for path in store.iterdir()] == [case.name]
    assert sorted(path.name for path in folder.iterdir()) == ["case.json", "foreground.npy", "image.npy", "label.npy"]


def test_case_that_cannot_be_written_leaves_nothing(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "store").mkdir()
    monkeypatch.setattr("brats_seg.preprocessing.prepare.np.save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_case(tmp_path / "store", prepare_case(case), settings_hash="0")
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.data
def test_real_case_with_qform_only_is_prepared(real_data: Path) -> None:
    case = find_cases(next(real_data.rglob("BraTS2021_00019"))).cases[0]
    assert read_header(_label(case)).sform_code == 0
    prepared = prepare_case(case)
    assert prepared.image.shape == (4, 143, 177, 142)
    assert prepared.notes == ()
