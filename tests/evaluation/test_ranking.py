"""The challenge's ranking: worked out by hand, by loops over SciPy's ranks, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from brats_seg.errors import DataError, UsageError
from brats_seg.evaluation.protocols import PROTOCOLS
from brats_seg.evaluation.ranking import (
    Ranking,
    Scores,
    default_metrics,
    is_metric,
    metrics_named,
    rank_models,
    resampled_counts,
)

METRICS = metrics_named(["dice", "hd95_mm"])


def scores_of(values: np.ndarray, is_nothing_missed: np.ndarray | None = None) -> Scores:
    """Return scores (model, case, region, metric) under made-up names; metrics are Dice, then HD95."""
    models, cases, regions, metrics = values.shape
    return Scores(
        tuple("abcdefgh"[:models]),
        tuple(f"case{number}" for number in range(cases)),
        ("ET", "TC", "WT")[:regions],
        METRICS[:metrics],
        values.astype(np.float64),
        is_nothing_missed,
    )


# 3 models, 2 cases, 1 region, Dice and HD95.
# Case 1: Dice .9 .8 .8 -> ranks 1 2 2; HD95 3 1 2   -> 3 1 2.
# Case 2: Dice .5 .7 nan -> ranks 2 1 3; HD95 inf 4 nan -> 2 1 2: undefined is as bad as infinite.
# Sums of a case: a 4 4, b 3 2, c 4 5. Means of four ranks: a 2, b 1.25, c 2.25.
BY_HAND = np.array(
    [
        [[[0.9, 3.0]], [[0.5, math.inf]]],
        [[[0.8, 1.0]], [[0.7, 4.0]]],
        [[[0.8, 2.0]], [[math.nan, math.nan]]],
    ]
)


def test_three_models_on_two_cases_rank_as_by_hand() -> None:
    ranking = rank_models(scores_of(BY_HAND))
    assert ranking.case_ranks[:, :, 0].tolist() == [[[1, 3], [2, 2]], [[2, 1], [1, 1]], [[2, 2], [3, 2]]]
    assert ranking.mean_ranks.tolist() == [2.0, 1.25, 2.25]
    assert ranking.ranks.tolist() == [2, 1, 3]
    assert ranking.case_sums.tolist() == [[4, 4], [3, 2], [4, 5]]
    assert ranking.mean_ranks_by_measure[:, 0].tolist() == [[1.5, 2.5], [1.5, 1.0], [2.5, 2.0]]


def test_bootstrap_of_two_cases_is_as_by_hand() -> None:
    ranking = rank_models(scores_of(BY_HAND))
    # Samples: case 1 twice, one of each, case 2 twice: b has 6, 5 or 4 in four ranks, a always 8, c 8, 9 or 10.
    assert ranking.ci95_low.tolist() == [2.0, 1.0, 2.0]
    assert ranking.ci95_high.tolist() == [2.0, 1.5, 2.5]
    assert ranking.share_first.tolist() == [0, 1, 0]


def test_models_that_tie_in_a_sample_share_it() -> None:
    # Each is first in one case: one sample in four has only the case of a, one only that of b, in two they tie.
    ranking = rank_models(scores_of(np.array([[0.9, 0.5], [0.5, 0.9]])[..., None, None]))
    assert ranking.ranks.tolist() == [1, 1]
    assert ranking.share_first == pytest.approx([0.5, 0.5], abs=0.02)
    assert ranking.share_first.sum() == pytest.approx(1)


def test_an_undefined_value_is_the_best_where_both_masks_are_empty() -> None:
    # Reference empty in the only case: a predicts nothing (Dice nan), b invents a lesion (Dice 0), c has no file.
    values = np.array([math.nan, 0.0, math.nan]).reshape(3, 1, 1, 1)
    nothing_missed = np.array([True, False, False]).reshape(3, 1, 1)
    assert rank_models(scores_of(values, nothing_missed)).ranks.tolist() == [1, 2, 3]
    assert rank_models(scores_of(values)).ranks.tolist() == [2, 1, 2]


def test_a_value_that_is_undefined_for_all_is_a_tie() -> None:
    assert rank_models(scores_of(np.full((3, 2, 1, 2), math.nan))).case_ranks.tolist() == np.ones((3, 2, 1, 2)).tolist()


def test_a_defined_value_does_not_become_the_best_where_both_masks_are_empty() -> None:
    values = np.array([0.0, 1.0]).reshape(2, 1, 1, 1)
    assert rank_models(scores_of(values, np.ones((2, 1, 1), bool))).ranks.tolist() == [2, 1]


def test_ranks_are_those_of_scipy_and_a_loop() -> None:
    from scipy.stats import rankdata

    values = np.random.default_rng(1).integers(0, 4, (5, 7, 3, 2)).astype(float)
    sums = np.zeros(5)
    for case in range(7):
        for region in range(3):
            sums += rankdata(-values[:, case, region, 0], "min") + rankdata(values[:, case, region, 1], "min")
    ranking = rank_models(scores_of(values))
    np.testing.assert_array_equal(ranking.mean_ranks, sums / (7 * 3 * 2))
    np.testing.assert_array_equal(ranking.ranks, rankdata(sums, "min"))


small_scores = arrays.arrays(
    np.float64,
    st.tuples(st.integers(2, 4), st.integers(1, 5), st.just(2), st.just(2)),
    elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, math.inf, math.nan]),
)


def quick(scores: Scores) -> Ranking:
    """Rank with few bootstrap samples."""
    return rank_models(scores, num_resamples=50)


@settings(deadline=None, max_examples=50)
@given(values=small_scores, data=st.data())
def test_order_of_the_models_does_not_matter(values: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    one, other = quick(scores_of(values)), quick(scores_of(values[order]))
    for name in ("case_ranks", "mean_ranks", "ranks", "ci95_low", "ci95_high", "share_first"):
        np.testing.assert_array_equal(getattr(one, name)[order], getattr(other, name), err_msg=name)


@settings(deadline=None, max_examples=50)
@given(values=small_scores)
def test_a_copy_of_a_model_ties_with_it(values: np.ndarray) -> None:
    ranking = quick(scores_of(np.concatenate([values, values[:1]])))
    for name in ("case_ranks", "mean_ranks", "ranks", "ci95_low", "share_first"):
        np.testing.assert_array_equal(getattr(ranking, name)[0], getattr(ranking, name)[-1], err_msg=name)


@settings(deadline=None, max_examples=50)
@given(values=small_scores)
def test_monotone_transforms_of_a_metric_keep_every_rank(values: np.ndarray) -> None:
    changed = np.stack([np.exp(values[..., 0]), 3 * values[..., 1] + 7], axis=-1)
    np.testing.assert_array_equal(quick(scores_of(values)).case_ranks, quick(scores_of(changed)).case_ranks)


@settings(deadline=None, max_examples=50)
@given(values=small_scores)
def test_share_first_sums_to_one_and_intervals_hold_the_mean(values: np.ndarray) -> None:
    ranking = rank_models(scores_of(values), num_resamples=300)
    assert ranking.share_first.sum() == pytest.approx(1)
    assert (ranking.ci95_low <= ranking.ci95_high).all()
    assert (ranking.ci95_low >= 1).all()


def test_bootstrap_interval_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(2).normal(size=(2, 400, 1, 1))
    ranking = rank_models(scores_of(values))
    error = ranking.case_ranks[0].std() / math.sqrt(400)
    assert ranking.ci95_high[0] - ranking.ci95_low[0] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_samples_draw_each_case_as_often_on_average_and_are_the_same_each_time() -> None:
    counts = np.concatenate(list(resampled_counts(4, 1300)))
    assert counts.shape == (1300, 4)
    assert set(counts.sum(axis=1)) == {4}
    assert counts.mean(axis=0) == pytest.approx([1, 1, 1, 1], abs=0.1)
    np.testing.assert_array_equal(counts, np.concatenate(list(resampled_counts(4, 1300))))
    assert not np.array_equal(counts, np.concatenate(list(resampled_counts(4, 1300, seed=1))))


@pytest.mark.parametrize(
    ("name", "is_higher_better"),
    [
        ("dice", True),
        ("lesionwise_dice", True),
        ("instance_nsd", True),
        ("nsd_1mm", True),
        ("lesionwise_nsd_0_5mm", True),
        ("f1", True),
        ("hd95_mm", False),
        ("lesionwise_hd95_mm", False),
        ("instance_hd95_mm", False),
        ("assd_mm", False),
        ("num_fp", False),
    ],
)
def test_a_metric_knows_its_direction(name: str, is_higher_better: bool) -> None:
    assert [metric.is_higher_better for metric in metrics_named([name])] == [is_higher_better]


def test_volumes_and_counts_of_voxels_are_no_metrics() -> None:
    assert not [name for name in ("case", "reference_ml", "prediction_voxels", "protocol") if is_metric(name)]


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"metric 'dise' is not there; did you mean dice\? \(known: dice, iou\)"):
        metrics_named(["dise"], ["case", "dice", "iou"])
    with pytest.raises(UsageError, match="'hd95_mm' is not there"):
        metrics_named(["hd95_mm"], ["dice"])
    with pytest.raises(UsageError, match="'dice' is named twice"):
        metrics_named(["dice", "dice"])


def test_every_protocol_has_metrics_to_rank_by() -> None:
    assert default_metrics("brats2020") == ("dice", "hd95_mm")
    assert default_metrics("brats2023") == ("lesionwise_dice", "lesionwise_hd95_mm")
    assert all(is_metric(name) for protocol in PROTOCOLS.values() for name in protocol.ranked_by)
    with pytest.raises(UsageError, match="protocol 'own' has no metrics to rank by; name them with --metrics"):
        default_metrics("own")


def test_scores_that_do_not_fit_their_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 0, 1, 1\), expected \(2, 0, 1, 1\) .* none 0"):
        scores_of(np.zeros((2, 0, 1, 1)))
    with pytest.raises(DataError, match=r"shape \(1, 2, 1, 1\), expected \(2, 1, 1, 1\)"):
        Scores(("a", "b"), ("x",), ("ET",), METRICS[:1], np.zeros((1, 2, 1, 1)))
    with pytest.raises(DataError, match=r"is_nothing_missed of shape \(1,\), expected \(2, 3, 1\)"):
        scores_of(np.zeros((2, 3, 1, 1)), np.zeros(1, bool))
