"""Metrics over all voxels of all cases at once, background among the classes: what many projects print.

They are here to be compared with such numbers, not to be believed: background is nearly all of a grid, so that
accuracy is about .99 for a prediction without any tumour. Label maps are hard here, where those projects often take the
network's probabilities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition
from brats_seg.evaluation.overlap import (
    counts_of_labels,
    dice,
    iou,
    joint_histogram,
    precision,
    sensitivity,
    specificity,
    union_box,
)

__all__ = ["label_histogram", "pooled_metrics"]

_NOTE = (
    "over all voxels of all cases together, background counted as a class: as many projects print them; about .99 for "
    "anything, see the regions for what a prediction is worth"
)


def label_histogram(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8] | None, edition: Edition
) -> NDArray[np.int64]:
    """Return how many voxels have each pair of labels, (n, n) int64, n = the edition's largest label + 1.

    Args:
        reference: (K, J, I), labels of the edition.
        prediction: the same; None = there is none, which counts as background.
        edition: whose labels they are.
    """
    predicted = np.zeros_like(reference) if prediction is None else prediction
    size = max(edition.label_values) + 1
    table = np.zeros((size, size), np.int64)
    box = union_box(reference, predicted)
    num_inside = 0
    if box is not None:
        own = joint_histogram(reference[box], predicted[box])
        table[: len(own), : len(own)] = own
        num_inside = int(own.sum())
    table[0, 0] += reference.size - num_inside
    return table


def pooled_metrics(histogram: NDArray[np.int64], edition: Edition) -> dict[str, Any]:
    """Return the metrics of a histogram, summed over cases: of all classes together, and of each.

    Accuracy, precision, sensitivity and specificity count every class of every voxel (micro average over classes, one
    against the rest): the first three are then one number. `mean_iou` and `dice_coefficient` are means over the classes
    that occur, background among them. `tumour` has the outermost region alone, `dice_per_class` each label.
    """
    names = {0: "background"} | {label.value: label.name for label in edition.labels}
    counts = {name: counts_of_labels(histogram, [value]) for value, name in names.items()}
    there = {name: one for name, one in counts.items() if one.num_reference or one.num_prediction}
    tp, fp = sum(one.tp for one in there.values()), sum(one.fp for one in there.values())
    fn, tn = sum(one.fn for one in there.values()), sum(one.tn for one in there.values())
    whole = counts_of_labels(histogram, list(edition.regions.values())[-1])
    return {
        "note": _NOTE,
        "accuracy": _share(int(np.trace(histogram)), int(histogram.sum())),
        "mean_iou": _mean([iou(one) for one in there.values()]),
        "dice_coefficient": _mean([dice(one) for one in there.values()]),
        "precision": _share(tp, tp + fp),
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "dice_per_class": {name: dice(one) for name, one in counts.items()},
        "tumour": {
            "region": edition.region_names[-1],
            "dice": dice(whole),
            "iou": iou(whole),
            "precision": precision(whole),
            "sensitivity": sensitivity(whole),
            "specificity": specificity(whole),
        },
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
