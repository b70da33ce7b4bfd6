"""Presence or absence: against SciPy, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from brats_seg.errors import DataError
from brats_seg.evaluation.presence import (
    Samples,
    _weighted,
    area_under_curve,
    best_threshold,
    presence_summary,
    roc_curve,
    wilson_interval,
)

AREAS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([area for area, _ in pairs]), np.array([is_there for _, is_there in pairs])


def test_curve_by_hand() -> None:
    # positives of 0, 5, 9 voxels, negatives of 0, 0, 5, 2
    areas, present = arrays([(0, True), (5, True), (9, True), (0, False), (0, False), (5, False), (2, False)])
    thresholds, sensitivity, specificity = roc_curve(areas, present)
    assert thresholds.tolist() == [10, 9, 5, 2, 0]
    np.testing.assert_allclose(sensitivity, [0, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(specificity, [1, 1, 3 / 4, 1 / 2, 0])
    # pairs: 9 wins 4, 5 wins 3 and ties 1, 0 ties 2
    assert area_under_curve(areas, present) == pytest.approx((4 + 3.5 + 1) / 12)


@given(pairs=AREAS)
def test_area_is_scipys_mann_whitney_statistic_and_the_trapezoids_under_the_curve(
    pairs: list[tuple[int, bool]],
) -> None:
    areas, present = arrays(pairs)
    auc = area_under_curve(areas, present)
    if present.all() or not present.any():
        assert math.isnan(auc)
        return
    theirs = stats.mannwhitneyu(areas[present], areas[~present]).statistic / (present.sum() * (~present).sum())
    assert auc == pytest.approx(theirs)
    _, sensitivity, specificity = roc_curve(areas, present)
    assert auc == pytest.approx(np.trapezoid(sensitivity, 1 - specificity))


@given(pairs=AREAS)
def test_best_threshold_is_no_worse_than_any_other(pairs: list[tuple[int, bool]]) -> None:
    areas, present = arrays(pairs)
    best = best_threshold(areas, present)
    assert best >= 1
    if present.all() or not present.any():
        assert best == 1
        return

    def youden(threshold: int) -> float:
        called = areas >= threshold
        return float(called[present].mean() + (~called)[~present].mean())

    others = [youden(threshold) for threshold in range(1, 23)]
    assert youden(best) == pytest.approx(max(others))
    assert best == 1 + next(n for n, value in enumerate(others) if value == pytest.approx(max(others)))


@given(num=st.integers(1, 60), data=st.data())
def test_interval_of_a_share_is_scipys(num: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, num))
    theirs = stats.binomtest(hits, num).proportion_ci(method="wilson")
    assert wilson_interval(hits, num) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_interval_of_nothing_is_unknown() -> None:
    assert all(map(math.isnan, wilson_interval(0, 0)))


@settings(max_examples=50)
@given(pairs=AREAS, data=st.data())
def test_a_sample_that_counts_twice_is_two_samples(pairs: list[tuple[int, bool]], data: st.DataObject) -> None:
    areas, present = arrays(pairs)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(areas), max_size=len(areas))))
    levels, level = np.unique(areas, return_inverse=True)
    samples = Samples.of(areas, present, [str(n) for n in range(len(areas))])
    values = _weighted(samples, weights, levels >= 4, level)
    many, there = np.repeat(areas, weights), np.repeat(present, weights)
    expected = (
        (many[there] >= 4).mean() if there.any() else math.nan,
        (many[~there] < 4).mean() if (~there).any() else math.nan,
        area_under_curve(many, there),
    )
    np.testing.assert_allclose(values, expected)


def test_summary_counts_at_the_threshold() -> None:
    samples = Samples.of([0, 3, 9, 0, 4, 1], [1, 1, 1, 0, 0, 0], list("abcdef"))
    found = presence_summary(samples, 3)
    assert [found[name] for name in ("tp", "fp", "fn", "tn", "num", "num_present")] == [2, 1, 1, 2, 6, 3]
    assert found["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert (found["sensitivity"]["ci95_low"], found["sensitivity"]["ci95_high"]) == wilson_interval(2, 3)
    assert found["auc"]["ci95_low"] <= found["auc"]["value"] <= found["auc"]["ci95_high"]
    assert presence_summary(samples, 3) == found


def test_slices_of_one_case_are_drawn_together_so_that_their_interval_is_wider() -> None:
    # ten cases of ten slices; in each case either all slices with tumour are found or none
    areas = np.repeat([5, 0] * 5, 10)
    together = presence_summary(Samples.of(areas, np.ones(100), np.repeat(np.arange(10), 10).astype(str).tolist()), 1)
    apart = presence_summary(Samples.of(areas, np.ones(100), [str(n) for n in range(100)]), 1)
    assert together["interval"] == "bootstrap of cases"
    assert apart["interval"].startswith("Wilson")

    def width(found: dict) -> float:
        return found["sensitivity"]["ci95_high"] - found["sensitivity"]["ci95_low"]

    # the share of 5 of 10 whole cases has about sqrt(10) times the error of 50 of 100
    assert 2.5 < width(together) / width(apart) < 3.5


def test_a_perfect_share_of_slices_has_the_interval_of_so_many_cases() -> None:
    found = presence_summary(Samples.of([5, 5, 5, 5], [1, 1, 1, 1], ["a", "a", "b", "b"]), 1)
    assert (found["sensitivity"]["ci95_low"], found["sensitivity"]["ci95_high"]) == wilson_interval(2, 2)
    assert math.isnan(found["specificity"]["value"])
    assert math.isnan(found["auc"]["ci95_low"])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="expected one number, answer and case a sample"):
        Samples.of([1, 2], [True], ["a", "b"])
