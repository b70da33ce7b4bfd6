"""Training curves."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from brats_seg.reporting.figures import draw_training_curves

HEADER = "step,loss,learning_rate,patches_per_second,dice_ET,dice_mean,iou_ET,iou_mean\n"


def test_curves_are_a_picture_of_the_metrics(tmp_path: Path) -> None:
    metrics, target = tmp_path / "metrics.csv", tmp_path / "curves.png"
    metrics.write_text(
        HEADER + "1,1.5,0.1,2.0,0.1,0.1,0,0\n25,1.2,0.2,2.0,,,,\n50,0.9,0.1,2.0,0.6,0.6,.4,.4\n", encoding="utf-8"
    )
    draw_training_curves(metrics, target)
    first = target.read_bytes()
    with Image.open(target) as image:
        assert image.size[0] > 800
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    metrics.write_text(HEADER + "1,1.5,0.1,2.0,0.1,0.1,0,0\n", encoding="utf-8")
    draw_training_curves(metrics, target)
    assert target.read_bytes() != first


def test_run_without_rows_yet_has_no_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(HEADER, encoding="utf-8")
    draw_training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
