"""What a person sees of a training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.commands import watching
from brats_seg.commands.watching import TrainingWatcher

COLUMNS = ["step", "loss", "learning_rate", "patches_per_second", "dice_ET", "dice_TC", "dice_WT", "dice_mean"]


def row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 0.5,
        "learning_rate": 0.01,
        "patches_per_second": 3.0,
        "dice_mean": "",
        "iou_mean": "",
    }


def watcher(folder: Path, **more: Any) -> TrainingWatcher:
    return TrainingWatcher(folder, 100, **({"is_silent": True, "is_quiet": False} | more))


def test_metrics_keep_their_columns_and_have_iou_behind_them(tiny_run: Path) -> None:
    with (tiny_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, "iou_ET", "iou_TC", "iou_WT", "iou_mean"]
    for values in rows:
        assert bool(values["iou_mean"]) == bool(values["dice_mean"])
        assert float(values["iou_WT"] or 0) <= float(values["dice_WT"] or 0)


def test_events_hold_every_column_and_slices_of_two_held_out_cases_at_each_validation(tiny_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_run / "events"), size_guidance={"images": 0})
    events.Reload()
    scores = {f"{metric}/{name}" for metric in ("dice", "iou") for name in ("ET", "TC", "WT", "mean")}
    assert set(events.Tags()["scalars"]) == {"loss", "learning_rate", "patches_per_second"} | scores
    held_out = (tiny_run / "validation" / "cases.txt").read_text().split()
    assert sorted(events.Tags()["images"]) == [f"held_out/{name}" for name in held_out]
    assert len(held_out) == 2
    for name in held_out:
        assert [image.step for image in events.Images(f"held_out/{name}")] == [1, 3, 6]
    assert [event.step for event in events.Scalars("iou/mean")] == [1, 3, 6]
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2, 3, 4, 6]


def test_without_terminal_a_line_is_printed_for_a_row_that_ends_an_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching_it = watcher(tmp_path, is_writing=False)
    watching_it.begin(0, epoch_steps=40)
    for step in (25, 50, 75, 100):
        watching_it.measured(step, row(step))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["step  50 of 100: epoch 1", "step 100 of 100: epoch 2"]
    assert "loss 0.5000, learning rate 0.01, 3 patches a second, " in lines[0]


@pytest.mark.parametrize("more", [{"is_silent": False}, {"is_quiet": True}], ids=["with a bar", "quiet"])
def test_bar_or_quiet_has_no_line_an_epoch(
    more: dict[str, bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching_it = watcher(tmp_path, is_writing=False, **more)
    watching_it.begin(0, epoch_steps=1)
    watching_it.measured(25, row(25))
    watching_it.close()
    assert "epoch" not in capsys.readouterr().out


def test_without_tensorboard_training_goes_on_and_says_what_is_left_out(
    tiny_recipe: Path,
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = watching.find_spec
    monkeypatch.setattr(watching, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    words = ["train", str(tiny_recipe), f"data.store={phantom_store}", f"output={tmp_path / 'run'}", "train.steps=2"]
    assert run(words) == 0
    assert "tensorboard is not installed: events are left out" in capsys.readouterr().out
    assert not (tmp_path / "run" / "events").exists()


def test_without_pillow_events_have_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = watching.find_spec
    watching_it = watcher(tmp_path)
    assert not watching_it.wants_pictures  # not begun
    watching_it.begin(0)
    assert watching_it.wants_pictures
    watching_it.pictured(1, "case", np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(watching, "find_spec", lambda name: None if name == "PIL" else found(name))
    assert not watching_it.wants_pictures
    assert watching_it.left_out() == ["pillow is not installed: pictures in the events are left out"]
    watching_it.close()
