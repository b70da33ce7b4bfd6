"""Lesions: dilation, numbering, joining and matching, by hand and against SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from brats_seg.evaluation.lesions import (
    Lesions,
    assign_one_to_one,
    components,
    dilate,
    join_touching,
    lesions_by_dilation,
    match_by_dilation,
    match_by_overlap,
    without_small,
)

ELEMENT = ndimage.generate_binary_structure(3, 2)
"""Faces and edges, no corners."""

masks = arrays.arrays(np.bool_, (6, 5, 7), elements=st.sampled_from([False] * 7 + [True]))
laws = settings(max_examples=50, deadline=None, database=None, derandomize=True)


def row_of(*numbers: int) -> np.ndarray:
    """Return labels in a row along I."""
    return np.array(numbers, np.int32)[None, None]


def labelled(*numbers: int) -> Lesions:
    """Return lesions in a row along I whose zones are themselves."""
    return Lesions(row_of(*numbers), row_of(*numbers))


@laws
@given(masks, st.integers(0, 4))
def test_dilation_is_scipys_with_the_18_neighbourhood(mask: np.ndarray, steps: int) -> None:
    expected = ndimage.binary_dilation(mask, ELEMENT, iterations=steps) if steps else mask
    np.testing.assert_array_equal(dilate(mask, steps), expected)


@laws
@given(masks)
def test_components_join_over_corners(mask: np.ndarray) -> None:
    expected, num = ndimage.label(mask, np.ones((3, 3, 3)))
    labels = components(mask)
    assert labels.max(initial=0) == num
    assert len(set(zip(labels[mask], expected[mask], strict=True))) == num
    assert not labels[~mask].any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 1, 1), (1, 1, 40), (1, 2, 3), (2, 1, 2)])
def test_arrays_of_a_single_row_have_components_too(shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    np.testing.assert_array_equal(components(mask), ndimage.label(mask, np.ones((3, 3, 3)))[0])


@laws
@given(masks, st.integers(0, 2))
def test_lesions_are_what_joins_when_dilated(mask: np.ndarray, steps: int) -> None:
    lesions = lesions_by_dilation(mask, steps)
    zones, num = ndimage.label(dilate(mask, steps), np.ones((3, 3, 3)))
    np.testing.assert_array_equal(lesions.labels > 0, mask)
    np.testing.assert_array_equal(lesions.zones > 0, zones > 0)
    assert lesions.num == num
    assert len(set(zip(lesions.labels[mask], zones[mask], strict=True))) == num


def test_arrays_are_left_as_they_were() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    mask.flags.writeable = False
    lesions_by_dilation(mask, 2)
    assert mask.sum() == 1


def test_small_lesions_vanish_with_their_zones_and_the_others_keep_their_numbers() -> None:
    lesions = Lesions(row_of(1, 0, 2, 2, 0, 3), row_of(1, 1, 2, 2, 2, 3))
    left = without_small(lesions, 1)
    np.testing.assert_array_equal(left.labels, row_of(0, 0, 2, 2, 0, 0))
    np.testing.assert_array_equal(left.zones, row_of(0, 0, 2, 2, 2, 0))
    assert without_small(lesions, 0) is lesions


def test_lesions_that_touch_the_same_lesion_of_another_tissue_are_one() -> None:
    joined = join_touching(labelled(1, 0, 2, 0, 0, 3), [labelled(0, 1, 0, 0, 0, 0)])
    np.testing.assert_array_equal(joined.labels, row_of(1, 0, 1, 0, 0, 3))
    np.testing.assert_array_equal(joined.zones, row_of(1, 0, 1, 0, 0, 3))


def test_touching_means_faces_and_edges_and_not_corners() -> None:
    own, other = np.zeros((2, 3, 3, 3), np.int32)
    own[0, 0, 0], own[2, 2, 2], other[1, 1, 1] = 1, 2, 1  # both own ones touch by a corner alone
    assert join_touching(Lesions(own, own), [Lesions(other, other)]).labels[2, 2, 2] == 2
    own[1, 0, 0], own[1, 2, 2] = 1, 2  # now by an edge
    assert join_touching(Lesions(own, own), [Lesions(other, other)]).labels[2, 2, 2] == 1


def test_joining_is_not_passed_on() -> None:
    # 1 and 2 touch a; 2 and 3 touch b; 2 goes with a, which comes first, and 3 stays alone.
    own, other = labelled(1, 0, 2, 0, 3), labelled(0, 1, 0, 2, 0)
    np.testing.assert_array_equal(join_touching(own, [other]).labels, row_of(1, 0, 1, 0, 3))


def test_the_first_lesion_is_that_with_the_lowest_i_whatever_its_number() -> None:
    # One lesion between two others: number 1 lies behind it along I, number 2 in front of it.
    own, other = labelled(3, 0, 1, 0, 2), labelled(0, 2, 0, 1, 0)
    np.testing.assert_array_equal(join_touching(own, [other]).labels, row_of(1, 0, 1, 0, 2))
    along_k = [Lesions(np.swapaxes(one.labels, 0, 2), np.swapaxes(one.zones, 0, 2)) for one in (own, other)]
    np.testing.assert_array_equal(join_touching(along_k[0], [along_k[1]]).labels[:, 0, 0], [1, 0, 1, 0, 2])


def test_the_lowest_i_comes_before_the_lowest_k() -> None:
    other, own = np.zeros((2, 3, 3, 5), np.int32)
    other[0, 0, 4], other[2, 0, 0] = 1, 2  # the second has the higher K and the lower I: it is the first
    own[0, 0, 3] = own[1, 0, 2] = own[2, 0, 1] = 1  # touches both
    own[2, 2, 0], other[2, 1, 0] = 2, 2  # touches the second alone, so goes with the first lesion
    assert join_touching(Lesions(own, own), [Lesions(other, other)]).labels[2, 2, 0] == 1


def test_tissues_join_one_after_the_other() -> None:
    own = labelled(1, 0, 2, 0, 3)
    joined = join_touching(own, [labelled(0, 1, 0, 0, 0), labelled(0, 0, 0, 1, 0)])
    np.testing.assert_array_equal(joined.labels, row_of(1, 0, 1, 0, 1))


def test_matches_count_touching_overlap_and_false_positives() -> None:
    reference = Lesions(row_of(0, 1, 1, 0, 0, 0, 2, 0, 0), row_of(1, 1, 1, 1, 0, 2, 2, 2, 0))
    prediction = row_of(0, 0, 1, 1, 0, 2, 2, 0, 3)
    matches = match_by_dilation(reference, prediction)
    assert matches.reference_numbers == [1, 2]
    assert matches.reference_voxels.tolist() == [0, 2, 1]
    assert matches.prediction_voxels.tolist() == [0, 2, 2, 1]
    assert matches.overlap_voxels[1:, 1:].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert matches.is_touching[1:, 1:].tolist() == [[True, False, False], [False, True, False]]
    assert matches.false_positives == [3]


def test_one_prediction_serves_several_lesions() -> None:
    matches = match_by_dilation(labelled(1, 0, 2), row_of(1, 1, 1))
    assert matches.is_touching[1:, 1].tolist() == [True, True]
    assert matches.false_positives == []


def test_assignment_takes_the_largest_sum_and_not_the_largest_first() -> None:
    # Dice: (1, 1) 8/9, (1, 2) 4/7, (2, 1) 6/8: greedy takes 8/9 alone, the best sum is 4/7 + 6/8.
    reference = row_of(1, 1, 1, 1, 1, 2, 2, 2, 0, 0)
    prediction = row_of(2, 2, 1, 1, 1, 1, 1, 1, 0, 0)
    matches = match_by_overlap(reference, prediction)
    assert sorted(assign_one_to_one(matches)) == [(1, 2), (2, 1)]


def test_a_pair_of_too_little_dice_is_none() -> None:
    matches = match_by_overlap(row_of(1, 1, 1, 0), row_of(0, 0, 1, 1))  # Dice 2/5
    assert assign_one_to_one(matches, min_dice=0.4) == [(1, 1)]
    assert assign_one_to_one(matches, min_dice=0.41) == []


@laws
@given(masks, masks)
def test_assignment_is_the_best_of_all(first: np.ndarray, second: np.ndarray) -> None:
    matches = match_by_overlap(components(first), components(second))
    num = [len(matches.reference_voxels) - 1, len(matches.prediction_voxels) - 1]
    pairs = assign_one_to_one(matches)
    assert len({r for r, _ in pairs}) == len({p for _, p in pairs}) == len(pairs)
    if not 0 < max(num) <= 5:
        return

    def dice(r: int, p: int) -> float:
        return 2 * matches.overlap_voxels[r, p] / (matches.reference_voxels[r] + matches.prediction_voxels[p])

    few, many = sorted(num)
    best = max(
        (
            sum(
                dice(*(pair if num[0] <= num[1] else pair[::-1])) for pair in zip(range(1, few + 1), order, strict=True)
            )
            for order in itertools.permutations(range(1, many + 1), few)
        ),
        default=0,
    )
    assert sum(dice(*pair) for pair in pairs) == pytest.approx(best)
