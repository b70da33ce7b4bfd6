"""Charts of cases and curves: every case is a mark at its place, undefined and infinite values included."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import Markup

from brats_seg.evaluation.saved import SavedEvaluation, read_evaluation
from brats_seg.reporting.html.charts import draw_agreement, draw_by_volume, draw_distribution, letter_of
from brats_seg.reporting.html.curves import (
    draw_loss,
    draw_precision_recall,
    draw_reliability,
    draw_validation,
    draw_validation_of_run,
    validated_regions,
)
from brats_seg.reporting.html.sources import Calibration, TrainingRun

Write = Callable[..., Path]


def marks(svg: Markup) -> list[ET.Element]:
    return [one for one in ET.fromstring(svg) if "data-c" in one.attrib]


def texts(svg: Markup) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter("text")]


@pytest.fixture
def one(tmp_path: Path, write_evaluation: Write) -> SavedEvaluation:
    """Three cases; ET is 0.0, 0.5, 1.0."""
    dice = {"a": (0.0, 0.4, 0.8), "b": (0.5, 0.5, 0.5), "c": (1.0, 0.6, 0.9)}
    return read_evaluation(write_evaluation(tmp_path / "one", dice))


def test_evaluations_have_letters() -> None:
    assert [letter_of(n) for n in (0, 1, 25, 26, 27)] == ["A", "B", "Z", "AA", "AB"]


def test_every_case_is_a_dot_in_every_region(one: SavedEvaluation) -> None:
    found = marks(draw_distribution([one], "dice", "Dice", is_distance=False))
    assert [mark.attrib["data-c"] for mark in found] == ["0", "1", "2"] * 3
    places = [float(mark.attrib["cx"]) for mark in found[:3]]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)  # 0, 0.5, 1


def test_the_median_is_told_at_the_rows_end(one: SavedEvaluation) -> None:
    assert {"0.500", "0.800"} <= set(texts(draw_distribution([one], "dice", "Dice", is_distance=False)))


def test_undefined_values_are_no_dots_and_infinite_ones_lie_at_the_end(tmp_path: Path, write_evaluation: Write) -> None:
    values = {"a": math.nan, "b": math.inf, "c": 4.0}
    dice = dict.fromkeys(values, (0.5, 0.5, 0.5))
    folder = write_evaluation(tmp_path, dice, protocol="plain", hd95_mm=lambda case, _: values[case])
    svg = draw_distribution([read_evaluation(folder)], "hd95_mm", "HD95", is_distance=True)
    assert [mark.attrib["data-c"] for mark in marks(svg)[:2]] == ["1", "2"]
    assert "∞" in texts(svg)


def test_a_metric_that_is_undefined_everywhere_is_told(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path, {"a": (0.5, 0.5, 0.5)}, protocol="plain", hd95_mm=math.nan)
    svg = draw_distribution([read_evaluation(folder)], "hd95_mm", "HD95", is_distance=True)
    assert texts(svg).count("undefined in every case") == 3


def test_a_penalty_that_several_cases_share_has_its_tick(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path, dict.fromkeys("abc", (0.5, 0.5, 0.5)), hd95_mm=373.13)
    assert "373.13" in texts(draw_distribution([read_evaluation(folder)], "hd95_mm", "HD95", is_distance=True))


def test_cases_without_the_region_are_not_over_its_volume(tmp_path: Path, write_evaluation: Write) -> None:
    sizes = {"a": 0.0, "b": 3.0, "c": 30.0}
    folder = write_evaluation(tmp_path, dict.fromkeys(sizes, (0.5, 0.5, 0.5)), reference_ml=lambda case, _: sizes[case])
    svg = draw_by_volume([read_evaluation(folder)], 0)
    assert [mark.attrib["data-c"] for mark in marks(svg)] == ["1", "2"]
    assert {"2", "5", "10", "20", "50"} <= set(texts(svg))


def test_a_region_that_no_case_has_gives_an_empty_chart(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path, {"a": (0.5, 0.5, 0.5)}, reference_ml=0.0, prediction_ml=0.0)
    evaluation = read_evaluation(folder)
    assert marks(draw_by_volume([evaluation], 0)) == []
    assert len(marks(draw_agreement([evaluation], 0))) == 1


def test_bias_and_limits_of_agreement_are_told(tmp_path: Path, write_evaluation: Write) -> None:
    # Predicted minus reference is 1, 2, 3 ml: bias 2, sd 1, limits 2 +- 1.96.
    sizes = {"a": 11.0, "b": 12.0, "c": 13.0}
    folder = write_evaluation(
        tmp_path,
        dict.fromkeys(sizes, (0.5, 0.5, 0.5)),
        reference_ml=10.0,
        prediction_ml=lambda case, _: sizes[case],
    )
    svg = draw_agreement([read_evaluation(folder)], 0)
    assert {"+2.0", "+4.0", "+0.0"} <= set(texts(svg))
    heights = [float(mark.attrib["cy"]) for mark in marks(svg)]
    assert heights == sorted(heights, reverse=True)  # more is higher


def test_several_evaluations_have_marks_of_their_own(one: SavedEvaluation) -> None:
    for svg in (draw_by_volume([one, one], 0), draw_agreement([one, one], 0)):
        found = marks(svg)
        assert [mark.tag for mark in found] == ["circle"] * 3 + ["path"] * 3
        assert {mark.attrib["class"] for mark in found} == {"d s0", "d s1"}
    assert [words[0] for words in texts(draw_agreement([one, one], 0)) if words.startswith(("A ", "B "))] == ["A", "B"]
    letters = [
        words for words in texts(draw_distribution([one, one], "dice", "Dice", is_distance=False)) if words in "AB"
    ]
    assert letters == ["A", "B"] * 3


def run_of(folder: str, **curves: tuple[tuple[float, ...], tuple[float, ...]]) -> TrainingRun:
    return TrainingRun(Path(folder), curves, {}, {}, {})


def test_training_curves_are_lines_over_the_steps() -> None:
    run = run_of("a", loss=((1, 2, 3), (0.9, 0.5, 0.4)), dice_ET=((1, 3), (0.1, 0.7)), dice_mean=((1,), (0.1,)))
    assert validated_regions([run]) == ["ET"]
    assert draw_loss([run]).count('class="curve') == 1
    assert draw_validation([run, run], "ET").count('class="curve') == 2
    assert "ET" in texts(draw_validation_of_run(run, ["ET"]))


def test_a_run_that_logged_nothing_yet_gives_an_empty_chart() -> None:
    assert 'class="curve' not in draw_loss([run_of("a")])


def test_long_curves_are_thinned_but_keep_their_end() -> None:
    steps = tuple(float(step) for step in range(5000))
    svg = draw_loss([run_of("a", loss=(steps, steps))])
    assert len(svg) < 12_000
    path = next(one for one in ET.fromstring(svg) if one.attrib["class"].startswith("curve"))
    assert path.attrib["d"].split("L")[-1].startswith("338.0 ")


def test_calibration_has_a_curve_an_evaluation_that_has_one() -> None:
    own = Calibration({"ET": ((0.1, 0.9), (0.2, 0.8))}, {"ET": ((0.5, 1.0), (1.0, 0.5))}, {}, "")
    assert draw_reliability([own, None, own], "ET").count('class="curve') == 2
    assert draw_reliability([own], "ET").count('class="p ') == 2
    assert draw_precision_recall([own], "ET").count('class="curve') == 1
    assert 'class="curve' not in draw_precision_recall([own], "WT")
