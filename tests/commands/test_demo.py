"""The demo: the whole chain on small synthetic cases, continued, refused, replaced."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

import brats_seg.commands.demo as demo_module
from brats_seg.cli import run

ARGUMENTS = "kernel_size: [3, 3, 3], strides: [1, 2, 2], upsample_kernel_size: [2, 2], filters: [16, 32, 64]"
QUICK = [
    f"network.arguments={{{ARGUMENTS}}}",
    "train.patch=[32, 32, 32]",
    "train.optimizer.learning_rate=0.01",
    "train.threads=1",
    "train.steps=60",
    "train.validate_every=60",
]


@pytest.fixture(scope="module")
def small_cases() -> Iterator[None]:
    """Ten cases of 3.9 mm voxels in place of the demo's 25 of 2 mm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "_VOLUMES", replace(demo_module._VOLUMES, num_cases=10, shape=(40, 56, 56)))
        patch.delenv("BRATS_SEG_DATA", raising=False)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_cases: None) -> tuple[Path, str]:
    """Folder and printed text of a small demo."""
    out = tmp_path_factory.mktemp("finished") / "demo"
    with redirect_stdout(io.StringIO()) as printed:
        assert run(["demo", str(out), "--jobs", "1", *QUICK]) == 0
    return out, printed.getvalue()


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the demo where the work would begin."""

    def stop(*_: object, **__: object) -> None:
        raise AssertionError("the demo began to work")

    monkeypatch.setattr(demo_module, "_make_cases", stop)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_the_chain_predicts_and_scores_the_held_out_cases_and_no_other(finished: tuple[Path, str]) -> None:
    out, _ = finished
    held_out = json.loads((out / "run" / "split.json").read_text())["folds"][0]
    with (out / "evaluation" / "cases.csv").open() as file:
        scored = {row["case"] for row in csv.DictReader(file)}
    assert names_in(out) == ["demo.json", "download", "evaluation", "predictions", "run", "store"]
    assert len(held_out) == 2
    assert scored == set(held_out)
    assert names_in(out / "predictions")[:2] == [f"{name}.nii.gz" for name in sorted(held_out)]


@pytest.mark.slow
def test_it_ends_with_a_table_a_notice_and_what_it_wrote(finished: tuple[Path, str]) -> None:
    out, printed = finished
    summary = json.loads((out / "evaluation" / "summary.json").read_text())
    dice = [summary["regions"][region]["metrics"]["dice"]["mean"] for region in ("ET", "TC", "WT")]
    table, wrote = printed.split("== Dice of 2 held-out synthetic cases")[1].split("\nwrote\n")
    assert [f"{value:.3f}" for value in (*dice, sum(dice) / 3)] == [
        next(line.split()[1] for line in table.splitlines() if line.startswith(name))
        for name in ("ET", "TC", "WT", "mean")
    ]
    assert "they say nothing about patients" in table
    assert all(f"{out / name}/" in wrote for name in ("download", "store", "run", "predictions", "evaluation"))


@pytest.mark.slow
def test_the_small_network_learns_to_find_the_tumor(finished: tuple[Path, str]) -> None:
    summary = json.loads((finished[0] / "evaluation" / "summary.json").read_text())
    assert summary["regions"]["WT"]["metrics"]["dice"]["mean"] > 0.5


@pytest.mark.slow
def test_a_second_call_continues_and_makes_nothing_twice(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = finished
    kept = [out / "run" / "model.safetensors", *(out / "download").rglob("*.nii.gz")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    gone = sorted((out / "predictions").glob("*.nii.gz"))[0]
    voxels = gone.read_bytes()
    gone.unlink()
    assert run(["demo", str(out), "--jobs", "1", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "there already" in printed
    assert "finished already at step 60" in printed
    assert "1 case to predict, 1 made already" in printed
    assert gone.read_bytes() == voxels
    assert {path: path.stat().st_mtime_ns for path in kept} == before


@pytest.mark.slow
def test_quiet_prints_nothing(finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(finished[0]), "--jobs", "1", "--quiet", *QUICK]) == 0
    assert capsys.readouterr().out == ""


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


@pytest.mark.slow
def test_slices_go_the_same_way_and_no_threshold_does_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(demo_module._SLICES, shape=(8, 64, 64))
    monkeypatch.setattr(demo_module, "_SLICES", small)
    words = ["train.steps=160", "train.validate_every=160", "train.patch=[1, 64, 64]", "train.threads=1"]
    assert run(["demo", str(tmp_path / "demo"), "--slices", "--jobs", "1", *words]) == 0
    assert "== Dice of 4 held-out synthetic cases, protocol plain" in capsys.readouterr().out
    summary = json.loads((tmp_path / "demo" / "evaluation" / "summary.json").read_text())
    assert summary["editions"] == ["lgg-mri"]
    assert summary["regions"]["WT"]["metrics"]["dice"]["mean"] > 0.7  # the best threshold of any channel: 0.45
    assert summary["presence"]["levels"]["slice"]["num"] == 32
    with (tmp_path / "demo" / "evaluation" / "slices.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 32
