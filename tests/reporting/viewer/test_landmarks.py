from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brats_seg.reporting.viewer.landmarks import find_lesions, worst_slices

SHAPE = (5, 6, 7)


def boxes(*corners: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for box in corners:
        mask[box] = True
    return mask


FIRST = (slice(0, 2), slice(0, 2), slice(0, 3))  # 12 voxels
SECOND = (slice(4, 5), slice(4, 6), slice(0, 2))  # 4 voxels
THIRD = (slice(4, 5), slice(0, 1), slice(5, 7))  # 2 voxels


def test_lesions_are_found_missed_or_false_and_come_largest_first():
    reference = boxes(FIRST, SECOND)
    prediction = boxes((slice(1, 2), slice(0, 2), slice(0, 3)), THIRD)
    lesions = find_lesions(reference, prediction)
    assert [(one.status, one.num_voxels, one.share) for one in lesions] == [
        ("found", 12, 0.5),
        ("missed", 4, 0.0),
        ("false", 2, None),
    ]
    assert lesions[2].center[:2] == (4, 0)


def test_with_one_mask_there_is_nothing_to_compare():
    for pair in ((boxes(FIRST, THIRD), None), (None, boxes(FIRST, THIRD))):
        assert [(one.status, one.num_voxels, one.share) for one in find_lesions(*pair)] == [
            ("alone", 12, None),
            ("alone", 2, None),
        ]
    assert find_lesions(None, None) == []


def test_the_centre_of_a_ring_lies_in_the_ring():
    ring = np.zeros(SHAPE, bool)
    ring[2, 1:6, 1:6] = True
    ring[2, 2:5, 2:5] = False
    assert ring[find_lesions(ring, None)[0].center]


def test_the_worst_slice_of_each_axis_has_most_wrong_voxels():
    wrong = boxes((slice(3, 4), slice(1, 4), slice(2, 6)), (slice(0, 1), slice(5, 6), slice(5, 6)))
    assert [(one.axis, one.index, one.num_voxels) for one in worst_slices(wrong)] == [(0, 3, 12), (1, 1, 4), (2, 5, 4)]
    assert worst_slices(np.zeros(SHAPE, bool)) == []


@settings(max_examples=40, deadline=None)
@given(arrays(bool, SHAPE, elements=st.booleans()), arrays(bool, SHAPE, elements=st.booleans()))
def test_every_place_lies_in_what_it_stands_for(reference, prediction):
    for one in find_lesions(reference, prediction):
        assert (prediction if one.status == "false" else reference)[one.center]
    assert sum(one.num_voxels for one in find_lesions(reference, None)) == reference.sum()
    wrong = reference ^ prediction
    for worst in worst_slices(wrong):
        assert wrong[worst.center]
        assert worst.center[worst.axis] == worst.index
