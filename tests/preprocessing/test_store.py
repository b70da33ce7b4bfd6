from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.header import header_from_bytes
from brats_seg.errors import DataError
from brats_seg.files import TEMPORARY_PREFIX, hash_of_json, read_json, write_json
from brats_seg.preprocessing.store import open_store, store_settings


@pytest.fixture
def store(phantom_store: Path, tmp_path: Path) -> Path:
    """A copy of the store of synthetic cases that a test may spoil."""
    shutil.copytree(phantom_store, tmp_path / "store")
    return tmp_path / "store"


def _change(path: Path, **fields: object) -> None:
    write_json(path, {**read_json(path), **fields})


def _first(store: Path) -> Path:
    return open_store(store).cases[0].folder


def test_store_tells_what_it_holds(phantom_store: Path) -> None:
    store = open_store(phantom_store)
    assert store.modalities == ("t1", "t1c", "t2", "flair")
    assert store.regions == ("ET", "TC", "WT")
    assert store.editions == ("brats2020",)
    assert store.settings_hash == hash_of_json(store_settings(store.modalities, store.regions))
    assert [case.name for case in store.cases] == [f"BraTS20_Training_{n:03d}" for n in range(1, 7)]


def test_arrays_of_a_case_fit_together(phantom_store: Path) -> None:
    for case in open_store(phantom_store).cases:
        image, label_map, foreground = case.image(), case.label_map(), case.foreground()
        assert image.dtype == np.int16
        assert isinstance(image, np.memmap)
        assert image.shape == (4, *label_map.shape)
        assert label_map.dtype == np.uint8
        assert case.shape == (40, 56, 56)
        assert header_from_bytes(case.header_bytes).grid == case.shape
        assert all(s + n <= size for s, n, size in zip(case.crop_start, label_map.shape, case.shape, strict=True))
        _, k, j, i = foreground[foreground[:, 0] == 0].T
        assert (label_map[k, j, i] == 4).all()
        assert case.has_et == (label_map == 4).any()


def test_folder_that_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a store: no store\.json in it; make one with brats-seg prepare"):
        open_store(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_store(tmp_path / "nowhere")


def test_store_without_cases_is_told(store: Path) -> None:
    for case in open_store(store).cases:
        shutil.rmtree(case.folder)
    with pytest.raises(DataError, match="a store without any complete case"):
        open_store(store)


def test_store_of_other_settings_is_refused(store: Path) -> None:
    settings = {**read_json(store / "store.json")["settings"], "foreground_voxels": 7}
    _change(store / "store.json", settings=settings, settings_hash=hash_of_json(settings))
    with pytest.raises(DataError, match=r"made with other settings \(\w{12}\) than this version makes"):
        open_store(store)


def test_all_cases_of_other_settings_are_named(store: Path) -> None:
    for case in open_store(store).cases[:2]:
        _change(case.folder / "case.json", settings_hash="0" * 64)
    with pytest.raises(DataError, match=r"2 problems\n.*Training_001: made with other settings[^\n]*\n.*Training_002"):
        open_store(store)


def test_damaged_descriptions_are_told(store: Path) -> None:
    case = _first(store)
    record = read_json(case / "case.json")
    write_json(case / "case.json", {key: value for key, value in record.items() if key != "mean"})
    with pytest.raises(DataError, match=r"case\.json: not what prepare writes \('mean'\)"):
        open_store(store)
    (case / "case.json").write_text("{half", encoding="utf-8")
    with pytest.raises(DataError, match=r"case\.json: cannot be read"):
        open_store(store)
    (store / "store.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"store\.json: not what prepare writes"):
        open_store(store)


def test_half_written_cases_are_invisible(store: Path) -> None:
    case = _first(store)
    case.rename(store / f"{TEMPORARY_PREFIX}12-{case.name}")
    assert len(open_store(store).cases) == 5


def test_truncated_array_is_told(store: Path) -> None:
    case = open_store(store).cases[0]
    path = case.folder / "image.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"image\.npy: cannot be read"):
        case.image()


def test_pickle_in_a_store_is_not_loaded(store: Path) -> None:
    case = open_store(store).cases[0]
    np.save(case.folder / "image.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"image\.npy: cannot be read"):
        case.image()


def test_case_without_label_map_says_so(store: Path) -> None:
    case = open_store(store).cases[0]
    (case.folder / "label.npy").unlink()
    assert not case.has_label
    with pytest.raises(DataError, match="prepared without a segmentation"):
        case.label_map()


def test_store_opens_without_torch_monai_and_simpleitk(phantom_store: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from brats_seg.preprocessing.store import open_store;"
        f"open_store(Path({str(phantom_store)!r})).cases[0].foreground(); print(json.dumps(sorted(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "SimpleITK", "isal"} & set(json.loads(answer.stdout))
