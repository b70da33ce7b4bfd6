"""Two models on the same cases: difference, wins, and whether chance explains it.

Arrays in, records out. The Wilcoxon signed-rank test and the permutation test of ranks are one computation, the
distribution of a sum of whole numbers whose signs are tossed: done exactly, with ties, where SciPy's exact test knows
none (equal differences are common, both 0 or both 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_seg.errors import DataError
from brats_seg.evaluation.ranking import NUM_RESAMPLES, Ranking, Scores, resampled_counts

__all__ = [
    "MOST_EXACT",
    "PairedTest",
    "RankTest",
    "SignedRank",
    "compare_pairs",
    "compare_ranks",
    "holm",
    "order_of_models",
    "sign_flip_p_value",
    "signed_rank_test",
]

MOST_EXACT = 50
"""Differences that are not 0 up to which the signed-rank test is exact; normal approximation beyond."""


@dataclass(frozen=True)
class SignedRank:
    """Result of a two-sided Wilcoxon signed-rank test."""

    statistic: float
    """The smaller of the rank sums of positive and of negative differences."""
    p_value: float
    num_nonzero: int
    """Differences that are not 0, which are those tested."""
    method: Literal["exact", "normal"]


@dataclass(frozen=True)
class PairedTest:
    """Two models in one region and metric; `first` is the one that the ranking places higher."""

    first: str
    second: str
    region: str
    metric: str
    num_cases: int
    num_defined: int
    """Cases where both values are finite: those of the difference and its interval."""
    mean_difference: float
    """Mean of first - second, in the metric's unit; nan where no case is defined."""
    ci95_low: float
    """Percentiles of the mean difference over bootstrap samples of the cases."""
    ci95_high: float
    wins: int
    """Cases in which `first` is better, undefined values ordered as in the ranking; so for ties and losses."""
    ties: int
    losses: int
    statistic: float
    p_value: float
    """Of the signed-rank test over all cases, undefined values ordered as in the ranking."""
    p_holm: float
    """The same, corrected over all pairs, regions and metrics of the comparison."""
    method: Literal["exact", "normal"]


@dataclass(frozen=True)
class RankTest:
    """Two models by their ranks over all regions and metrics: the permutation test."""

    first: str
    second: str
    num_cases: int
    mean_difference: float
    """Mean rank of first - second; negative where `first` is better."""
    wins: int
    """Cases in which the mean rank of `first` is lower."""
    ties: int
    losses: int
    p_value: float
    p_holm: float
    """Corrected over all pairs."""


def signed_rank_test(differences: ArrayLike) -> SignedRank:
    """Return the two-sided Wilcoxon signed-rank test of paired differences (case,).

    Differences of 0 are left out (Wilcoxon's own way), equal sizes share their mean rank, infinite ones are the
    largest. Up to 50 that are not 0 the p-value is exact, given the ties; beyond, normal with the variance that the
    ties leave and without continuity correction, as SciPy's `asymptotic` is. Nothing but zeros gives p = 1.

    Raises:
        DataError: a difference is nan.
    """
    values = np.asarray(differences, np.float64).ravel()
    if np.isnan(values).any():
        raise DataError("a difference is nan, expected numbers or infinity; leave out or order undefined values first")
    values = values[values != 0]
    ranks = _mean_ranks(np.abs(values))
    positive, negative = float(ranks[values > 0].sum()), float(ranks[values < 0].sum())
    if values.size <= MOST_EXACT:
        doubled = np.rint(2 * ranks).astype(np.int64)  # mean ranks are halves at most
        return SignedRank(
            min(positive, negative), sign_flip_p_value(np.where(values > 0, doubled, -doubled)), values.size, "exact"
        )
    z = (positive - negative) / math.sqrt(float((ranks**2).sum()))
    return SignedRank(min(positive, negative), math.erfc(abs(z) / math.sqrt(2)), values.size, "normal")


def sign_flip_p_value(values: NDArray[np.int64]) -> float:
    """Return how likely random signs make the sum of `values` at least as far from 0 as it is: exact, two-sided.

    `values` are whole numbers (case,); work grows with their number times the sum of their sizes. None gives 1.
    """
    sizes = np.sort(np.abs(values[values != 0]))
    if not sizes.size:
        return 1.0
    unit = int(np.gcd.reduce(sizes))
    sizes //= unit
    observed = abs(int(values.sum())) // unit
    shares = np.ones(1)  # of each sum of the values that came out positive, from 0 up
    for size in sizes:
        grown = np.zeros(shares.size + size)
        grown[: shares.size] = shares
        grown[size:] += shares
        shares = grown / 2
    sums = 2 * np.arange(shares.size) - (shares.size - 1)
    return min(1.0, float(shares[np.abs(sums) >= observed].sum()))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values (test,) corrected by Holm's step-down method over all of them, in their order.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none falls below one before it, or above 1.
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    scaled = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1)))
    adjusted = np.empty_like(raw)
    adjusted[order] = scaled
    return adjusted


def order_of_models(scores: Scores, ranking: Ranking) -> list[int]:
    """Return the indices of the models from the best mean rank to the worst, equal ones by name."""
    return sorted(range(len(scores.models)), key=lambda model: (ranking.mean_ranks[model], scores.models[model]))


def compare_pairs(
    scores: Scores, ranking: Ranking, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> list[PairedTest]:
    """Return each pair of models in each region and metric, the better placed model first, pairs in that order.

    The signed-rank test and the counts are over all cases, with undefined values ordered as in the ranking (an
    undefined value beside a defined one is an infinite difference, the largest rank: a worst-rank analysis, Lachin
    1999). A mean of infinities says nothing, so difference and interval are over the cases where both are finite.
    """
    pairs = list(itertools.combinations(order_of_models(scores, ranking), 2))
    if not pairs:
        return []
    first, second = (list(side) for side in zip(*pairs, strict=True))
    with np.errstate(invalid="ignore"):  # inf - inf
        raw = scores.values[first] - scores.values[second]  # (pair, case, region, metric)
        ordered = scores.ordered[first] - scores.ordered[second]
    ordered[scores.ordered[first] == scores.ordered[second]] = 0
    means, low, high = _mean_with_interval(np.moveaxis(raw, 1, 0), num_resamples, seed)
    places = list(itertools.product(range(len(pairs)), range(len(scores.regions)), range(len(scores.metrics))))
    tests = [signed_rank_test(ordered[pair, :, region, metric]) for pair, region, metric in places]
    corrected = holm([test.p_value for test in tests])
    results = []
    for (pair, region, metric), test, p_holm in zip(places, tests, corrected, strict=True):
        place = pair, region, metric
        differences = ordered[pair, :, region, metric]
        results.append(
            PairedTest(
                first=scores.models[first[pair]],
                second=scores.models[second[pair]],
                region=scores.regions[region],
                metric=scores.metrics[metric].name,
                num_cases=len(scores.cases),
                num_defined=int(np.isfinite(raw[pair, :, region, metric]).sum()),
                mean_difference=float(means[place]),
                ci95_low=float(low[place]),
                ci95_high=float(high[place]),
                **_counts(differences),
                statistic=test.statistic,
                p_value=test.p_value,
                p_holm=float(p_holm),
                method=test.method,
            )
        )
    return results


def compare_ranks(scores: Scores, ranking: Ranking) -> list[RankTest]:
    """Return the permutation test of each pair of models, the better placed first, pairs in that order.

    The ranks of two models are swapped at random in each case; p is the probability that their mean ranks then differ
    at least as much as they do. The challenge tests pairs by permutation since 2017 (PermRanker), but the details that
    could be found leave room: counting all swaps rather than random ones, two sides and Holm's correction are ours.
    """
    order = order_of_models(scores, ranking)
    sums = ranking.case_sums
    pairs = list(itertools.combinations(order, 2))
    p_values = [sign_flip_p_value(sums[first] - sums[second]) for first, second in pairs]
    return [
        RankTest(
            first=scores.models[first],
            second=scores.models[second],
            num_cases=len(scores.cases),
            mean_difference=float(ranking.mean_ranks[first] - ranking.mean_ranks[second]),
            **_counts(sums[second] - sums[first]),
            p_value=p_value,
            p_holm=float(p_holm),
        )
        for (first, second), p_value, p_holm in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def _counts(differences: NDArray[np.float64] | NDArray[np.int64]) -> dict[str, int]:
    """Return wins, ties and losses; a positive difference is a win."""
    return {
        "wins": int((differences > 0).sum()),
        "ties": int((differences == 0).sum()),
        "losses": int((differences < 0).sum()),
    }


def _mean_ranks(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, ascending; equal sizes share the mean of theirs."""
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    ranks: NDArray[np.float64] = means[inverse]
    return ranks


def _mean_with_interval(
    differences: NDArray[np.float64], num_resamples: int, seed: int
) -> Sequence[NDArray[np.float64]]:
    """Return mean, 2.5th and 97.5th percentile of its bootstrap, over the cases (first axis) that are finite.

    A sample without any finite case does not count; where no case is finite, all three are nan.
    """
    shape = differences.shape[1:]
    flat = differences.reshape(len(differences), -1)
    is_finite = np.isfinite(flat)
    values, weights = np.where(is_finite, flat, 0.0), is_finite.astype(np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0
        mean = values.sum(axis=0) / weights.sum(axis=0)
        samples = [
            (counts @ values) / (counts @ weights) for counts in resampled_counts(len(flat), num_resamples, seed)
        ]
    means = np.concatenate(samples)
    bounds = np.full((2, flat.shape[1]), np.nan)
    for column in np.flatnonzero(is_finite.any(axis=0)):
        own = means[:, column]
        bounds[:, column] = np.percentile(own[~np.isnan(own)], [2.5, 97.5])
    return mean.reshape(shape), bounds[0].reshape(shape), bounds[1].reshape(shape)
