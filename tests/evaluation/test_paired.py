"""Paired tests: by hand, by counting all signs, and against SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.errors import DataError
from brats_seg.evaluation.paired import (
    MOST_EXACT,
    compare_pairs,
    compare_ranks,
    holm,
    order_of_models,
    sign_flip_p_value,
    signed_rank_test,
)
from brats_seg.evaluation.ranking import Scores, metrics_named, rank_models


def scores_of(*models: list[float], metric: str = "dice", nothing_missed: np.ndarray | None = None) -> Scores:
    """Return the scores of models a, b, c ... in one region and metric."""
    values = np.array(models, float)[..., None, None]
    cases = tuple(f"case{number}" for number in range(values.shape[1]))
    return Scores(tuple("abcdef"[: len(models)]), cases, ("ET",), metrics_named([metric]), values, nothing_missed)


def p_by_all_signs(values: list[int]) -> float:
    """Return the two-sided p-value by counting all 2**n signs."""
    signs = itertools.product((-1, 1), repeat=len(values))
    sums = [abs(sum(sign * abs(value) for sign, value in zip(one, values, strict=True))) for one in signs]
    return sum(total >= abs(sum(values)) for total in sums) / len(sums)


def test_signed_rank_test_of_four_is_as_by_hand() -> None:
    # Sizes 1 2 3 4 have ranks 1 2 3 4; the negative sum is 1, the positive one 9. Of 16 signs, four give sums of at
    # most 1 on one side (none, or only rank 1, for either sign): p = 4 / 16.
    result = signed_rank_test([2.0, -1.0, 3.0, 4.0])
    assert (result.statistic, result.p_value, result.num_nonzero, result.method) == (1.0, 0.25, 4, "exact")


def test_zeros_are_left_out_and_ties_share_their_mean_rank() -> None:
    # Left: 1 1 -2, ranks 1.5 1.5 3: both sums are 3, the middle of the distribution.
    result = signed_rank_test([0.0, 1.0, 1.0, -2.0, 0.0])
    assert (result.statistic, result.p_value, result.num_nonzero) == (3.0, 1.0, 3)
    # 1 1 2, ranks 1.5 1.5 3: 6 against 0, which two of eight signs give.
    assert signed_rank_test([1.0, 1.0, 2.0]).p_value == 0.25


def test_no_difference_at_all_is_no_evidence() -> None:
    result = signed_rank_test([0.0, 0.0])
    assert (result.statistic, result.p_value, result.num_nonzero) == (0.0, 1.0, 0)


def test_infinite_differences_are_the_largest() -> None:
    assert signed_rank_test([math.inf, -1.0, 2.0]) == signed_rank_test([9.0, -1.0, 2.0])


def test_a_difference_that_is_nan_is_refused() -> None:
    with pytest.raises(DataError, match="a difference is nan, expected numbers or infinity"):
        signed_rank_test([1.0, math.nan])


@pytest.mark.parametrize("size", [6, 13, MOST_EXACT])
def test_signed_rank_test_is_scipys_exact_one(size: int) -> None:
    from scipy.stats import wilcoxon

    values = np.random.default_rng(size).normal(0.3, 1, size)
    expected = wilcoxon(values, method="exact")
    result = signed_rank_test(values)
    assert (result.statistic, result.method) == (expected.statistic, "exact")
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)


def test_many_differences_with_ties_and_zeros_are_scipys_normal_approximation() -> None:
    from scipy.stats import wilcoxon

    values = np.random.default_rng(3).integers(-6, 9, 300).astype(float)
    expected = wilcoxon(values, method="asymptotic", zero_method="wilcox", correction=False)
    result = signed_rank_test(values)
    assert (result.statistic, result.method) == (expected.statistic, "normal")
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)


def test_exact_and_normal_agree_where_one_takes_over_from_the_other() -> None:
    values = np.random.default_rng(4).normal(0.2, 1, MOST_EXACT + 1)
    assert (signed_rank_test(values).method, signed_rank_test(values[:-1]).method) == ("normal", "exact")
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    exact = sign_flip_p_value(np.where(values > 0, ranks, -ranks))
    assert signed_rank_test(values).p_value == pytest.approx(exact, abs=0.01)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_exact_p_value_is_the_share_of_all_signs(values: list[int]) -> None:
    assert sign_flip_p_value(np.array(values)) == pytest.approx(p_by_all_signs(values), rel=1e-12)
    assert sign_flip_p_value(6 * np.array(values)) == sign_flip_p_value(np.array(values))


def test_signs_of_nothing_give_one() -> None:
    assert sign_flip_p_value(np.zeros(0, np.int64)) == 1
    assert sign_flip_p_value(np.zeros(3, np.int64)) == 1


def test_holm_is_as_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04; none may fall below the one before: .04 .06 .06 .06.
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.6, 0.5]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


def test_pair_has_difference_wins_and_test_in_the_order_of_the_ranking() -> None:
    # Dice of a and b: b is better by .1 in three cases, equal in one, worse by .2 in one.
    scores = scores_of([0.5, 0.5, 0.5, 0.5, 0.75], [0.625, 0.625, 0.625, 0.5, 0.5])
    (test,) = compare_pairs(scores, rank_models(scores))
    assert (test.first, test.second, test.region, test.metric) == ("b", "a", "ET", "dice")
    assert (test.wins, test.ties, test.losses) == (3, 1, 1)
    assert test.mean_difference == pytest.approx((3 * 0.125 - 0.25) / 5)
    # Ranks 2 2 2 against 4: sums 6 and 4. No signs of 2 2 2 4 come nearer than that (all sums are even, half of 10 is
    # odd), so p = 1.
    assert (test.statistic, test.p_value, test.p_holm, test.method) == (4.0, 1.0, 1.0, "exact")
    assert (test.num_cases, test.num_defined) == (5, 5)


def test_lower_is_better_for_distances() -> None:
    scores = scores_of([3.0, 3.0, 5.0], [1.0, 2.0, 7.0], metric="hd95_mm")
    (test,) = compare_pairs(scores, rank_models(scores))
    assert (test.first, test.wins, test.ties, test.losses) == ("b", 2, 0, 1)
    assert test.mean_difference == pytest.approx(-1 / 3)


def test_undefined_values_lose_and_stay_out_of_the_difference() -> None:
    nothing_missed = np.zeros((2, 4, 1), bool)
    nothing_missed[0, 3] = True
    nan, inf = math.nan, math.inf
    # HD95. Case 0: 1 against 2. Case 1: nan against 4, lost. Case 2: inf against nan, equal. Case 3: nothing missed.
    scores = scores_of([1.0, nan, inf, nan], [2.0, 4.0, nan, 3.0], metric="hd95_mm", nothing_missed=nothing_missed)
    (test,) = compare_pairs(scores, rank_models(scores))
    assert (test.first, test.wins, test.ties, test.losses) == ("a", 2, 1, 1)
    assert (test.num_defined, test.mean_difference, test.ci95_low, test.ci95_high) == (1, -1.0, -1.0, -1.0)
    # Sizes 1, inf, inf: ranks 1 2.5 2.5; for a: 1 + 2.5, against: 2.5.
    assert test.statistic == 2.5


def test_a_difference_that_is_nowhere_defined_is_nan() -> None:
    scores = scores_of([math.nan, 1.0], [1.0, math.nan])
    (test,) = compare_pairs(scores, rank_models(scores))
    assert test.num_defined == 0
    assert np.isnan([test.mean_difference, test.ci95_low, test.ci95_high]).all()


def test_interval_of_the_difference_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(5).normal(0.8, 0.1, (2, 300))
    scores = scores_of(*values.tolist())
    (test,) = compare_pairs(scores, rank_models(scores))
    differences = values[0] - values[1] if test.first == "a" else values[1] - values[0]
    error = differences.std() / math.sqrt(300)
    assert test.ci95_high - test.ci95_low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert test.mean_difference == pytest.approx(differences.mean())
    assert test.ci95_low < test.mean_difference < test.ci95_high


def test_holm_is_over_all_pairs_regions_and_metrics() -> None:
    generator = np.random.default_rng(6)
    values = generator.normal(0.8, 0.1, (3, 9, 2, 2)) + np.array([0, 0.05, 0.1])[:, None, None, None]
    metrics = metrics_named(["dice", "iou"])
    scores = Scores(("a", "b", "c"), tuple(map(str, range(9))), ("ET", "WT"), metrics, values)
    tests = compare_pairs(scores, rank_models(scores))
    assert [(t.first, t.second, t.region, t.metric) for t in tests[:3]] == [
        ("c", "b", "ET", "dice"),
        ("c", "b", "ET", "iou"),
        ("c", "b", "WT", "dice"),
    ]
    assert len(tests) == 3 * 2 * 2
    assert [t.p_holm for t in tests] == pytest.approx(holm([t.p_value for t in tests]))


def test_permutation_test_swaps_whole_cases() -> None:
    # Ranks of two models in one metric: a first in five of six cases, so sums differ by -1 five times and by 1 once.
    # Of 2**6 swaps those with at least five alike are 2 * (6 + 1): p = 14 / 64.
    scores = scores_of([0.9] * 5 + [0.1], [0.5] * 6)
    (test,) = compare_ranks(scores, rank_models(scores))
    assert (test.first, test.wins, test.ties, test.losses) == ("a", 5, 0, 1)
    assert test.p_value == 14 / 64
    assert test.mean_difference == pytest.approx(-4 / 6)


def test_permutation_test_is_what_random_swaps_give() -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(0.8, 0.1, (2, 40, 3, 2)) + np.array([0, 0.02])[:, None, None, None]
    metrics = metrics_named(["dice", "iou"])
    scores = Scores(("a", "b"), tuple(map(str, range(40))), ("ET", "TC", "WT"), metrics, values)
    ranking = rank_models(scores)
    (test,) = compare_ranks(scores, ranking)
    first, second = ranking.case_sums
    flips = generator.choice([-1, 1], (20_000, 40))
    share = (np.abs(flips @ (first - second)) >= abs((first - second).sum())).mean()
    assert test.p_value == pytest.approx(share, abs=0.015)


def test_equal_models_are_in_the_order_of_their_names() -> None:
    scores = scores_of([0.5], [0.9], [0.9])
    assert order_of_models(scores, rank_models(scores)) == [1, 2, 0]
