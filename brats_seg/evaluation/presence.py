"""Presence or absence of tumour, told from segmentations: an area threshold, sensitivity, specificity, ROC and AUC.

Arrays in, numbers out. A sample (a slice, a case) is called positive where at least so many voxels of the region are
predicted, and is positive where the reference has any. A threshold chosen on the samples that are scored flatters them:
choose it on validation data. Intervals (95 %): Wilson's for shares of samples that are independent (one a case);
percentiles of 2000 bootstrap samples of whole cases where a case has several samples, and for every AUC. A share of 0
or 1 has no such percentiles; its interval is then Wilson's of as many samples as there are cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_seg.errors import DataError

__all__ = ["Samples", "area_under_curve", "best_threshold", "presence_summary", "roc_curve", "wilson_interval"]

_NUM_RESAMPLES = 2000
_Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Samples:
    """What was predicted and what is true of each sample."""

    areas: NDArray[np.int64]
    """(N,): predicted voxels."""
    present: NDArray[np.bool_]
    """(N,): whether the reference has any."""
    cases: tuple[str, ...]
    """N names: samples of one case are not independent of each other."""

    @classmethod
    def of(cls, areas: ArrayLike, present: ArrayLike, cases: Sequence[str]) -> Samples:
        """Return samples of anything like arrays.

        Raises:
            DataError: the lengths differ, or there are no samples.
        """
        samples = cls(np.asarray(areas, np.int64), np.asarray(present, bool), tuple(cases))
        lengths = {samples.areas.shape, samples.present.shape, (len(samples.cases),)}
        if len(lengths) > 1 or not samples.cases:
            raise DataError(f"presence: lengths {sorted(lengths)}, expected one number, answer and case a sample")
        return samples


def roc_curve(
    areas: NDArray[np.int64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds (voxels), sensitivity and specificity at each, from the strictest to 0 voxels (all positive).

    The first threshold is one voxel over the largest area: nothing is positive. Shares of no samples are nan.
    """
    thresholds = np.unique(np.append(areas, [0, int(areas.max()) + 1]))[::-1]
    positive, negative = np.sort(areas[present]), np.sort(areas[~present])
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = 1 - np.searchsorted(positive, thresholds) / np.float64(len(positive))
        specificity = np.searchsorted(negative, thresholds) / np.float64(len(negative))
    return thresholds, sensitivity, specificity


def area_under_curve(areas: NDArray[np.int64], present: NDArray[np.bool_]) -> float:
    """Return the chance that a positive sample has the larger area than a negative one, ties counted half.

    That is the area under the ROC curve, and the Mann-Whitney statistic; nan without samples of both kinds.
    """
    positive, negative = areas[present], np.sort(areas[~present])
    if not (positive.size and negative.size):
        return math.nan
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / 2 / (positive.size * negative.size))


def best_threshold(areas: NDArray[np.int64], present: NDArray[np.bool_]) -> int:
    """Return the threshold, 1 voxel or more, of the largest sensitivity + specificity (Youden); the least of equals.

    Without samples of both kinds there is nothing to choose by, and the answer is 1.
    """
    positive, negative = np.sort(areas[present]), np.sort(areas[~present])
    if not (positive.size and negative.size):
        return 1
    # The least of the thresholds that tell the same apart is one more than an area; whole numbers have exact ties.
    thresholds = np.unique(np.append(areas, 0)) + 1
    found = positive.size - np.searchsorted(positive, thresholds)
    passed = np.searchsorted(negative, thresholds)
    return int(thresholds[int(np.argmax(found * negative.size + passed * positive.size))])


def wilson_interval(num_hits: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; nan of nothing."""
    if not num:
        return math.nan, math.nan
    share, square = num_hits / num, _Z * _Z
    middle = (share + square / (2 * num)) / (1 + square / num)
    half = _Z * math.sqrt(share * (1 - share) / num + square / (4 * num * num)) / (1 + square / num)
    return max(0.0, middle - half), min(1.0, middle + half)


def presence_summary(samples: Samples, threshold: int) -> dict[str, Any]:
    """Return counts, sensitivity, specificity, accuracy and AUC at a threshold, with 95 % intervals.

    Args:
        samples: at least one.
        threshold: voxels from which a sample is called positive, at least 1.
    """
    called = samples.areas >= threshold
    tp, fn = int((called & samples.present).sum()), int((~called & samples.present).sum())
    fp, tn = int((called & ~samples.present).sum()), int((~called & ~samples.present).sum())
    is_clustered = len(set(samples.cases)) < len(samples.cases)
    resampled = _resampled(samples, threshold)
    intervals = {name: _percentiles(values) for name, values in resampled.items()}
    for name, hits, misses, of in (("sensitivity", tp, fn, samples.present), ("specificity", tn, fp, ~samples.present)):
        if not is_clustered:
            intervals[name] = wilson_interval(hits, hits + misses)
        elif not (hits and misses):
            num_cases = len({case for case, is_of in zip(samples.cases, of, strict=True) if is_of})
            intervals[name] = wilson_interval(num_cases if hits else 0, num_cases)
    values = {
        "sensitivity": tp / (tp + fn) if tp + fn else math.nan,
        "specificity": tn / (tn + fp) if tn + fp else math.nan,
        "auc": area_under_curve(samples.areas, samples.present),
    }
    return {
        "threshold_voxels": threshold,
        "num": len(samples.cases),
        "num_present": tp + fn,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "accuracy": (tp + tn) / len(samples.cases),
        **{
            name: {"value": value, "ci95_low": intervals[name][0], "ci95_high": intervals[name][1]}
            for name, value in values.items()
        },
        "interval": "bootstrap of cases" if is_clustered else "Wilson (shares), bootstrap of cases (AUC)",
    }


def _resampled(samples: Samples, threshold: int) -> dict[str, NDArray[np.float64]]:
    """Return sensitivity, specificity and AUC of each bootstrap sample of cases, (_NUM_RESAMPLES,)."""
    names = {name: number for number, name in enumerate(dict.fromkeys(samples.cases))}
    owner = np.array([names[name] for name in samples.cases])
    levels, level = np.unique(samples.areas, return_inverse=True)
    rng = np.random.default_rng(0)
    values = np.full((_NUM_RESAMPLES, 3), math.nan)
    for row in values:
        weights = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[owner]
        row[:] = _weighted(samples, weights, levels >= threshold, level)
    return dict(zip(("sensitivity", "specificity", "auc"), values.T, strict=True))


def _weighted(
    samples: Samples, weights: NDArray[np.int64], is_called: NDArray[np.bool_], level: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return sensitivity, specificity and AUC where each sample counts `weights` times.

    Args:
        samples: N of them.
        weights: (N,).
        is_called: whether each of the different areas, ascending, is called positive.
        level: (N,): which of the areas a sample has.
    """
    positive = np.bincount(level, weights * samples.present, len(is_called))
    negative = np.bincount(level, weights * ~samples.present, len(is_called))
    num_positive, num_negative = float(positive.sum()), float(negative.sum())
    sensitivity = float(positive[is_called].sum() / num_positive) if num_positive else math.nan
    specificity = float(negative[~is_called].sum() / num_negative) if num_negative else math.nan
    if not (num_positive and num_negative):
        return sensitivity, specificity, math.nan
    below = np.cumsum(negative) - negative / 2
    return sensitivity, specificity, float((positive * below).sum() / (num_positive * num_negative))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
