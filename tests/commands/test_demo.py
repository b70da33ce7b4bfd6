"""The demo: the whole chain on small synthetic cases, continued, refused, replaced."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import brats_seg.commands.demo as demo_module
from brats_seg.cli import run

SMALL_NETWORK = [
    "network.arguments={kernel_size: [3, 3, 3], strides: [1, 2, 2], upsample_kernel_size: [2, 2], filters: [16, 32, 64]}",
    "train.patch=[32, 32, 32]",
    "train.threads=1",
]
QUICK = [*SMALL_NETWORK, "train.steps=2"]


@pytest.fixture(autouse=True)
def small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten cases of 4.3 mm voxels in place of the demo's 25 of 2 mm."""
    monkeypatch.setattr(demo_module, "_NUM_CASES", 10)
    monkeypatch.setattr(demo_module, "_SHAPE", (40, 56, 56))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the demo where the work would begin."""

    def stop(*_: object, **__: object) -> None:
        raise AssertionError("the demo began to work")

    monkeypatch.setattr(demo_module, "_make_cases", stop)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_the_chain_ends_with_a_table_a_notice_and_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run(["demo", str(out), "--jobs", "1", *QUICK]) == 0
    held_out = json.loads((out / "run" / "split.json").read_text())["folds"][0]
    with (out / "evaluation" / "cases.csv").open() as file:
        scored = {row["case"] for row in csv.DictReader(file)}
    assert names_in(out) == ["demo.json", "download", "evaluation", "predictions", "run", "store"]
    assert len(held_out) == 2
    assert scored == set(held_out)
    assert names_in(out / "predictions")[:2] == [f"{name}.nii.gz" for name in sorted(held_out)]
    printed = capsys.readouterr().out
    assert "6 of 6: evaluate" in printed
    assert printed.count("they say nothing about patients") == 2
    assert all(f"{out / name}/" in printed.split("\nwrote\n")[1] for name in ("download", "store", "run", "evaluation"))


@pytest.mark.slow
def test_a_second_call_continues_and_makes_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run(["demo", str(out), "--jobs", "1", "--quiet", *QUICK]) == 0
    assert capsys.readouterr().out == ""  # --quiet
    kept = [out / "run" / "model.safetensors", *(out / "download").rglob("*.nii.gz")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    (gone := sorted((out / "predictions").glob("*.nii.gz"))[0]).unlink()
    assert run(["demo", str(out), "--jobs", "1", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "there already" in printed
    assert "finished already at step 2" in printed
    assert "1 cases to predict, 1 made already" in printed
    assert gone.is_file()
    assert {path: path.stat().st_mtime_ns for path in kept} == before


@pytest.mark.slow
def test_the_demos_recipe_learns_to_find_the_tumor(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["train.steps=150", "train.validate_every=150"]
    assert run(["demo", str(out), "--jobs", "1", "--quiet", *SMALL_NETWORK, *words]) == 0
    summary = json.loads((out / "evaluation" / "summary.json").read_text())
    assert summary["regions"]["WT"]["metrics"]["dice"]["mean"] > 0.5


def test_another_seed_needs_overwrite(tmp_path: Path, no_work: None, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo.json").write_text('{"version": "0", "seed": 0, "overrides": []}')
    assert run(["demo", str(tmp_path), "--seed", "1"]) == 2
    assert "other settings" in (message := capsys.readouterr().err)
    assert "--overwrite" in message


def test_overwrite_removes_an_earlier_demo_and_nothing_else(tmp_path: Path, no_work: None) -> None:
    (tmp_path / "demo.json").write_text('{"version": "0", "seed": 0, "overrides": []}')
    (tmp_path / "run").mkdir()
    (tmp_path / "notes").mkdir()
    with pytest.raises(AssertionError, match="began to work"):
        run(["demo", str(tmp_path), "--seed", "1", "--overwrite"])
    assert names_in(tmp_path) == ["demo.json", "notes"]
    assert json.loads((tmp_path / "demo.json").read_text())["seed"] == 1


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_folder_with_other_files_is_never_touched(
    options: list[str], tmp_path: Path, no_work: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    assert run(["demo", str(tmp_path), *options]) == 2
    assert "choose a new or empty folder" in capsys.readouterr().err
    assert names_in(tmp_path) == ["run"]


def test_a_wrong_setting_is_told_before_anything_is_written(
    tmp_path: Path, no_work: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", str(tmp_path / "demo"), "train.step=3"]) == 2
    assert "did you mean train.steps" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
