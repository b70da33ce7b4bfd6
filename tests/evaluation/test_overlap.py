"""Counts from the joint histogram and the ratios made of them, on maps small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brats_seg.editions import EDITIONS, Edition, get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation import overlap
from brats_seg.evaluation.overlap import Counts, confusion, joint_histogram, scored_labels, union_box

BRATS2020 = get_edition("brats2020")


def label_map(shape: tuple[int, int, int] = (3, 4, 5), **voxels: int) -> np.ndarray:
    """Return a uint8 label map; `kji=label` sets one voxel: `k012=4` is label 4 at (0, 1, 2)."""
    array = np.zeros(shape, np.uint8)
    for place, label in voxels.items():
        array[tuple(int(digit) for digit in place[1:])] = label
    return array


def test_counts_of_every_region_come_from_the_labels_that_make_it() -> None:
    reference = label_map(k000=4, k001=1, k002=2, k003=2)
    prediction = label_map(k000=4, k001=4, k002=1, k234=2)
    # 60 voxels; WT: reference 4, prediction 4, common 3; ED: common 0.
    assert confusion(reference, prediction, BRATS2020) == {
        "ET": Counts(tp=1, fp=1, fn=0, tn=58),
        "TC": Counts(tp=2, fp=1, fn=0, tn=57),
        "WT": Counts(tp=3, fp=1, fn=1, tn=55),
        "NCR": Counts(tp=0, fp=1, fn=1, tn=58),
        "ED": Counts(tp=0, fp=1, fn=2, tn=57),
    }


def test_voxels_that_were_cropped_away_are_true_negatives() -> None:
    counts = confusion(label_map(k000=4), label_map(k000=4), BRATS2020, num_outside=940)
    assert counts["ET"] == Counts(tp=1, fp=0, fn=0, tn=999)


def test_two_empty_maps_are_all_true_negatives() -> None:
    counts = confusion(label_map(), label_map(), BRATS2020)
    assert set(counts.values()) == {Counts(0, 0, 0, 60)}


def test_maps_without_background_are_counted() -> None:
    full = np.full((2, 2, 2), 4, np.uint8)
    assert confusion(full, full, BRATS2020)["WT"] == Counts(8, 0, 0, 0)


def test_joint_histogram_puts_the_reference_along_the_rows() -> None:
    table = joint_histogram(np.array([0, 1, 1, 2], np.uint8), np.array([0, 2, 2, 0], np.uint8), num_outside=6)
    assert table.tolist() == [[7, 0, 0], [0, 0, 2], [1, 0, 0]]


def test_joint_histogram_holds_the_largest_labels() -> None:
    table = joint_histogram(np.array([255, 255], np.uint8), np.array([255, 0], np.uint8))
    assert (table[255, 255], table[255, 0], table.sum()) == (1, 1, 2)


def test_union_box_touches_the_outermost_voxels_of_both() -> None:
    box = union_box(label_map(k013=1), label_map(k230=2))
    assert box == (slice(0, 3), slice(1, 4), slice(0, 4))


def test_labels_of_a_map_are_listed_once() -> None:
    assert overlap.labels_in(label_map(k000=4, k011=1, k234=4)) == [1, 4]
    assert overlap.labels_in(label_map()) == []
    assert overlap.labels_in(np.full((2, 2, 2), 255, np.uint8)) == [255]


def test_union_box_of_two_empty_maps_is_none() -> None:
    assert union_box(label_map(), label_map()) is None


@pytest.mark.parametrize("is_reference", [True, False])
def test_a_label_of_another_edition_is_refused_with_the_editions_it_fits(is_reference: bool) -> None:
    maps = (label_map(k000=3), label_map()) if is_reference else (label_map(), label_map(k000=3))
    side = "reference" if is_reference else "prediction"
    with pytest.raises(DataError, match=rf"{side}: labels \[0, 3\].*brats2020.*fit brats2023-gli"):
        confusion(*maps, BRATS2020)


@pytest.mark.parametrize(
    ("edition", "names"),
    [
        ("brats2020", "ET TC WT NCR ED"),
        ("brats2021", "ET TC WT NCR ED"),
        ("brats2023-men", "ET TC WT NETC SNFH"),
        ("brats2023-ped", "ET TC WT NC ED"),
        ("brats2024-gli", "ET TC WT NETC SNFH RC"),
        ("brats2024-ped", "ET TC WT NETC CC ED"),
        ("brats2024-men-rt", "GTV"),
        ("msd-task01", "ET TC WT ED NET"),
    ],
)
def test_regions_are_scored_first_then_labels_that_are_no_region(edition: str, names: str) -> None:
    assert list(scored_labels(get_edition(edition))) == names.split()


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=lambda edition: edition.name)
def test_nothing_is_scored_twice_and_every_label_is_scored(edition: Edition) -> None:
    scored = scored_labels(edition)
    assert len(set(scored.values())) == len(scored)
    assert {label for labels in scored.values() for label in labels} == {label.value for label in edition.labels}


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [("dice", 12 / 15), ("iou", 6 / 9), ("sensitivity", 6 / 8), ("specificity", 91 / 92), ("precision", 6 / 7)],
)
def test_ratios_are_those_of_the_textbook(ratio: str, expected: float) -> None:
    assert getattr(overlap, ratio)(Counts(tp=6, fp=1, fn=2, tn=91)) == expected


@pytest.mark.parametrize(
    ("counts", "undefined"),
    [
        (Counts(0, 0, 0, 9), {"dice", "iou", "sensitivity", "precision"}),
        (Counts(0, 2, 0, 7), {"sensitivity"}),
        (Counts(0, 0, 2, 7), {"precision"}),
        (Counts(9, 0, 0, 0), {"specificity"}),
    ],
    ids=["both empty", "reference empty", "prediction empty", "all tumour"],
)
def test_ratios_are_nan_exactly_where_nothing_is_divided_by_nothing(counts: Counts, undefined: set[str]) -> None:
    names = ("dice", "iou", "sensitivity", "specificity", "precision")
    assert {name for name in names if math.isnan(getattr(overlap, name)(counts))} == undefined
