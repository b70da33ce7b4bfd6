"""Our scores against a plain second implementation (SciPy erosion and distance maps on the whole volume), and laws.

The masks are random and adversarial: on the border of the volume, all tumour, stripes, single voxels.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from brats_seg.editions import get_edition
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.surface import assd, hd95_pooled, nsd, surface_distances

EDITION = get_edition("brats2020")
LABELS = {"ET": [4], "TC": [1, 4], "WT": [1, 2, 4], "NCR": [1], "ED": [2]}
SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.5, 0.7), (0.4, 0.9, 2.5)]


def plain_scores(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Return all metrics of two masks that are not empty, by the formulas on the whole volume."""
    tp = int((reference & prediction).sum())
    fp, fn = int((prediction & ~reference).sum()), int((reference & ~prediction).sum())
    tn = int((~reference & ~prediction).sum())
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction)]
    there, back = (ndimage.distance_transform_edt(~to, sampling=spacing)[of] for of, to in (borders, reversed(borders)))
    pooled = np.hstack([there, back])
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "iou": tp / (tp + fp + fn),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp) if tn + fp else math.nan,
        "precision": tp / (tp + fp),
        "hd95_mm": float(np.percentile(pooled, 95)),
        "assd_mm": float(np.mean(pooled)),
        "nsd_1mm": float((np.mean(there <= 1) + np.mean(back <= 1)) / 2),
        "reference_voxels": tp + fn,
        "prediction_voxels": tp + fp,
    }


def blobs(seed: int, shape: tuple[int, int, int] = (24, 28, 20)) -> np.ndarray:
    """Return a label map of smooth nested blobs, cut off by the border of the volume."""
    field = ndimage.gaussian_filter(np.random.RandomState(seed).standard_normal(shape), 2.5)
    field /= field.std()
    return np.select([field > 1.6, field > 1.2, field > 0.6], [4, 1, 2], 0).astype(np.uint8)


def adversarial() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return pairs of label maps on one grid that strain borders, boxes and far distances."""
    shape = (9, 10, 11)
    empty, full = np.zeros(shape, np.uint8), np.full(shape, 4, np.uint8)
    corner, far, middle = empty.copy(), empty.copy(), empty.copy()
    corner[0, 0, 0], far[-1, -1, -1], middle[4, 5, 5] = 4, 4, 4
    stripes, shifted = empty.copy(), empty.copy()
    stripes[::2], shifted[1::2] = 4, 4
    columns, edge = empty.copy(), empty.copy()
    columns[:, ::3, ::2], edge[:, 0, :] = 1, 2
    nested = empty.copy()
    nested[1:8, 1:9, 1:10], nested[2:7, 3:8, 2:8], nested[3:5, 4:6, 4:7] = 2, 1, 4
    return {
        "all tumour, twice": (full, full),
        "all tumour against one voxel": (full, corner),
        "opposite corners": (corner, far),
        "one voxel": (middle, middle),
        "stripes against the gaps": (stripes, shifted),
        "columns against an edge": (columns, edge),
        "nested, flipped": (nested, nested[::-1, :, ::-1].copy()),
    }


def check(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Compare every region that is empty in neither map: counts and Dice exactly, the rest to 1e-12."""
    for row in evaluate_case("case", reference, prediction, EDITION, "plain", spacing):
        masks = [np.isin(label_map, LABELS[row.region]) for label_map in (reference, prediction)]
        if not all(mask.any() for mask in masks):
            continue
        expected = plain_scores(*masks, spacing)
        for name in ("dice", "iou", "sensitivity", "precision", "reference_voxels", "prediction_voxels"):
            assert getattr(row, name) == expected[name], (row.region, name)
        for name in ("specificity", "hd95_mm", "assd_mm", "nsd_1mm"):
            assert getattr(row, name) == pytest.approx(expected[name], rel=1e-12, nan_ok=True), (row.region, name)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", adversarial())
def test_adversarial_masks_score_as_in_the_plain_implementation(name: str, spacing: tuple[float, float, float]) -> None:
    check(*adversarial()[name], spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_random_blobs_score_as_in_the_plain_implementation(seed: int, spacing: tuple[float, float, float]) -> None:
    reference = blobs(seed)
    prediction = np.roll(reference, (seed, -2, 1), (0, 1, 2)) if seed % 2 else blobs(seed + 100)
    check(reference, prediction, spacing)


# ---- laws ----

masks = arrays.arrays(np.bool_, (5, 4, 6), elements=st.booleans())
spacings = st.sampled_from(SPACINGS)
laws = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def scores(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> list[float]:
    """Return Dice, HD95, mean distance and surface Dice of two masks, as label 4."""
    row = whole_row(reference, prediction, spacing)
    return [row.dice, row.hd95_mm, row.assd_mm, row.nsd_1mm]


def whole_row(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> Row:
    """Return the record of ET for two masks."""
    maps = [mask.astype(np.uint8) * np.uint8(4) for mask in (reference, prediction)]
    return evaluate_case("case", *maps, EDITION, "plain", spacing)[0]


@laws
@given(masks, masks, spacings)
def test_swapping_the_maps_swaps_sensitivity_and_precision_alone(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    assert scores(first, second, spacing) == pytest.approx(scores(second, first, spacing), rel=1e-12, nan_ok=True)
    there, back = whole_row(first, second, spacing), whole_row(second, first, spacing)
    assert there.sensitivity == pytest.approx(back.precision, nan_ok=True)


@laws
@given(masks, masks, spacings, st.sampled_from([(0,), (1,), (2,), (0, 2), (0, 1, 2)]))
def test_flips_change_nothing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float], axes: tuple[int, ...]
) -> None:
    flipped = scores(np.flip(first, axes), np.flip(second, axes), spacing)
    assert flipped == pytest.approx(scores(first, second, spacing), rel=1e-12, nan_ok=True)


@laws
@given(masks, masks, spacings, st.tuples(*[st.integers(0, 40)] * 3))
def test_shifts_within_a_larger_grid_change_nothing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float], shift: tuple[int, int, int]
) -> None:
    padded = [np.pad(mask, [(n, 40 - n) for n in shift]) for mask in (first, second)]
    assert scores(*padded, spacing) == pytest.approx(scores(first, second, spacing), rel=1e-12, nan_ok=True)


@laws
@given(masks, masks, spacings, st.sampled_from([0.1, 0.5, 2.0, 7.0]))
def test_distances_scale_with_the_spacing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float], factor: float
) -> None:
    near = surface_distances(first, second, spacing)
    far = surface_distances(first, second, tuple(factor * size for size in spacing))
    assert hd95_pooled(far) == pytest.approx(factor * hd95_pooled(near), rel=1e-12, nan_ok=True)
    assert assd(far) == pytest.approx(factor * assd(near), rel=1e-12, nan_ok=True)
    assert nsd(far, factor) == pytest.approx(nsd(near, 1.0), nan_ok=True)


@laws
@given(masks, masks, spacings)
def test_scores_stay_in_their_range(first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]) -> None:
    row = whole_row(first, second, spacing)
    for value in (row.dice, row.iou, row.sensitivity, row.specificity, row.precision, row.nsd_1mm):
        assert math.isnan(value) or 0 <= value <= 1
    assert math.isnan(row.iou) or row.iou == pytest.approx(row.dice / (2 - row.dice))
    assert math.isnan(row.hd95_mm) or 0 <= row.hd95_mm <= math.dist((0, 0, 0), np.multiply((4, 3, 5), spacing)) + 1e-9
