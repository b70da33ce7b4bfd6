"""`brats-seg check`: what it prints, writes and returns."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from brats_seg.cli import run


@pytest.fixture
def download(tmp_path: Path, phantom_download: Path) -> Path:
    """A copy of the synthetic download that a test may spoil."""
    return Path(shutil.copytree(phantom_download, tmp_path / "download"))


def file_of(download: Path, token: str, number: int = 1) -> Path:
    (path,) = download.rglob(f"BraTS20_Training_{number:03d}_{token}.nii.gz")
    return path


def check(*words: object) -> int:
    return run(["check", *map(str, words), "--jobs", "1"])


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def test_sound_download_gives_0_and_the_next_step(phantom_download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(phantom_download)
    assert check(phantom_download) == 0
    text = capsys.readouterr().out
    assert f"{phantom_download}: 6 cases of 6 patients (6 brats2020)" in text
    assert "0 errors" in text
    assert f"next: brats-seg split {phantom_download} --folds 5 --out FILE" in text
    assert contents(phantom_download) == before


def test_every_problem_of_every_case_is_in_one_table(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(download, "t2", 1).unlink()
    file_of(download, "t1ce", 2).write_text("<html></html>")
    file_of(download, "flair", 2).write_bytes(b"")
    assert check(download) == 1
    captured = capsys.readouterr()
    rows = [line.split()[:2] for line in captured.out.splitlines() if line.startswith("error")]
    assert rows == [
        ["error", "BraTS20_Training_001"],
        ["error", "BraTS20_Training_002_flair.nii.gz"],
        ["error", "BraTS20_Training_002_t1ce.nii.gz"],
    ]
    assert "3 errors" in captured.out
    assert "next: correct these files" in captured.out
    assert captured.err == ""


def test_table_wraps_messages_and_never_cuts_names(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(download, "t1ce", 2).write_text("<html></html>")
    check(download)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 100 for line in lines if str(download) not in line)
    assert any("BraTS20_Training_002_t1ce.nii.gz" in line for line in lines)
    assert not any("…" in line or "..." in line for line in lines)


def test_equal_notes_are_one_row_and_equal_warnings_one_text(
    phantom_download: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(phantom_download) == 0
    lines = capsys.readouterr().out.splitlines()
    grids = [line for line in lines if line.startswith("warning") and "_seg" not in line]
    assert len(grids) == 6
    assert sum("as above" in line for line in grids) == 5


def test_notes_of_many_files_are_counted(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in download.rglob("BraTS20_Training_00*"):
        if folder.is_dir():
            (folder / ".DS_Store").touch()
            (folder / f"._{folder.name}_t1.nii.gz").touch()
    assert check(download) == 0
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert [line.split("  ")[0] for line in lines] == [".DS_Store (6 times)", "._* (6 times)"]


def test_json_has_every_finding(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_of(download, "t2", 1).unlink()
    target = tmp_path / "reports" / "findings.json"
    assert check(download, "--json", target) == 1
    assert f"wrote {target}" in capsys.readouterr().out
    value = json.loads(target.read_text())
    assert (value["cases"], value["editions"], value["counts"]["error"]) == (6, {"brats2020": 6}, 1)
    assert len(value["findings"]) == sum(value["counts"].values())
    assert value["findings"][0] == {
        "severity": "error",
        "case": "BraTS20_Training_001",
        "file": "",
        "check": "missing",
        "message": "no t2 (found: t1, t1c, flair, a label map)",
    }


def test_findings_are_never_written_into_the_download(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(download, "--json", download / "sub" / "findings.json") == 2
    assert "lies inside the input" in capsys.readouterr().err
    assert not (download / "sub").exists()


def test_folder_is_no_place_for_findings(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reports").mkdir()
    assert check(download, "--json", tmp_path / "reports") == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err


def test_quiet_prints_errors_only(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(download, "--quiet") == 0
    assert capsys.readouterr().out == ""
    file_of(download, "t2", 1).unlink()
    assert check(download, "--quiet") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["severity", "--------", "error"]


def test_wrong_edition_is_an_error_of_each_label_map(
    phantom_download: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(phantom_download, "--edition", "brats2023-gli") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "edition brats2023-gli has [0, 1, 2, 3]" in out
    assert "brats2020" in out


def test_single_case_folder_is_checked(phantom_download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = file_of(phantom_download, "t1").parent
    assert check(folder) == 0
    text = capsys.readouterr().out
    assert "1 case of 1 patient" in text
    assert f"next: brats-seg prepare {folder} STORE" in text


def test_validation_set_is_for_prediction(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in download.rglob("*_seg.nii.gz"):
        path.unlink()
    assert check(download) == 0
    out = capsys.readouterr().out
    assert "note      6 cases" in out
    assert f"next: brats-seg predict RUN {download} OUT" in out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is empty"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: None, "no such folder"),
    ],
    ids=["empty folder", "file", "nothing"],
)
def test_unusable_input_gives_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, words: str
) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    assert check(tmp_path / "data") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_unknown_edition_gives_2(phantom_download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(phantom_download, "--edition", "brats2020x") == 2
    assert "did you mean brats2020" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["check", "split"])
def test_command_and_its_help_start_without_torch(verb: str, phantom_download: Path, tmp_path: Path) -> None:
    words = {"check": ["--quiet"], "split": ["--quiet", "--folds", "2", "--out", str(tmp_path / "split.json")]}[verb]
    program = (
        "import sys\n"
        "from brats_seg.cli import run\n"
        f"codes = [run([{verb!r}, '--help']), run([{verb!r}, {str(phantom_download)!r}, '--jobs', '1', *{words!r}])]\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'matplotlib'} & set(sys.modules)\n"
        "print(codes, sorted(heavy))\n"
    )
    call = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert call.stdout.splitlines()[-1] == "[0, 0] []"


@pytest.mark.data
@pytest.mark.slow
def test_the_28_real_cases_pass(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(real_data), "--jobs", "2"]) == 0
    assert "28 cases of 28 patients (14 brats2018, 7 brats2019, 7 brats2021)" in capsys.readouterr().out
