"""Animated sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from brats_seg.editions import get_edition
from brats_seg.errors import UsageError
from brats_seg.reporting.pictures.montage import Look
from brats_seg.reporting.pictures.overlay import label_colors
from brats_seg.reporting.pictures.subjects import Subject, make_subject
from brats_seg.reporting.pictures.sweep import write_sweep

EDITION = get_edition("brats2020")


def subject(shape: tuple[int, int, int] = (12, 20, 16), *, with_labels: bool = True) -> Subject:
    """A brain that fills the grid, an oedema in its slices 2 to 5 at the patient's right front."""
    brain = np.random.default_rng(0).integers(300, 500, shape).astype(np.int16)
    label_map = np.zeros(shape, np.uint8)
    label_map[2:6, 2:8, 2:6] = 2
    label_maps = {"reference": label_map, "prediction": label_map} if with_labels else {}
    return make_subject({"t1c": brain}, np.diag([-1.0, -1.0, 1.0, 1.0]), EDITION, name="a", **label_maps)


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(picture)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_every_slice_is_a_frame_from_foot_to_head(tmp_path, suffix) -> None:
    target = tmp_path / f"a{suffix}"
    assert write_sweep(subject(), target, dpi=60) == 12
    shown = frames(target)
    assert len(shown) == 12
    red, green, blue = (np.array(label_colors(EDITION)["ED"]) * 255).astype(int)
    is_filled = []
    for picture in shown:
        half = picture[int(len(picture) * 0.15) : int(len(picture) * 0.6), picture.shape[1] // 2 :]
        is_filled.append(bool((half[..., 1] - half[..., 0] > 45).sum() > 100))
    assert is_filled == [2 <= k < 6 for k in range(12)]
    assert green > red + 45, "which is how the fill is told"
    assert blue > 0


def test_a_gif_shows_each_frame_for_a_twelfth_of_a_second_and_begins_again(tmp_path) -> None:
    write_sweep(subject(), tmp_path / "a.gif", dpi=40)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.info["loop"] == 0
        assert picture.info["duration"] == pytest.approx(1000 / 12, abs=10)


def test_the_mark_in_the_curve_moves_and_leaves_no_trace(tmp_path) -> None:
    write_sweep(subject(), tmp_path / "a.gif", dpi=100)
    places = []
    for picture in frames(tmp_path / "a.gif"):
        curve = picture[int(0.72 * len(picture)) :]
        is_black = (curve < 40).all(axis=-1).mean(axis=1) > 0.5
        is_bright = (curve[is_black].min(axis=-1) > 100).all(axis=0)
        columns = np.flatnonzero(is_bright[60:-6])  # behind the words, and without the paper's edge
        assert columns.size == 0 or np.ptp(columns) <= 2
        places += [columns.mean()] if columns.size else []
    assert len(places) > 8
    assert (np.diff(places) > 10).all()


def test_of_a_large_volume_every_second_slice_is_shown(tmp_path) -> None:
    assert write_sweep(subject((100, 12, 10)), tmp_path / "a.gif", dpi=30) == 50


@pytest.mark.parametrize(("plane", "num"), [("coronal", 20), ("sagittal", 16)])
def test_other_planes_are_swept_along_their_own_axis(tmp_path, plane, num) -> None:
    assert write_sweep(subject(), tmp_path / "a.gif", plane=plane, dpi=30) == num


def test_an_image_alone_is_one_panel_without_a_curve(tmp_path) -> None:
    write_sweep(subject(with_labels=False), tmp_path / "alone.gif", dpi=30)
    write_sweep(subject(), tmp_path / "both.gif", dpi=30)
    (alone, *_), (both, *_) = (frames(tmp_path / f"{name}.gif") for name in ("alone", "both"))
    assert alone.shape[1] == both.shape[1]
    assert alone.shape[0] > both.shape[0], "one panel of the whole width is taller than two of half of it"


def test_the_dark_theme_is_dark_and_the_width_is_the_one_asked_for(tmp_path) -> None:
    write_sweep(subject(), tmp_path / "a.gif", look=Look(theme="dark", width_mm=50.8), dpi=100)
    (first, *_) = frames(tmp_path / "a.gif")
    assert first.shape[1] == 200
    assert first[-1].max() < 60


def test_another_suffix_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"suffix '.png' is no animation; expected .gif, .webp"):
        write_sweep(subject(), tmp_path / "a.png")
