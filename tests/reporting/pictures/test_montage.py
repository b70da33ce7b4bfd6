"""Whole pictures of a case: what lies where on them, by the colour of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.editions import get_edition
from brats_seg.errors import UsageError
from brats_seg.reporting.pictures.montage import Look, draw_case, draw_montage, draw_overlay, draw_slice
from brats_seg.reporting.pictures.overlay import ERROR_COLORS, label_colors
from brats_seg.reporting.pictures.subjects import Subject, make_subject

EDITION = get_edition("brats2020")
SHAPE = (20, 30, 24)
ED = label_colors(EDITION)["ED"]


def brain_image() -> NDArray[np.int16]:
    brain = np.zeros(SHAPE, np.int16)
    brain[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).integers(300, 500, (16, 26, 20))
    return brain


def subject(affine=None, images=("t1", "t1c", "t2", "flair"), name="a case", **label_maps) -> Subject:
    """A brain that fills the grid but for a rim; (i, j, k) are at (-i, -j, k) mm unless there is an affine."""
    brain = brain_image()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine
    return make_subject(dict.fromkeys(images, brain), affine, EDITION, name=name, **label_maps)


def tumor(
    k: slice = slice(8, 14), j: slice = slice(5, 11), i: slice = slice(4, 10), value: int = 2
) -> NDArray[np.uint8]:
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[k, j, i] = value
    return label_map


def pixels(figure, dpi: int = 100) -> NDArray[np.uint8]:
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def panel(figure, number: int, dpi: int = 100) -> NDArray[np.uint8]:
    """The pixels of one panel."""
    picture = pixels(figure, dpi)
    box = figure.axes[number].get_window_extent()
    height = len(picture)
    return picture[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)]


def colored(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where pixels are no greys."""
    return np.ptp(picture.astype(int), axis=-1) > 40


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the way from top and from left."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean() + 0.5) / mask.shape[0], float(columns.mean() + 0.5) / mask.shape[1]


@pytest.mark.parametrize(
    ("plane", "down", "right"),
    [
        ("axial", (7.5 + 0.5, 30), (6.5 + 0.5, 24)),
        ("coronal", (19 - 10.5 + 0.5, 20), (6.5 + 0.5, 24)),
        ("sagittal", (19 - 10.5 + 0.5, 20), (7.5 + 0.5, 30)),
    ],
)
def test_the_tumour_lies_where_the_affine_puts_it_in_each_plane(plane, down, right) -> None:
    picture = panel(draw_overlay(subject(prediction=tumor()), plane=plane), 0)
    assert middle(colored(picture)) == pytest.approx((down[0] / down[1], right[0] / right[1]), abs=0.01)


def test_the_patient_s_right_is_on_the_left_also_of_a_file_in_ras_order() -> None:
    right = tumor(i=slice(15, 21))  # at high i, which is right where x rises with i
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    down, across = middle(colored(panel(draw_overlay(subject(affine, prediction=right)), 0)))
    assert across == pytest.approx((23 - 17.5 + 0.5) / 24, abs=0.01)
    assert down == pytest.approx((29 - 7.5 + 0.5) / 30, abs=0.01)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_image_lies_below_its_labels(plane) -> None:
    label_map = tumor()
    bright = np.where(label_map > 0, 1000, brain_image()).astype(np.int16)
    one = make_subject({"t1": bright}, np.diag([-1.0, -1.0, 1.0, 1.0]), EDITION)
    spot = panel(draw_slice(one, plane=plane, choice={"axial": 10, "coronal": 8, "sagittal": 7}[plane]), 0)[..., 0]
    labelled = panel(draw_overlay(subject(prediction=label_map), plane=plane), 0)
    inner = np.zeros(spot.shape, bool)
    inner[8:-40, 20:-20] = True  # no letters, no scale bar
    assert middle((spot > 250) & inner) == pytest.approx(middle(colored(labelled)), abs=0.02)


def test_the_prediction_is_filled_and_the_reference_outlined() -> None:
    one = subject(images=("t1c",), reference=tumor(i=slice(3, 8)), prediction=tumor(i=slice(14, 19)))
    picture = panel(draw_overlay(one), 0, dpi=300)
    row = picture[int(8 / 30 * len(picture))].astype(int)
    is_green, is_blue = row[:, 1] - row[:, 2] > 15, row[:, 2] - row[:, 1] > 15
    for mask, ends in ((is_green, (14, 19)), (is_blue, (3, 8))):
        columns = np.flatnonzero(mask) / len(row)
        assert (columns.min(), columns.max()) == pytest.approx((ends[0] / 24, ends[1] / 24), abs=0.01)


def test_voxels_keep_their_proportions() -> None:
    figure = draw_overlay(subject(np.diag([-1.0, -1.0, 3.0, 1.0]), prediction=tumor()), plane="coronal")
    height, width, _ = panel(figure, 0).shape
    assert height / width == pytest.approx(18 * 3 / 24, rel=0.02)  # a rim of one voxel of 3 mm


def test_a_filled_label_has_its_colour_over_the_image() -> None:
    picture = panel(draw_overlay(subject(prediction=tumor())), 0)
    rows, columns = picture.shape[0], picture.shape[1]
    found = picture[int(8 / 30 * rows), int(7 / 24 * columns)] / 255
    greys = (found - 0.6 * np.array(ED)) / 0.4
    assert np.ptp(greys) < 0.05
    assert -0.01 <= greys.mean() <= 1.01


def test_a_montage_has_a_row_a_plane_and_a_column_for_each_thing_to_see() -> None:
    figure = draw_montage(subject(reference=tumor(), prediction=tumor(i=slice(6, 12))))
    assert len(figure.axes) == 3 * 7
    titles = [text.get_text() for text in figure.texts]
    for title in ("T1", "T1c", "T2", "FLAIR", "Reference", "Prediction", "Difference"):
        assert titles.count(title) == 1, title
    tops = {round(axis.get_position().y1, 6) for axis in figure.axes}
    assert len(tops) == 3


def test_one_plane_is_wrapped_into_rows_of_four_with_the_outlines_as_the_last() -> None:
    figure = draw_montage(subject(reference=tumor(), prediction=tumor()), planes=["coronal"])
    assert len(figure.axes) == 8
    assert len({round(axis.get_position().y1, 6) for axis in figure.axes}) == 2
    assert "Outlines" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(("label_maps", "num"), [({}, 4), ({"reference": tumor()}, 5), ({"prediction": tumor()}, 5)])
def test_a_montage_shows_what_there_is(label_maps, num) -> None:
    assert len(draw_montage(subject(**label_maps)).axes) == 3 * num


def test_the_difference_is_missed_on_one_side_and_false_on_the_other() -> None:
    reference, prediction = tumor(i=slice(4, 10)), tumor(i=slice(10, 16))
    picture = panel(draw_montage(subject(reference=reference, prediction=prediction), planes=["axial"]), 6)
    places = {}
    for what in ("missed (FN)", "false (FP)"):
        near = np.abs(picture / 255 - np.array(ERROR_COLORS[what])).max(axis=-1) < 0.12
        places[what] = middle(near)[1]
    assert places["missed (FN)"] == pytest.approx(7 / 24, abs=0.02)
    assert places["false (FP)"] == pytest.approx(13 / 24, abs=0.02)


def test_outlines_are_blue_for_the_reference_and_orange_for_the_prediction() -> None:
    figure = draw_slice(subject(images=("t1c",), reference=tumor(i=slice(3, 8)), prediction=tumor(i=slice(14, 19))))
    picture = panel(figure, 0, dpi=300).astype(int)
    warmth = picture[..., 0] - picture[..., 2]
    for mask, ends in ((warmth < -40, (3, 8)), (warmth > 40, (14, 19))):
        columns = np.flatnonzero(mask.any(axis=0)) / picture.shape[1]
        assert (columns.min(), columns.max()) == pytest.approx((ends[0] / 24, ends[1] / 24), abs=0.01)


def test_the_picture_tells_slice_sides_scale_and_volumes() -> None:
    figure = draw_overlay(subject(reference=tumor(), prediction=tumor(value=4)))
    inside = [text.get_text() for text in figure.axes[0].texts]
    assert inside == ["T1c, axial k = 8", "R", "L", "0.5 cm"]
    around = [text.get_text() for text in figure.texts]
    assert {"a case", "BraTS 2020", "NCR", "ED", "ET", "Reference, mL", "Prediction, mL", "0.2"} <= set(around)
    assert [text for text in around if text.startswith("0.") and len(text) == 5] == ["0.000", "0.000"], "Dice of ET, TC"
    assert "1.000" in around, "Dice of WT"


def test_a_missing_modality_is_told_in_the_picture() -> None:
    one = make_subject(subject().images, np.eye(4), EDITION, notes=["no T2"])
    assert "No T2" in [text.get_text() for text in draw_montage(one).texts]


def test_zoom_shows_the_tumour_s_surroundings() -> None:
    big = np.zeros((60, 100, 100), np.int16)
    big[2:-2, 2:-2, 2:-2] = 100
    label_map = np.zeros(big.shape, np.uint8)
    label_map[30:33, 48:52, 50:54] = 1
    one = make_subject({"t1": big}, np.diag([-1.0, -1, 1, 1]), EDITION, prediction=label_map)
    shares = [
        colored(panel(draw_overlay(one, look=Look(is_zoomed=is_zoomed)), 0)).mean() for is_zoomed in (False, True)
    ]
    assert shares == pytest.approx([16 / 100**2, 16 / 40**2], rel=0.1)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_zoomed_picture_has_the_tumour_in_its_middle(plane) -> None:
    big = np.ones((120, 130, 140), np.int16)
    label_map = np.zeros(big.shape, np.uint8)
    label_map[80:86, 30:36, 50:56] = 2
    one = make_subject({"t1": big}, np.diag([-1.0, -1, 1, 1]), EDITION, prediction=label_map)
    picture = panel(draw_overlay(one, plane=plane, look=Look(is_zoomed=True)), 0)
    assert middle(colored(picture)) == pytest.approx((0.5, 0.5), abs=0.01)


@pytest.mark.parametrize(
    "name", ['O\'Brien "x" & <script>alert(1)</script>', "cost $x_1$ and $", "Müller 脳", "a" * 200, ""]
)
def test_names_are_written_as_they_are(name) -> None:
    figure = draw_case(subject(name=name), kind="slice")
    assert pixels(figure).std() > 0
    assert figure.texts[0].get_text() == name


def test_a_long_name_ends_on_the_sheet() -> None:
    figure = draw_slice(subject(name="BraTS-" * 40))
    pixels(figure)
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_unknown_words_are_named() -> None:
    for words, message in (
        ({"kind": "montag"}, "kind 'montag' is unknown; did you mean montage"),
        ({"plane": "axiall"}, "plane 'axiall' is unknown; did you mean axial"),
        ({"choice": 3}, "slice 3: of which plane"),
        ({"kind": "slice", "modality": "pd"}, r"no pd to draw \(found: t1, t1c, t2, flair\)"),
    ):
        with pytest.raises(UsageError, match=message):
            draw_case(subject(), **words)
