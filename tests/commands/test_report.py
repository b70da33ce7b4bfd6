"""`brats-seg report`, and `evaluate --report`, as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brats_seg.cli import run

Write = Callable[..., Path]
DICE = {"a": (0.1, 0.2, 0.3), "b": (0.4, 0.5, 0.6)}


def test_it_says_what_it_wrote(phantom_evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert (
        run(["report", str(phantom_evaluation), "--out", str(out), "--jobs", "1", "--cases", "BraTS20_Training_001"])
        == 0
    )
    printed = capsys.readouterr()
    assert printed.out.startswith(f"Wrote {out} (")
    assert printed.out.strip().endswith("1 case, 1 with a picture")
    assert printed.err == ""


def test_what_is_missing_is_told_on_stderr_also_when_quiet(
    tmp_path: Path, write_evaluation: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(write_evaluation(tmp_path / "ev", DICE)), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("warning: No pictures: the evaluation names no images")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pictures", "many"], "--pictures many: expected a number of cases, such as 30, or all"),
        (["--cases", "zzz"], "--cases: not found: zzz"),
        (["--out", "."], ".: is a folder; name the report's file"),
        (["--edition", "brats2052"], "edition 'brats2052' is unknown"),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, write_evaluation: Write, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(["report", str(write_evaluation(tmp_path / "ev", DICE)), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_folder_that_is_no_evaluation_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert "it has no cases.csv; expected a folder written by `brats-seg evaluate" in capsys.readouterr().err


def test_evaluate_writes_the_report_too_and_removes_one_of_old_numbers(
    phantom_download: Path, phantom_evaluation: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ev"
    words = ["evaluate", str(phantom_download), str(phantom_evaluation.parent / "predictions"), "--out", str(out)]
    words += ["--protocol", "plain", "--quiet", "--jobs", "1", "--cases", "BraTS20_Training_001"]
    assert run([*words, "--report"]) == 0
    assert 'class="pic"' in (out / "report.html").read_text(encoding="utf-8")
    assert run([*words, "--overwrite"]) == 0
    assert not (out / "report.html").exists()
