"""What stands under a picture."""

from __future__ import annotations

import numpy as np
import pytest

from brats_seg.editions import get_edition
from brats_seg.reporting.pictures.legend import LINE_MM, legend_of, titled
from brats_seg.reporting.pictures.overlay import ERROR_COLORS, LINE_COLORS, label_colors
from brats_seg.reporting.pictures.sheets import THEMES, Sheet
from brats_seg.reporting.pictures.subjects import Subject, make_subject

EDITION = get_edition("brats2024-gli")


def subject(*names: str) -> Subject:
    label_maps = {name: np.ones((2, 3, 4), np.uint8) for name in names}
    return make_subject({"t1": np.ones((2, 3, 4))}, np.eye(4), EDITION, **label_maps)


def full(width_mm: float) -> Sheet:
    legend = legend_of(
        subject("reference", "prediction"), fills=label_colors(EDITION), lines=LINE_COLORS, errors=ERROR_COLORS
    )
    sheet = Sheet(width_mm, legend.height_mm(width_mm) + 2, THEMES["light"])
    legend.draw(sheet, 1, 1, width_mm - 2)
    return sheet


@pytest.mark.parametrize("width_mm", [60, 88, 120, 180, 300])
def test_no_text_lies_on_another_or_off_the_sheet(width_mm) -> None:
    figure = full(width_mm).figure
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    for number, box in enumerate(boxes):
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height
        for other in boxes[:number]:
            overlap = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap) <= 0.5


def test_a_wide_sheet_needs_three_lines_and_a_narrow_one_more() -> None:
    legend = legend_of(subject("reference", "prediction"), fills=label_colors(EDITION), errors=ERROR_COLORS)
    assert legend.height_mm(180) == pytest.approx(3 * LINE_MM)
    assert legend.height_mm(60) == pytest.approx((3 + 2 + 1) * LINE_MM)


def test_nothing_to_tell_takes_no_room() -> None:
    assert legend_of(subject(), fills={}).height_mm(100) == 0


def test_a_title_keeps_its_other_letters() -> None:
    assert titled("missed (FN)") == "Missed (FN)"
