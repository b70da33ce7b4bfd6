"""Are saved probabilities true? Reliability curve, expected calibration error, Brier score, precision-recall curve.

Arrays in, records out; the files of a folder are read in `probabilities`. A case becomes counts of voxels by level of
probability and reference (`count_levels`), cases are pooled by adding them, and every number comes from the counts:

    counts = sum_counts(count_case(...) for each case)         # (region, 2, 256)
    reliability(counts[0]).ece, average_precision(counts[0])   # of the first region

Levels: `predict` writes probabilities as uint8, p = level / 255. Other values are rounded to the nearest level, an
error of at most 1/510, so that the same network scores alike whatever type its probabilities were saved in.

Which voxels count: those whose level is above 0 or that belong to the region in the reference. Everywhere else (most
of the grid) probability and reference are both 0. Such voxels add nothing to the sums of |p - observed| and (p - y)^2,
only to the number that those are divided by, so counting them makes any model look calibrated, the more so the larger
the background: on a 240 x 240 x 155 grid by a factor of a hundred. Left out, grid and crop do not matter. All cases
of a set are pooled voxel by voxel, so large tumours weigh more.

Sources: Guo et al. 2017 (ECE); Mehrtash et al. 2020 (calibration of segmentations, in boxes around the structure for
the same reason); average precision as scikit-learn defines it, the step sum without interpolation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import DataError

__all__ = [
    "NUM_BINS",
    "NUM_LEVELS",
    "PrecisionRecall",
    "Reliability",
    "average_precision",
    "brier_score",
    "count_levels",
    "levels_of_probabilities",
    "precision_recall",
    "reliability",
    "sum_counts",
    "summarize_calibration",
]

NUM_LEVELS: Final = 256
"""Levels of probability: 0/255 to 255/255."""

NUM_BINS: Final = 15
"""Bins of equal width of the reliability curve; each holds 17 of the 255 steps exactly, the last also level 255."""

_TOLERANCE = 1e-6
"""How far outside 0 to 1 rounding in float32 may carry a probability."""

_VOXELS_AT_ONCE = 1 << 16
"""Voxels counted together: `bincount` widens its input to 8 bytes, which then stays in the cache."""

_PROBABILITIES = np.arange(NUM_LEVELS) / (NUM_LEVELS - 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability curve of one region: what was predicted and what was observed, a bin of probability at a time."""

    mean_probability: NDArray[np.float64]
    """(15,): mean probability of the bin's voxels; nan where there is none."""
    observed_share: NDArray[np.float64]
    """(15,): share of them that belong to the region in the reference; nan where there is none."""
    num_voxels: NDArray[np.int64]
    """(15,)."""
    ece: float
    """Expected calibration error: |mean probability - observed share| averaged over voxels; nan without voxels."""


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """The precision-recall curve of one region: voxels of at least each threshold count as predicted."""

    thresholds: NDArray[np.float64]
    """(255,): 1/255 to 1, ascending; 0 is left out, for it predicts the whole grid."""
    precision: NDArray[np.float64]
    """(255,): TP / (TP + FP); nan where nothing is predicted."""
    recall: NDArray[np.float64]
    """(255,): TP / (TP + FN); nan where the reference is empty."""


def levels_of_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return probabilities of any shape as levels 0 to 255, each rounded to the nearest.

    Raises:
        DataError: a value is nan or outside 0 to 1.
    """
    if not probabilities.size:
        return np.zeros(probabilities.shape, np.uint8)
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # nan fails this, too
        what = "nan among the values" if np.isnan(low) else f"values from {low:g} to {high:g}"
        raise DataError(f"{what}, expected probabilities from 0 to 1")
    levels: NDArray[np.uint8] = np.rint(probabilities * np.float32(NUM_LEVELS - 1)).clip(0, 255).astype(np.uint8)
    return levels


def count_levels(levels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many voxels have each level, (2, 256) int64: row 0 outside the reference's region, row 1 inside.

    Args:
        levels: uint8, any shape (K, J, I); C-contiguous for speed.
        mask: bool of that shape, the region in the reference.

    Raises:
        DataError: the shapes or types are others.
    """
    if levels.shape != mask.shape or levels.dtype != np.uint8 or mask.dtype != np.bool_:
        raise DataError(
            f"levels {levels.dtype} {levels.shape} and mask {mask.dtype} {mask.shape}, expected uint8 and bool of one "
            "shape; `levels_of_probabilities` makes levels"
        )
    flat = levels.ravel()
    every = np.zeros(NUM_LEVELS, np.int64)
    for start in range(0, flat.size, _VOXELS_AT_ONCE):
        every += np.bincount(flat[start : start + _VOXELS_AT_ONCE], minlength=NUM_LEVELS)
    inside = np.bincount(levels[mask], minlength=NUM_LEVELS)
    return np.stack([every - inside, inside])


def sum_counts(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the counts (..., 2, 256) of several cases pooled; those of all of them at once are the same.

    Raises:
        DataError: there are none.
    """
    arrays = list(counts)
    if not arrays:
        raise DataError("no counts to pool, expected those of one case or more")
    total: NDArray[np.int64] = np.sum(arrays, axis=0)
    return total


def reliability(counts: NDArray[np.int64]) -> Reliability:
    """Return the reliability curve and ECE of counts (2, 256); the module says which voxels count.

    Bin b of 15 holds the probabilities from b/15 up to, not with, (b + 1)/15; the last one also 1.
    """
    own = _counted(counts)
    bins = np.minimum(np.arange(NUM_LEVELS) * NUM_BINS // (NUM_LEVELS - 1), NUM_BINS - 1)
    num = np.bincount(bins, own.sum(axis=0), NUM_BINS)
    predicted = np.bincount(bins, own.sum(axis=0) * _PROBABILITIES, NUM_BINS)
    observed = np.bincount(bins, own[1], NUM_BINS)
    total = float(num.sum())
    with np.errstate(invalid="ignore"):  # 0 / 0
        return Reliability(
            mean_probability=predicted / num,
            observed_share=observed / num,
            num_voxels=num.astype(np.int64),
            ece=float(np.abs(predicted - observed).sum()) / total if total else float("nan"),
        )


def brier_score(counts: NDArray[np.int64]) -> float:
    """Return the mean of (p - y)^2 of counts (2, 256) over the voxels that count; nan without any."""
    own = _counted(counts)
    errors = own[0] * _PROBABILITIES**2 + own[1] * (1 - _PROBABILITIES) ** 2
    return float(errors.sum()) / float(own.sum()) if own.any() else float("nan")


def precision_recall(counts: NDArray[np.int64]) -> PrecisionRecall:
    """Return the precision-recall curve of counts (2, 256)."""
    fp, tp = np.cumsum(counts[:, ::-1], axis=1)[:, -2::-1]  # voxels of at least level 1, 2, ... 255
    with np.errstate(invalid="ignore"):  # 0 / 0
        return PrecisionRecall(_PROBABILITIES[1:], tp / (tp + fp), tp / counts[1].sum())


def average_precision(counts: NDArray[np.int64]) -> float:
    """Return the area under the precision-recall curve of counts (2, 256) as a step sum; nan for an empty reference.

    Voxels of the reference with level 0 are never found: scikit-learn, which lets threshold 0 find them, adds their
    share times the prevalence on its grid, and so depends on the grid.
    """
    curve = precision_recall(counts)
    if not counts[1].any():
        return float("nan")
    gained = curve.recall - np.append(curve.recall[1:], 0.0)
    return float((gained * np.nan_to_num(curve.precision)).sum())


def summarize_calibration(counts: NDArray[np.int64], regions: Sequence[str]) -> Mapping[str, dict[str, float | int]]:
    """Return ECE, average precision and Brier score a region, with the voxels behind them, as `summary.json` takes it.

    `counts` are (region, 2, 256), pooled over cases.
    """
    return {
        region: {
            "ece": reliability(own).ece,
            "average_precision": average_precision(own),
            "brier": brier_score(own),
            "num_voxels": int(_counted(own).sum()),
            "num_reference_voxels": int(own[1].sum()),
        }
        for region, own in zip(regions, counts, strict=True)
    }


def _counted(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts without the voxels that are 0 in probability and reference."""
    own = counts.copy()
    own[0, 0] = 0
    return own
