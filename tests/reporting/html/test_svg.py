"""Scales and marks of charts: places by hand, ticks that do not collide, texts that cannot break out."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_seg.reporting.html.svg import Chart, Scale, number_text, rounded_out, steps_between, swarm


def test_places_are_proportional_and_an_axis_may_point_up() -> None:
    scale = Scale(0, 4, 100, 20)
    assert [scale(value) for value in (0, 1, 4)] == [100, 80, 20]


def test_values_beyond_an_axis_lie_on_its_end_and_nan_at_its_start() -> None:
    scale = Scale(0, 1, 10, 20)
    assert [scale(value) for value in (-3, 7, math.inf, math.nan)] == [10, 20, 20, 10]


def test_a_logarithmic_axis_has_equal_room_for_equal_ratios() -> None:
    scale = Scale(1, 100, 0, 10, "log")
    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([0, 5, 10])


def test_a_distance_axis_starts_at_0_and_turns_logarithmic_at_10() -> None:
    scale = Scale(0, 1000, 0, 100, "distance")
    # Half of the room for 0 to 10, evenly; the other half for two decades.
    assert [scale(value) for value in (0, 5, 10, 100, 1000)] == pytest.approx([0, 25, 50, 75, 100])


def test_a_penalty_has_a_tick_whatever_lies_beside_it() -> None:
    scale = Scale(0, 374, 0, 300, "distance", extra_ticks=(374,))
    assert [words for _, words in scale.ticks] == ["0", "5", "10", "30", "100", "374"]  # 300 gives way


def test_infinity_has_a_tick_at_the_end() -> None:
    scale = Scale(0, 50, 0, 300, "distance", has_infinity=True)
    assert scale.ticks[-1] == (math.inf, "∞")
    assert scale(math.inf) == 300


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(60, 600))
def test_texts_of_ticks_never_lie_on_each_other(low: float, span: float, room: float) -> None:
    scale = Scale(low, low + span, 0, room)
    places = [(scale(value), len(words)) for value, words in scale.ticks]
    for (first, long), (second, longer) in pairwise(places):
        assert second - first >= 3.5 * (long + longer)


def test_steps_are_round_numbers() -> None:
    assert steps_between(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert steps_between(-12, 31) == [-10, 0, 10, 20, 30]
    assert steps_between(3, 3) == [3]


def test_logarithmic_ends_are_round_and_enclose_the_values() -> None:
    assert rounded_out(1.7, 79) == pytest.approx((1, 100))
    assert rounded_out(0.3, 0.9) == pytest.approx((0.2, 1))
    assert rounded_out(20, 20) == pytest.approx((20, 200))  # of one value, too


def test_numbers_have_a_true_minus_and_no_needless_digits() -> None:
    assert [number_text(value) for value in (0.2, -5.0, 374.0, 250000, math.inf)] == [
        "0.2",
        "\N{MINUS SIGN}5",
        "374",
        "250k",
        "∞",
    ]


def test_dots_at_one_place_are_spread_and_those_far_apart_are_not() -> None:
    assert swarm([5, 5, 5], room=50, radius=3) == [0, 6, -6]
    assert swarm([0, 10, 20], room=50, radius=3) == [0, 0, 0]


@given(st.lists(st.floats(0, 100), max_size=60))
def test_a_swarm_stays_in_its_row(places: list[float]) -> None:
    assert all(abs(offset) <= 15 + 1e-9 for offset in swarm(places, room=15))


def test_a_chart_is_xml_whatever_its_texts_are() -> None:
    chart = Chart(100, 50, '"><script>alert(1)</script>')
    chart.heading("<b>&", '"y"')
    chart.text(1, 2, "</text><script>")
    for shape in range(4):
        chart.mark(10, 10, series=9, case=3, shape=shape)
    root = ET.fromstring(chart.svg)
    assert "<script>" not in chart.svg
    assert root.attrib["aria-label"] == '"><script>alert(1)</script>'
    assert [one.attrib["data-c"] for one in root if "data-c" in one.attrib] == ["3"] * 4
    assert all(one.attrib["class"] == "d s2" for one in root if "data-c" in one.attrib)  # 9 of 7 colours
