"""What is drawn over an image: outlines, colours, errors."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from brats_seg.editions import EDITIONS, get_edition
from brats_seg.errors import UsageError
from brats_seg.reporting.pictures.overlay import ERROR_COLORS, LINE_COLORS, Cut, label_colors, outlines, scale_bar_mm
from brats_seg.reporting.pictures.subjects import make_subject

SHAPE = (3, 8, 9)


def area_of(points: NDArray[np.float64]) -> float:
    """Signed area of a closed polygon (Gauss)."""
    rows, columns = points.T
    return float(np.sum(columns[:-1] * rows[1:] - columns[1:] * rows[:-1]) / 2)


def test_the_outline_of_a_rectangle_runs_along_the_edges_of_its_pixels_and_cuts_its_corners() -> None:
    mask = np.zeros((7, 9), bool)
    mask[2:5, 3:7] = True
    (points,) = outlines(mask)
    np.testing.assert_array_equal(points[0], points[-1])
    assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([2, 3], [5, 7])
    assert abs(area_of(points)) == 3 * 4 - 4 * 0.125  # a corner is a triangle of half a pixel by half a pixel


def test_a_hole_runs_the_other_way_round() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[4, 4] = False
    outer, hole = sorted((area_of(points) for points in outlines(mask)), key=abs, reverse=True)
    assert outer * hole < 0


def test_an_outline_is_closed_at_the_border_and_there_is_none_of_nothing() -> None:
    (points,) = outlines(np.ones((2, 3), bool))
    assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([0, 0], [2, 3])
    assert outlines(np.zeros((2, 3), bool)) == []


@settings(max_examples=50, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_outlines_hold_the_middle_of_every_pixel_of_the_mask_and_of_no_other(mask) -> None:
    from matplotlib.path import Path

    rows, columns = np.indices(mask.shape)
    middles = np.stack([rows.ravel(), columns.ravel()], axis=1) + 0.5
    inside = sum((Path(points).contains_points(middles).astype(int) for points in outlines(mask)), np.zeros(mask.size))
    np.testing.assert_array_equal(inside.reshape(mask.shape) % 2 == 1, mask)


def test_colors_of_itk_snap_are_those_of_the_edition() -> None:
    assert label_colors(get_edition("brats2020"), "itksnap") == {"NCR": (1, 0, 0), "ED": (0, 1, 0), "ET": (1, 1, 0)}
    with pytest.raises(UsageError, match="colors 'pretty': expected one of safe, itksnap"):
        label_colors(get_edition("brats2020"), "pretty")


# Linear RGB as protanopes and deuteranopes see it (Vienot, Brettel and Mollon 1999).
_VISIONS = {
    "normal": np.eye(3),
    "protanope": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranope": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


@pytest.mark.parametrize("vision", _VISIONS)
def test_colors_are_told_apart_whatever_the_colour_vision(vision) -> None:
    def seen(color: tuple[float, ...]) -> NDArray[np.float64]:
        return np.clip(_VISIONS[vision] @ np.array(color) ** 2.2, 0, 1) ** (1 / 2.2)

    palettes = [label_colors(edition) for edition in EDITIONS.values()]
    for palette in (*palettes, ERROR_COLORS, LINE_COLORS):
        for first, second in combinations(palette.values(), 2):
            assert np.linalg.norm(seen(first) - seen(second)) > 0.2, (vision, palette)


def test_every_label_of_an_edition_has_a_color_of_its_own() -> None:
    for edition in EDITIONS.values():
        assert len(set(label_colors(edition).values())) == len(edition.labels), edition.name


def test_errors_are_missed_false_and_other_label() -> None:
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[1, 2, :4] = 2, 2, 4, 4
    prediction[1, 2, 1:5] = 2, 1, 4, 1
    image = {"t1": np.ones(SHAPE, np.int16)}
    one = make_subject(
        image, np.diag([-1.0, -1, 1, 1]), get_edition("brats2020"), reference=reference, prediction=prediction
    )
    errors = Cut(one, "axial", 1, one.box).errors()
    assert list(errors) == list(ERROR_COLORS)
    assert [np.flatnonzero(mask[2]).tolist() for mask in errors.values()] == [[0], [4], [2]]


def test_the_scale_bar_is_a_round_length_of_at_most_a_third() -> None:
    assert [scale_bar_mm(body) for body in (180, 150, 149, 45, 6.5, 0.5)] == [50, 50, 20, 10, 2, 1]
