"""The demo's last part: the bundled model on a case of BRATS_SEG_DATA, scored, and said whether it had seen it."""

from __future__ import annotations

from pathlib import Path

import pytest

import brats_seg.commands.demo_real as demo_real
from brats_seg.data.cases import Case, find_cases
from brats_seg.errors import DataError
from brats_seg.files import read_json


def shown(case: Case, out: Path) -> str:
    lines: list[str] = []
    demo_real.predict_real_case(case, out, "cpu", lines.append, overwrite=False, quiet=True)
    return "\n".join(lines)


def test_without_the_variable_there_is_no_real_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRATS_SEG_DATA", raising=False)
    assert demo_real.real_case() is None


def test_it_is_the_first_case_with_a_segmentation(monkeypatch: pytest.MonkeyPatch, phantom_download: Path) -> None:
    monkeypatch.setenv("BRATS_SEG_DATA", str(phantom_download))
    case = demo_real.real_case()
    assert case is not None
    assert case.name == "BraTS20_Training_001"


def test_a_wrong_folder_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRATS_SEG_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"BRATS_SEG_DATA: .*no such folder.*unset it"):
        demo_real.real_case()


def test_it_says_dice_and_whether_the_model_had_seen_the_case(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Path, phantom_download: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_real, "_MODEL", str(tiny_run))
    held_out = (tiny_run / "validation" / "cases.txt").read_text().split()
    cases = find_cases(phantom_download).cases
    unseen = next(case for case in cases if case.name in held_out)
    seen = next(case for case in cases if case.name not in held_out)
    text = shown(unseen, tmp_path / "unseen")
    dice = read_json(tmp_path / "unseen" / "real" / "evaluation" / "summary.json")["regions"]["WT"]["metrics"]["dice"]
    assert f"WT {dice['mean']:.3f}" in text
    assert "has not been trained on a case of this name" in text
    assert "was trained on this very case: these numbers flatter it" in shown(seen, tmp_path / "seen")


@pytest.mark.data
def test_the_starter_segments_a_real_case_that_it_knows(real_data: Path, tmp_path: Path) -> None:
    case = next(case for case in find_cases(real_data).cases if case.label is not None)
    assert "these numbers flatter it" in shown(case, tmp_path)
    regions = read_json(tmp_path / "real" / "evaluation" / "summary.json")["regions"]
    assert regions["WT"]["metrics"]["dice"]["mean"] > 0.8
