from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.preprocessing.store import open_store


@pytest.fixture
def download(phantom_download: Path, tmp_path: Path) -> Path:
    """Two synthetic cases that a test may spoil."""
    for case in find_cases(phantom_download).cases[:2]:
        shutil.copytree(case.folder, tmp_path / "download" / case.name)
    return tmp_path / "download"


def _prepare(download: Path, store: Path, *options: str) -> int:
    return run(["prepare", str(download), str(store), "--jobs", "1", *options])


def test_command_says_what_it_wrote_and_what_comes_next(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert _prepare(download, store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"wrote {store}: 2 cases, 0.00 GB (2 made)"
    assert lines[-1].startswith(f"next: brats-seg train cpu_small data.store={store} output=RUN")
    assert _prepare(download, store) == 0
    assert "(2 kept)" in capsys.readouterr().out


def test_quiet_command_says_nothing(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _prepare(download, tmp_path / "store", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_cases_can_be_selected(download: Path, tmp_path: Path) -> None:
    assert _prepare(download, tmp_path / "store", "--cases", "BraTS20_Training_002") == 0
    assert [case.name for case in open_store(tmp_path / "store").cases] == ["BraTS20_Training_002"]


def test_all_findings_come_at_the_end_with_exit_code_one(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = download / "BraTS20_Training_001"
    shutil.copytree(first, download / "BraTS20_Training_003")
    for path in (download / "BraTS20_Training_003").iterdir():
        path.rename(path.with_name(path.name.replace("001", "003")))
    (first / "BraTS20_Training_001_t2.nii.gz").unlink()
    (download / "BraTS20_Training_003" / "BraTS20_Training_003_t1.nii.gz").write_text("<html>")
    assert _prepare(download, tmp_path / "store") == 1
    said = capsys.readouterr()
    assert ": 1 case, 0.00 GB (1 failed, 1 made)" in said.out
    assert "1 of 3 cases prepared into" in said.err
    assert "case BraTS20_Training_001: no t2" in said.err
    assert "case BraTS20_Training_003: " in said.err
    assert "Traceback" not in said.err
    assert [case.name for case in open_store(tmp_path / "store").cases] == ["BraTS20_Training_002"]


def test_missing_segmentations_are_noted(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(download.rglob("*_001_seg.nii.gz")).unlink()
    assert _prepare(download, tmp_path / "store") == 0
    assert "note: without a segmentation, for no network to learn from: 1" in capsys.readouterr().out


@pytest.mark.parametrize("inside", ["store", "."])
def test_store_never_lies_in_the_download(download: Path, inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(download.rglob("*"))
    assert _prepare(download, download / inside) == 2
    assert "lies inside the input" in capsys.readouterr().err
    assert sorted(download.rglob("*")) == before


def test_empty_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert _prepare(tmp_path / "empty", tmp_path / "store") == 2
    assert "is empty" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_download_without_any_usable_case_is_wrong_input(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in download.rglob("*_flair.nii.gz"):
        path.unlink()
    assert _prepare(download, tmp_path / "store") == 2
    assert "no case can be prepared: 2 problems" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_foreign_labels_under_a_named_edition_are_told(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _prepare(download, tmp_path / "store", "--edition", "brats2023-gli") == 1
    assert "labels [0, 1, 2, 4], but edition brats2023-gli has [0, 1, 2, 3]" in capsys.readouterr().err


def test_place_that_cannot_be_written_to_is_told(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file in the way")
    for store in (tmp_path / "taken", tmp_path / "taken" / "store"):
        assert _prepare(download, store) == 2
        assert "cannot write there" in capsys.readouterr().err
