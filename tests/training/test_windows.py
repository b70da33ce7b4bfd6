"""`inference.window=auto`: the held-out cases choose, the run keeps it, prediction follows."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.config import load_config
from brats_seg.data.nifti import read_label_map
from brats_seg.inference.memory import OutOfMemoryError
from brats_seg.inference.predict import Predictor
from brats_seg.networks.compute import choose_compute
from brats_seg.preprocessing.store import open_store
from brats_seg.training import windows
from brats_seg.training.validation import Scores
from brats_seg.training.windows import Tried, candidate_windows, keep_window, try_windows

AUTO = "inference.window=auto"


@pytest.fixture(scope="module")
def auto_run(tiny_recipe: Path, phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose window was chosen. Tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "auto"
    assert run([*words(tiny_recipe, phantom_store, folder), "--quiet"]) == 0
    return folder


def words(recipe: Path, store: Path, folder: Path) -> list[str]:
    # a low threshold, so that six steps of training find something
    return ["train", str(recipe), f"data.store={store}", f"output={folder}", AUTO, "inference.threshold=0.3"]


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "windows.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ((128, 128, 128), [(128, 128, 128), (160, 160, 160), (192, 192, 192)]),
        ((96, 64, 32), [(96, 64, 32), (128, 96, 32), (160, 96, 64)]),  # 120 -> 128, 80 -> 96, 40 -> 32; 144 -> 160
        ((32, 32, 32), [(32, 32, 32), (64, 64, 64)]),  # 40 -> 32, which is there already
    ],
)
def test_candidates_are_multiples_of_the_strides(patch: tuple[int, int, int], expected: list[tuple[int, ...]]) -> None:
    assert candidate_windows(load_config("default").network, patch) == expected


def test_best_is_kept_in_the_configuration_and_the_table(auto_run: Path, phantom_store: Path) -> None:
    rows = table(auto_run)
    windows_tried = [[int(row[f"window_{axis}"]) for axis in "kji"] for row in rows]
    assert windows_tried == [[16, 24, 16], [24, 32, 24], [24, 40, 24]]
    best = max(range(3), key=lambda n: float(rows[n]["dice_mean"]))
    assert [int(row["is_kept"]) for row in rows] == [int(n == best) for n in range(3)]
    kept = load_config(str(auto_run / "config.yaml")).inference.window
    assert kept == tuple(int(rows[best][f"window_{axis}"]) for axis in "kji")
    assert len({row["dice_mean"] for row in rows}) == 3
    own = float(rows[best]["dice_WT"])  # is what the kept window gave the label maps of validation/
    cases = csv.DictReader((auto_run / "validation" / "cases.csv").read_text().splitlines())
    assert own == pytest.approx(np.mean([float(row["dice"]) for row in cases if row["region"] == "WT"]))


def test_prediction_uses_the_kept_window(auto_run: Path, phantom_download: Path, tmp_path: Path) -> None:
    cases = auto_run / "validation" / "cases.txt"
    assert run(["predict", str(auto_run), str(phantom_download), str(tmp_path / "out"), "--cases", str(cases)]) == 0
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    kept = load_config(str(auto_run / "config.yaml")).inference.window
    for name in cases.read_text().split():
        assert record["cases"][name]["made_by"]["members"][0]["window"] == list(kept or ())
        validated, predicted = (
            read_label_map(folder / f"{name}.nii.gz")[0] for folder in (auto_run / "validation", tmp_path / "out")
        )
        assert np.array_equal(validated, predicted)


def test_weights_are_those_of_a_run_with_the_patch_for_window_and_resume_accepts_both(
    auto_run: Path, tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [word if word != AUTO else "inference.window=null" for word in words(tiny_recipe, phantom_store, tmp_path)]
    assert run([*plain, f"output={tmp_path / 'plain'}", "--quiet"]) == 0
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (auto_run / name).read_bytes()
    capsys.readouterr()
    assert run([*words(tiny_recipe, phantom_store, auto_run), "--resume"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert run(["train", str(auto_run / "config.yaml"), "--resume"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_run_that_ended_before_its_validation_was_written_goes_on(
    auto_run: Path, tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = shutil.copytree(auto_run, tmp_path / "again")
    shutil.rmtree(again / "validation")
    assert run([*words(tiny_recipe, phantom_store, again), "--resume"]) == 0
    out = capsys.readouterr().out
    assert "windows tried on the held-out cases; kept: " in out
    assert "24 x 40 x 24" in out
    for path in (auto_run / "validation").iterdir():
        assert (again / "validation" / path.name).read_bytes() == path.read_bytes()


def test_choice_needs_held_out_cases(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words(tiny_recipe, phantom_store, tmp_path / "run"), "data.fold=none"]) == 2
    error = capsys.readouterr().err
    assert "inference.window=auto is chosen on held-out cases, and data.fold=none holds out none" in error
    assert not (tmp_path / "run").exists()


def tried(*means: float | None) -> list[Tried]:
    return [
        Tried((8 * n, 8 * n, 8 * n), None if mean is None else {"WT": mean, "mean": mean}, 1.0)
        for n, mean in enumerate(means, start=2)
    ]


@pytest.mark.parametrize(
    ("means", "edge"),
    [((0.5, 0.7, 0.6), 24), ((0.7, 0.7, 0.6), 16), ((0.5, 0.5, 0.50001), 32), ((0.5, None, 0.4), 16)],
)
def test_best_mean_wins_and_the_smallest_of_equals(means: tuple[float | None, ...], edge: int, tmp_path: Path) -> None:
    config = keep_window(tmp_path, load_config("default", [AUTO]), tried(*means), is_writing=False)
    assert config.inference.window == (edge, edge, edge)
    assert not list(tmp_path.iterdir())


def test_window_that_is_too_large_for_the_memory_is_passed_over(
    auto_run: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def scores(predictor: Predictor, *_: object) -> Scores:
        if predictor.window[0] > 16:
            raise OutOfMemoryError("too large")
        return Scores({"WT": 0.5, "mean": 0.5}, {})

    monkeypatch.setattr(windows, "mean_scores", scores)
    config = load_config(str(auto_run / "config.yaml"), [AUTO])
    compute = choose_compute("cpu", "fp32", 1)
    found = try_windows(auto_run, config, open_store(phantom_store).cases[:2], compute)
    assert [one.dice is None for one in found] == [False, True, True]
    keep_window(tmp_path, config, found)
    assert [row["dice_WT"] for row in table(tmp_path)] == ["0.5", "nan", "nan"]
    assert dataclasses.astuple(found[0])[0] == (16, 24, 16)
