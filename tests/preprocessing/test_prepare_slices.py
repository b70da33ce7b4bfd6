"""2D sets in the store: the same arrays as volumes, slices stacked along K."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.data.phantom_slices import make_sliced_phantom, sliced_case_name, write_images, write_slices
from brats_seg.preprocessing.filling import fill_store
from brats_seg.preprocessing.store import Store, open_store


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lgg")
    write_slices(root, 2, size=40, num_slices=5)
    return root


@pytest.fixture(scope="module")
def store(download: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("stores") / "store"
    fill_store(find_cases(download).cases, folder)
    return open_store(folder)


def test_a_patients_slices_are_stacked_along_k_in_the_usual_order_of_modalities(store: Store) -> None:
    assert store.modalities == ("t1", "t1c", "flair")
    assert store.regions == ("WT",)
    assert store.editions == ("lgg-mri",)
    case = store.cases[0]
    phantom = make_sliced_phantom(0, 1, size=40, num_slices=5)
    assert (case.name, case.patient, case.shape) == (sliced_case_name(1), "TCGA_DU_4901", (5, 40, 40))
    k, j, i = (slice(start, start + size) for start, size in zip(case.crop_start, case.image().shape[1:], strict=True))
    np.testing.assert_array_equal(case.image(), phantom.image[[0, 2, 1]][:, k, j, i])
    np.testing.assert_array_equal(case.label_map(), phantom.mask[k, j, i])
    assert case.image().dtype == np.int16


def test_the_record_of_a_case_has_slice_numbers_copies_and_what_the_table_tells(store: Store) -> None:
    first, second = (json.loads((case.folder / "case.json").read_text()) for case in store.cases)
    assert first["slices"] == [1, 2, 3, 4, 5]
    assert (first["copies"], second["copies"]) == ([], ["t1c"])
    assert first["details"]["Patient"] == "TCGA_DU_4901"
    assert store.cases[0].slices == (1, 2, 3, 4, 5)


def test_numbers_of_slices_with_a_gap_are_kept(tmp_path: Path) -> None:
    (folder,) = write_slices(tmp_path, 1, size=40, num_slices=5)
    for what in ("", "_mask"):
        (folder / f"{folder.name}_3{what}.tif").unlink()
    fill_store(find_cases(tmp_path).cases, tmp_path / "store")
    (case,) = open_store(tmp_path / "store").cases
    assert case.slices == (1, 2, 4, 5)
    assert case.shape[0] == 4


def test_a_case_is_kept_until_a_slice_or_the_table_changes(download: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(download, tmp_path / "copy")

    def states() -> list[str]:
        return [outcome.state for outcome in fill_store(find_cases(copy).cases, tmp_path / "store")]

    assert states() == ["made", "made"]
    assert states() == ["kept", "kept"]
    name = sliced_case_name(2)
    shutil.copyfile(copy / "kaggle_3m" / name / f"{name}_2_mask.tif", copy / "kaggle_3m" / name / f"{name}_1_mask.tif")
    shutil.copyfile(copy / "kaggle_3m" / name / f"{name}_2.tif", copy / "kaggle_3m" / name / f"{name}_1.tif")
    assert states() == ["kept", "remade"]
    table = copy / "kaggle_3m" / "data.csv"
    table.write_text(table.read_text().replace("TCGA_DU_4901,", "TCGA_DU_4901,9"))
    assert states() == ["remade", "kept"]


def test_an_image_is_a_case_of_one_slice(tmp_path: Path) -> None:
    write_images(tmp_path, 2, size=40)
    fill_store(find_cases(tmp_path).cases, tmp_path / "store")
    opened = open_store(tmp_path / "store")
    assert (opened.modalities, opened.regions) == (("grey",), ("WT",))
    assert opened.cases[0].image().shape[:2] == (1, 1)
    assert opened.cases[0].shape == (1, 40, 40)
    assert opened.cases[0].slices is None


def test_notes_of_one_kind_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "set", 3, size=40, suffix=".jpg")
    assert run(["prepare", str(tmp_path / "set"), str(tmp_path / "store"), "--jobs", "1"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert notes[0].endswith("(and 2 cases more)")


def test_what_lacks_its_partner_is_not_prepared_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "set", 4, size=40)
    (tmp_path / "set" / "masks" / "0002.png").unlink()
    (tmp_path / "set" / "images" / "0003.png").unlink()
    assert run(["prepare", str(tmp_path / "set"), str(tmp_path / "store"), "--jobs", "1"]) == 1
    error = capsys.readouterr().err
    assert "case 0002: 0002.png: image without mask" in error
    assert "case 0003: 0003.png: mask without image" in error
    assert [case.name for case in open_store(tmp_path / "store").cases] == ["0001", "0004"]
