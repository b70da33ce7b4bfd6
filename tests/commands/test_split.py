"""`brats-seg split`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from brats_seg.cli import run
from brats_seg.data.splits import load_split

NAMES = [f"BraTS20_Training_{number:03d}" for number in range(1, 7)]


def split(data: Path, out: Path, *words: str) -> int:
    return run(["split", str(data), "--out", str(out), "--jobs", "1", *words])


def test_folds_hold_every_case_once_and_are_shown(
    phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "split.json"
    assert split(phantom_download, out, "--folds", "3") == 0
    folds = load_split(out)
    assert sorted(name for fold in folds for name in fold) == NAMES
    assert [len(fold) for fold in folds] == [2, 2, 2]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "fold"
    assert [line.split()[:3] for line in lines[2:5]] == [[str(number), "2", "2"] for number in range(3)]
    assert lines[-2:] == [f"wrote {out}", f"next: brats-seg prepare {phantom_download} STORE"]


def test_same_cases_give_the_same_folds_again(phantom_download: Path, tmp_path: Path) -> None:
    for out in ("a.json", "b.json", "b.json"):
        assert split(phantom_download, tmp_path / out, "--folds", "2", "--quiet") == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_other_folds_are_replaced_only_when_asked(
    phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "split.json"
    assert split(phantom_download, out, "--folds", "2", "--quiet") == 0
    before = out.read_bytes()
    assert split(phantom_download, out, "--folds", "3", "--quiet") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert split(phantom_download, out, "--folds", "3", "--quiet", "--overwrite") == 0
    assert len(load_split(out)) == 3


def test_cases_without_et_are_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from brats_seg.data.phantom import make_phantom, write_download

    shape = (24, 32, 32)
    has_et = [make_phantom(0, index, shape=shape).has_et for index in range(1, 11)]
    write_download(tmp_path / "data", 10, shape=shape)
    assert split(tmp_path / "data", tmp_path / "split.json", "--folds", "2") == 0
    rows = [line.split()[3:5] for line in capsys.readouterr().out.splitlines()[2:4]]
    counts = [(int(with_et), int(without)) for with_et, without in rows]
    assert (sum(c[0] for c in counts), sum(c[1] for c in counts)) == (sum(has_et), 10 - sum(has_et))
    assert 0 < sum(has_et) < 10
    assert all(abs(a - b) <= 1 for a, b in zip(*counts, strict=True))


def test_sites_of_the_mapping_table_are_shown(
    phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(phantom_download, tmp_path / "data"))
    for table in data.rglob("name_mapping*.csv"):
        table.unlink()
    rows = [f"BraTS19_{'CBICA' if n < 3 else 'TMC'}_{n}_1,{name}" for n, name in enumerate(NAMES)]
    (data / "name_mapping.csv").write_text("\n".join(["BraTS_2019_subject_ID,BraTS_2020_subject_ID", *rows]))
    assert split(data, tmp_path / "split.json", "--folds", "3") == 0
    lines = capsys.readouterr().out.splitlines()[2:5]
    assert [line.split("  ")[-1].strip() for line in lines] == ["CBICA 1, TMC 1"] * 3


def test_download_is_never_written_into(phantom_download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(phantom_download, phantom_download / "split.json") == 2
    assert "lies inside the input" in capsys.readouterr().err
    assert not (phantom_download / "split.json").exists()


@pytest.mark.parametrize(("folds", "words"), [("7", "7 folds of 6 patients"), ("1", "at least 2"), ("x", "--folds")])
def test_impossible_numbers_of_folds_are_refused(
    phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], folds: str, words: str
) -> None:
    assert split(phantom_download, tmp_path / "split.json", "--folds", folds) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "split.json").exists()


def test_broken_label_maps_are_all_named(
    phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(phantom_download, tmp_path / "data"))
    for path in sorted(data.rglob("*_seg.nii.gz"))[:2]:
        path.write_bytes(b"")
    assert split(data, tmp_path / "split.json") == 2
    error = capsys.readouterr().err
    assert f"case {NAMES[0]}: " in error
    assert f"case {NAMES[1]}: " in error
    assert not (tmp_path / "split.json").exists()


@pytest.mark.data
def test_real_cases_are_split_by_patient_with_their_sites(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert split(real_data / "brats2018", tmp_path / "split.json") == 0
    folds = json.loads((tmp_path / "split.json").read_text())["folds"]
    assert sorted(map(len, folds)) == [2, 3, 3, 3, 3]
    assert "CBICA 2" in capsys.readouterr().out
