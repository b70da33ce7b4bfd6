"""Reliability, ECE, Brier score and precision-recall: by hand, voxel by voxel, and on draws that are calibrated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from brats_seg.errors import DataError
from brats_seg.evaluation.calibration import (
    NUM_BINS,
    average_precision,
    brier_score,
    count_levels,
    levels_of_probabilities,
    precision_recall,
    reliability,
    sum_counts,
    summarize_calibration,
)


def counts_of(levels: list[int], inside: list[int]) -> np.ndarray:
    """Return the counts of voxels with these levels, `inside` telling (1 or 0) whether the reference has them."""
    return count_levels(np.array(levels, np.uint8), np.array(inside, bool))


# Six voxels: levels 0 0 51 51 204 255, that is p = 0 0 .2 .2 .8 1; the reference has the second, fourth and last.
BY_HAND = counts_of([0, 0, 51, 51, 204, 255], [0, 1, 0, 1, 0, 1])


def test_counts_are_of_every_voxel_by_level_and_reference() -> None:
    assert BY_HAND.shape == (2, 256)
    assert BY_HAND.sum() == 6
    assert [BY_HAND[0, level] for level in (0, 51, 204, 255)] == [1, 1, 1, 0]
    assert [BY_HAND[1, level] for level in (0, 51, 204, 255)] == [1, 1, 0, 1]


def test_reliability_curve_is_as_by_hand() -> None:
    curve = reliability(BY_HAND)
    # Without the first voxel. Bin 1 (p < 1/15): p 0, observed 1. Bin 4 (from .2): p .2, observed 1/2. Bin 13 (from .8):
    # p .8, observed 0. Bin 15: p 1, observed 1.
    assert curve.num_voxels.tolist() == [1, 0, 0, 2, *[0] * 8, 1, 0, 1]
    assert curve.mean_probability[[0, 3, 12, 14]] == pytest.approx([0, 0.2, 0.8, 1])
    assert curve.observed_share[[0, 3, 12, 14]] == pytest.approx([1, 0.5, 0, 1])
    assert np.isnan(curve.mean_probability[1])
    # (1 * 1 + 2 * .3 + 1 * .8 + 0) / 5 voxels
    assert curve.ece == pytest.approx(2.4 / 5)


def test_brier_score_is_as_by_hand() -> None:
    # Squares 1, .04, .64, .64, 0 of five voxels.
    assert brier_score(BY_HAND) == pytest.approx((1 + 0.04 + 0.64 + 0.64) / 5)


def test_precision_recall_curve_is_as_by_hand() -> None:
    curve = precision_recall(BY_HAND)
    assert curve.thresholds.tolist() == [level / 255 for level in range(1, 256)]
    # At least level 255: 1 of 1, of 3 in the reference; from 204: 1 of 2; from 51: 2 of 4, the third is never found.
    for level, precision, recall in ((255, 1, 1 / 3), (205, 1, 1 / 3), (204, 1 / 2, 1 / 3), (51, 1 / 2, 2 / 3)):
        assert (curve.precision[level - 1], curve.recall[level - 1]) == (precision, recall), level
    assert (curve.precision[0], curve.recall[0]) == (1 / 2, 2 / 3)
    assert average_precision(BY_HAND) == pytest.approx(1 / 3 * 1 + 1 / 3 * 1 / 2)


def test_bins_hold_seventeen_levels_and_the_last_one_more() -> None:
    num = reliability(np.ones((2, 256), np.int64)).num_voxels
    assert num.tolist() == [33, *[34] * 13, 36]  # level 0 outside the reference is left out
    assert NUM_BINS == 15


def test_the_background_changes_nothing() -> None:
    padded = BY_HAND.copy()
    padded[0, 0] += 1_000_000
    assert reliability(padded).ece == reliability(BY_HAND).ece
    assert brier_score(padded) == brier_score(BY_HAND)
    assert average_precision(padded) == average_precision(BY_HAND)
    assert reliability(padded).num_voxels.tolist() == reliability(BY_HAND).num_voxels.tolist()


volumes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 16, 17, 50, 128, 200, 254, 255])),
        arrays.arrays(bool, shape),
    )
)


@settings(deadline=None, max_examples=80)
@given(volume=volumes)
def test_numbers_are_those_of_a_loop_over_voxels(volume: tuple[np.ndarray, np.ndarray]) -> None:
    levels, mask = volume
    voxels = [(int(k), bool(y)) for k, y in zip(levels.ravel(), mask.ravel(), strict=True) if k or y]
    counts = count_levels(levels, mask)
    ece, brier = 0.0, 0.0
    for number in range(15):
        # In whole numbers: k / 255 * 15 lies in [number, number + 1), or is 1 in the last bin.
        own = [(k, y) for k, y in voxels if number <= k / 17 < number + 1 or (number == 14 and k == 255)]
        ece += abs(sum(k / 255 - y for k, y in own))
        brier += sum((k / 255 - y) ** 2 for k, y in own)
    if voxels:
        assert reliability(counts).ece == pytest.approx(ece / len(voxels), abs=1e-12)
        assert brier_score(counts) == pytest.approx(brier / len(voxels), abs=1e-12)
    expected = step_sum(voxels)
    assert average_precision(counts) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def step_sum(voxels: list[tuple[int, bool]]) -> float:
    """Return the average precision by walking down the levels that occur, level 0 left out."""
    num = sum(y for _, y in voxels)
    if not num:
        return math.nan
    total, before = 0.0, 0.0
    for level in sorted({k for k, _ in voxels if k}, reverse=True):
        chosen = [y for k, y in voxels if k >= level]
        recall = sum(chosen) / num
        total += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return total


@settings(deadline=None, max_examples=40)
@given(volume=volumes, cut=st.integers(0, 60))
def test_pooled_cases_are_all_at_once(volume: tuple[np.ndarray, np.ndarray], cut: int) -> None:
    levels, mask = (array.ravel() for array in volume)
    parts = [count_levels(levels[part], mask[part]) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(sum_counts(parts), count_levels(levels, mask))


def test_calibrated_draws_have_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    levels = generator.integers(1, 256, 400_000).astype(np.uint8)
    mask = generator.random(levels.size) < levels / 255
    # A bin of about 27,000 draws is off by .5 / sqrt(27,000) = .003 at most on average.
    assert reliability(count_levels(levels, mask)).ece < 0.004
    overconfident = np.where(levels > 127, 255, 1).astype(np.uint8)
    # p = 1 where .75 is true on average, and 0 where .25 is.
    assert reliability(count_levels(overconfident, mask)).ece == pytest.approx(0.25, abs=0.01)


def test_a_perfect_prediction_is_perfect() -> None:
    counts = counts_of([0, 255, 255, 0], [0, 1, 1, 0])
    assert (reliability(counts).ece, brier_score(counts), average_precision(counts)) == (0, 0, 1)


def test_where_nothing_is_predicted_and_nothing_there_all_is_nan() -> None:
    counts = counts_of([0, 0], [0, 0])
    assert np.isnan([reliability(counts).ece, brier_score(counts), average_precision(counts)]).all()
    assert np.isnan(precision_recall(counts).precision).all()
    assert np.isnan(reliability(counts).observed_share).all()


def test_an_empty_reference_has_errors_but_no_recall() -> None:
    counts = counts_of([0, 51], [0, 0])
    assert (reliability(counts).ece, brier_score(counts)) == pytest.approx((0.2, 0.04))
    assert math.isnan(average_precision(counts))
    assert np.isnan(precision_recall(counts).recall).all()


def test_an_empty_prediction_finds_nothing() -> None:
    counts = counts_of([0, 0], [0, 1])
    assert (reliability(counts).ece, brier_score(counts), average_precision(counts)) == (1, 1, 0)


def test_large_volumes_are_counted_to_the_last_voxel() -> None:
    generator = np.random.default_rng(1)
    levels = generator.integers(0, 256, (7, 131, 173)).astype(np.uint8)
    mask = generator.random(levels.shape) < 0.3
    expected = np.stack([np.bincount(levels[mask == inside], minlength=256) for inside in (False, True)])
    np.testing.assert_array_equal(count_levels(levels, mask), expected)
    np.testing.assert_array_equal(count_levels(levels[..., ::2], mask[..., ::2]).sum(), levels[..., ::2].size)


def test_float_probabilities_are_rounded_to_the_nearest_level() -> None:
    values = np.array([0, 0.0019, 0.00197, 0.5, 0.999, 1, 1 + 1e-7, -1e-8], np.float32)
    # 255 p = 0, .48, .502, 127.5 (to the even 128), 254.745, 255; rounding beyond the ends is cut.
    assert levels_of_probabilities(values).tolist() == [0, 0, 1, 128, 255, 255, 255, 0]
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(levels_of_probabilities(every.astype(np.float32) / np.float32(255)), every)
    assert levels_of_probabilities(np.zeros((0, 2), np.float32)).shape == (0, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "nan among the values, expected probabilities from 0 to 1"),
        (4.0, "values from 0 to 4, expected probabilities"),
        (-0.1, r"values from -0\.1 to 0, expected probabilities"),
        (math.inf, "values from 0 to inf, expected probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        levels_of_probabilities(np.array([0.0, value], np.float32))


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"levels uint8 \(2,\) and mask bool \(3,\), expected uint8 and bool of one"):
        count_levels(np.zeros(2, np.uint8), np.zeros(3, bool))
    with pytest.raises(DataError, match="levels float32"):
        count_levels(np.zeros(2, np.float32), np.zeros(2, bool))
    with pytest.raises(DataError, match="mask uint8"):
        count_levels(np.zeros(2, np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="no counts to pool"):
        sum_counts([])


def test_summary_has_every_region() -> None:
    summary = summarize_calibration(np.stack([BY_HAND, counts_of([0], [0])]), ["ET", "WT"])
    assert summary["ET"] == {
        "ece": pytest.approx(0.48),
        "average_precision": pytest.approx(0.5),
        "brier": pytest.approx(0.464),
        "num_voxels": 5,
        "num_reference_voxels": 3,
    }
    assert summary["WT"]["num_voxels"] == 0
    assert math.isnan(summary["WT"]["ece"])
