"""Metrics over all voxels, background among the classes: against one-hot arrays, as Keras-like code counts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brats_seg.editions import get_edition
from brats_seg.evaluation.pooled import label_histogram, pooled_metrics

BRATS = get_edition("brats2020")
LABELS = st.sampled_from([0, 0, 0, 1, 2, 4])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_pooled_metrics_are_those_of_one_hot_arrays(data: st.DataObject) -> None:
    maps = hnp.arrays(np.uint8, (2, 3, 4), elements=LABELS)
    reference, prediction = data.draw(maps), data.draw(maps)
    found = pooled_metrics(label_histogram(reference, prediction, BRATS), BRATS)
    one_hot = [np.stack([array == value for value in BRATS.label_values]) for array in (reference, prediction)]
    both = [(t & p).sum() for t, p in zip(*one_hot, strict=True)]
    sums = [(t.sum() + p.sum()) for t, p in zip(*one_hot, strict=True)]
    dice = [2 * hit / total for hit, total in zip(both, sums, strict=True) if total]
    assert found["dice_coefficient"] == pytest.approx(np.mean(dice))
    iou = [hit / (total - hit) for hit, total in zip(both, sums, strict=True) if total]
    assert found["mean_iou"] == pytest.approx(np.mean(iou))
    assert found["accuracy"] == pytest.approx((reference == prediction).mean())
    # of one label a voxel, micro precision and sensitivity are accuracy: three names of one number
    assert found["precision"] == found["sensitivity"] == pytest.approx(found["accuracy"])
    there = [n for n, total in enumerate(sums) if total]
    truth, guess = (array[there] for array in one_hot)
    assert found["specificity"] == pytest.approx(
        (~truth & ~guess).sum() / (~truth).sum() if (~truth).any() else np.nan, nan_ok=True
    )


def test_a_prediction_without_any_tumour_is_99_per_cent_right_and_worth_nothing() -> None:
    reference = np.zeros((1, 100, 100), np.uint8)
    reference[0, :10, :10] = 1
    edition = get_edition("lgg-mri")
    found = pooled_metrics(label_histogram(reference, None, edition), edition)
    assert found["accuracy"] == 0.99
    assert found["mean_iou"] == pytest.approx(0.495)
    assert found["tumour"]["dice"] == found["dice_per_class"]["WT"] == 0
    assert found["tumour"]["sensitivity"] == 0


def test_background_outside_of_all_labels_is_counted() -> None:
    reference = np.zeros((3, 4, 5), np.uint8)
    reference[1, 1, 1] = 4
    table = label_histogram(reference, reference, BRATS)
    assert table.shape == (5, 5)
    assert table.sum() == 60
    assert (table[0, 0], table[4, 4]) == (59, 1)


def test_two_empty_maps_are_all_background() -> None:
    empty = np.zeros((1, 2, 2), np.uint8)
    found = pooled_metrics(label_histogram(empty, empty, BRATS), BRATS)
    assert found["accuracy"] == found["mean_iou"] == 1
    assert np.isnan(found["tumour"]["dice"])
