"""metrics.csv: columns, and what a resume keeps of it."""

from __future__ import annotations

from pathlib import Path

from brats_seg.training.metrics import append_row, columns_of, cut_rows, score_columns
from brats_seg.training.validation import Scores

OLD = "step,loss,learning_rate,patches_per_second,dice_ET,dice_WT,dice_mean"
NEW = OLD + ",iou_ET,iou_WT,iou_mean"


def test_iou_stands_behind_the_dice_columns() -> None:
    assert ",".join(columns_of(["ET", "WT"])) == NEW


def test_scores_fill_their_columns_and_no_validation_leaves_them_empty() -> None:
    scores = Scores(dice={"ET": 0.5, "mean": 0.5}, iou={"ET": 0.25, "mean": 0.25})
    assert score_columns(scores, ["ET"]) == {"dice_ET": 0.5, "dice_mean": 0.5, "iou_ET": 0.25, "iou_mean": 0.25}
    assert set(score_columns(None, ["ET"]).values()) == {""}


def test_rows_behind_the_state_and_half_a_row_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for step in (1, 25, 50):
        append_row(path, {"step": step, "loss": 0.5})
    path.write_text(path.read_text() + "2")
    cut_rows(path, 25, ["step", "loss"])
    assert path.read_text() == "step,loss\n1,0.5\n25,0.5\n"


def test_run_that_was_begun_without_iou_gets_its_columns_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(OLD + "\n1,2,3,4,.5,.6,.7\n25,2,3,4,,,\n")
    cut_rows(path, 25, columns_of(["ET", "WT"]))
    assert path.read_text() == NEW + "\n1,2,3,4,.5,.6,.7,,,\n25,2,3,4,,,,,,\n"
