"""Lesions: a region's mask cut into numbered parts, and which predicted parts answer to which reference lesion.

Two rules are here. By dilation (BraTS 2023 and 2024): parts whose dilations join are one lesion, and a reference lesion
is met by every predicted one that touches its dilated mask. One to one (2025): every 26-connected component is an
instance, and pairs are chosen for the largest sum of their Dice. What the scores are made of is in `lesionwise`.

Masks are bool (K, J, I), label volumes int32 of the same shape with 0 = none; work is done in crops that hold all of
both masks with a margin, so time grows with the tumour and not with the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Lesions",
    "Matches",
    "assign_one_to_one",
    "components",
    "dilate",
    "join_touching",
    "lesions_by_dilation",
    "match_by_dilation",
    "match_by_overlap",
    "without_small",
]

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Lesions:
    """Numbered lesions of one mask."""

    labels: Labels
    """The lesion of each voxel of the mask, from 1; 0 elsewhere. Numbers may have gaps."""
    zones: Labels
    """The lesion of each voxel of the dilated mask: where a prediction counts as touching it."""

    @property
    def num(self) -> int:
        """The largest number in use."""
        return int(self.zones.max(initial=0))


@dataclass(frozen=True)
class Matches:
    """Which predicted lesions answer to each reference lesion, from one joint histogram."""

    reference_voxels: NDArray[np.int64]
    """(num reference + 1,): voxels of each reference lesion; 0 for a number that is not in use."""
    prediction_voxels: NDArray[np.int64]
    """(num prediction + 1,)."""
    overlap_voxels: NDArray[np.int64]
    """(num reference + 1, num prediction + 1): voxels that a pair has in common."""
    is_touching: NDArray[np.bool_]
    """(num reference + 1, num prediction + 1): whether a predicted lesion lies in a reference lesion's zone."""

    @property
    def reference_numbers(self) -> list[int]:
        """Numbers of the reference lesions, ascending."""
        return [int(number) for number in np.flatnonzero(self.reference_voxels)]

    @property
    def false_positives(self) -> list[int]:
        """Numbers of the predicted lesions that touch no reference lesion of any size."""
        return [int(number) for number in np.flatnonzero((self.prediction_voxels > 0) & ~self.is_touching.any(axis=0))]


def components(mask: NDArray[np.bool_]) -> Labels:
    """Return the 26-connected components of a mask, numbered in the order of the array's voxels."""
    import cc3d  # noqa: PLC0415 (a tenth of a second that not every importer needs)

    if sorted(mask.shape)[1] == 1:  # a single row, on which cc3d 4.1.1 fails
        return components(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    labels: Labels = cc3d.connected_components(mask, connectivity=26, out_dtype=np.uint32).view(np.int32)
    return labels


def dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Return a mask grown `steps` times by the 18-neighbourhood (faces and edges, no corners), within its array."""
    for _ in range(steps):
        along_i, along_j = _grown(mask, 2), _grown(mask, 1)
        # The 18-neighbourhood is the union of the three squares of 3 x 3 that lie in the planes of two axes.
        mask = _grown(along_i, 1)
        mask |= _grown(along_i, 0)
        mask |= _grown(along_j, 0)
    return mask


def lesions_by_dilation(mask: NDArray[np.bool_], steps: int) -> Lesions:
    """Return the lesions of a mask: parts whose dilations (`steps`, 18-neighbour) are one 26-connected component."""
    zones = components(dilate(mask, steps))
    return Lesions(zones * mask, zones)


def without_small(lesions: Lesions, max_voxels: float) -> Lesions:
    """Return the lesions without those of at most `max_voxels` voxels; the others keep their numbers."""
    keep = _sizes(lesions.labels, lesions.num) > max_voxels
    if keep[1:].all():
        return lesions
    numbers = np.where(keep, np.arange(len(keep)), 0).astype(np.int32)
    return Lesions(_renumbered(lesions.labels, numbers), _renumbered(lesions.zones, numbers))


def join_touching(lesions: Lesions, others: Sequence[Lesions]) -> Lesions:
    """Return the lesions with those joined that touch the same lesion of another tissue, one tissue after another.

    A lesion goes with the first of those it touches (18-neighbour), in the official order; lesions that go with the
    same one become one. Not transitive: the other tissue's lesions are as they were. Source: the 2024 scripts for GLI,
    SSA and MET.
    """
    for other in others:
        pairs = _touching_pairs(lesions.labels, other.labels)
        if len(pairs) < 2:
            continue
        order = _official_order(other.zones)
        numbers = np.arange(lesions.num + 1, dtype=np.int32)
        partners: dict[int, int] = {}
        for own, partner in sorted(pairs, key=lambda pair: order[pair[1]]):
            partners.setdefault(own, partner)
        firsts: dict[int, int] = {}
        for own, partner in partners.items():
            numbers[own] = firsts.setdefault(partner, own)
        if len(firsts) < len(partners):
            lesions = Lesions(_renumbered(lesions.labels, numbers), _renumbered(lesions.zones, numbers))
    return lesions


def match_by_dilation(reference: Lesions, prediction: Labels) -> Matches:
    """Return the matches of reference lesions with the predicted ones that touch their zones, as many as there are."""
    return _matches(reference.labels, reference.zones, prediction, reference.num)


def match_by_overlap(reference: Labels, prediction: Labels) -> Matches:
    """Return the matches of instances that share a voxel."""
    return _matches(reference, reference, prediction, int(reference.max(initial=0)))


def assign_one_to_one(matches: Matches, *, min_dice: float = 1e-6) -> list[tuple[int, int]]:
    """Return pairs (reference, prediction) such that none is in two, and the sum of their Dice is the largest.

    Pairs of a Dice below `min_dice` are not allowed. Source: panoptica, as BraTS 2025 calls it.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 (a quarter of a second)

    sizes = matches.reference_voxels[1:, None] + matches.prediction_voxels[None, 1:]
    dice = 2 * matches.overlap_voxels[1:, 1:] / np.maximum(sizes, 1)
    dice[dice < min_dice] = 0
    rows, columns = linear_sum_assignment(dice, maximize=True)
    return [(int(row) + 1, int(column) + 1) for row, column in zip(rows, columns, strict=True) if dice[row, column] > 0]


def _matches(reference: Labels, zones: Labels, prediction: Labels, num_reference: int) -> Matches:
    num_prediction = int(prediction.max(initial=0))
    shape = (num_reference + 1, num_prediction + 1)
    inside = np.flatnonzero(prediction > 0)  # many times faster than of integers
    predicted = prediction.ravel()[inside].astype(np.int64)
    tables = [
        np.bincount(labels.ravel()[inside] * np.int64(shape[1]) + predicted, minlength=shape[0] * shape[1])
        for labels in (reference, zones)
    ]
    overlap, touching = (table.reshape(shape) for table in tables)
    is_touching = touching > 0
    is_touching[0] = is_touching[:, 0] = False
    return Matches(_sizes(reference, num_reference), touching.sum(axis=0), overlap, is_touching)


def _grown(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return a mask and its two shifts along an axis in one."""
    grown = mask.copy()
    lower = tuple(slice(None, -1) if one == axis else slice(None) for one in range(3))
    upper = tuple(slice(1, None) if one == axis else slice(None) for one in range(3))
    grown[lower] |= mask[upper]
    grown[upper] |= mask[lower]
    return grown


def _official_order(labels: Labels) -> NDArray[np.intp]:
    """Return the place of each number's first voxel in a scan with I as the slowest axis and K as the fastest.

    So the official scripts number their dilated components, and the lowest number decides what is joined.
    """
    k, j, i = np.nonzero(labels > 0)
    firsts = np.full(int(labels.max(initial=0)) + 1, labels.size)
    np.minimum.at(firsts, labels[k, j, i], (i * labels.shape[1] + j) * labels.shape[0] + k)
    return firsts


def _sizes(labels: Labels, num: int) -> NDArray[np.int64]:
    """Return the voxels of each number from 0 to `num`, those of 0 not counted."""
    return np.bincount(labels[labels > 0], minlength=num + 1).astype(np.int64, copy=False)


def _touching_pairs(first: Labels, second: Labels) -> list[tuple[int, int]]:
    """Return the pairs of numbers of which a voxel each are 18-neighbours (or the same voxel), ascending."""
    near = np.nonzero((first > 0) & dilate(second > 0, 1))
    own, width = first[near].astype(np.int64), int(second.max(initial=0)) + 1
    found = [np.empty(0, np.int64)]
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if sum(map(abs, offset)) == 3:  # a corner
            continue
        places = [axis + step for axis, step in zip(near, offset, strict=True)]
        inside = np.logical_and.reduce(
            [(axis >= 0) & (axis < size) for axis, size in zip(places, second.shape, strict=True)]
        )
        partners = second[tuple(axis[inside] for axis in places)]
        found.append(np.unique((own[inside] * width + partners)[partners > 0]))
    return [(int(code) // width, int(code) % width) for code in np.unique(np.concatenate(found))]


def _renumbered(labels: Labels, numbers: NDArray[np.int32]) -> Labels:
    """Return labels with each number replaced by `numbers` of it; 0 stays 0."""
    inside = np.flatnonzero(labels > 0)
    result = np.zeros_like(labels)
    result.ravel()[inside] = numbers[labels.ravel()[inside]]
    return result
