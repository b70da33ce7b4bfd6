"""Lesion by lesion: the score of every lesion of a region, and the means that the challenges publish.

Arrays are as in `lesions`; distances are measured in the box of a lesion and its matched predictions alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from brats_seg.evaluation.lesions import (
    Labels,
    Lesions,
    Matches,
    assign_one_to_one,
    components,
    match_by_dilation,
    match_by_overlap,
)
from brats_seg.evaluation.masks import MaskPair
from brats_seg.evaluation.overlap import Box, dice
from brats_seg.evaluation.surface import hd95_pooled, nsd

__all__ = ["InstanceScores", "LesionScore", "LesionwiseScores", "score_instances", "score_lesions"]


@dataclass(frozen=True)
class LesionScore:
    """One lesion: of the reference (found, missed, or small: left out) or predicted where there is none (false)."""

    kind: Literal["found", "missed", "small", "false"]
    reference_voxels: int
    prediction_voxels: int
    """Of all predicted lesions that answer to it, outside it, too."""
    num_predictions: int
    """How many predicted lesions answer to it."""
    dice: float
    hd95_mm: float
    """inf where nothing answers to it."""
    nsd: tuple[float, ...] = ()
    """Surface Dice at each of the protocol's tolerances."""


@dataclass(frozen=True)
class LesionwiseScores:
    """A region's lesion-wise scores under a protocol that matches by dilation."""

    dice: float
    hd95_mm: float
    nsd: tuple[float, ...]
    num_tp: int
    """Reference lesions above the threshold that are met."""
    num_fp: int
    """Predicted lesions that touch no reference lesion of any size."""
    num_fn: int
    """Reference lesions above the threshold that are missed."""
    lesions: tuple[LesionScore, ...] = field(repr=False)


@dataclass(frozen=True)
class InstanceScores:
    """A region's scores under one-to-one matching; means are over matched pairs alone."""

    dice: float
    nsd: float
    hd95_mm: float
    num_tp: int
    num_fp: int
    num_fn: int
    lesions: tuple[LesionScore, ...] = field(repr=False)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); nan where nothing is predicted."""
        return _ratio(self.num_tp, self.num_tp + self.num_fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); nan where nothing is there."""
        return _ratio(self.num_tp, self.num_tp + self.num_fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); nan where neither mask has an instance."""
        return _ratio(2 * self.num_tp, 2 * self.num_tp + self.num_fp + self.num_fn)


def score_lesions(
    whole: MaskPair,
    reference: Lesions,
    prediction: Labels,
    *,
    threshold_mm3: float,
    penalty: float,
    charges_false_positives: bool = True,
    nsd_tolerances_mm: Sequence[float] = (),
    nsd_epsilon: float = 0.0,
) -> LesionwiseScores:
    """Return the scores of BraTS 2023 and 2024 for one region.

    Args:
        whole: the region's masks, whose distances serve a lesion that is all of them.
        reference: its reference lesions.
        prediction: its predicted lesions; whole ones answer to a lesion, also with their parts outside its zone.
        threshold_mm3: lesions of at most this volume are left out of means and counts (what touches them is still no
            false positive).
        penalty: what stands for an infinite HD95.
        charges_false_positives: each adds a 0 and a penalty to the means.
        nsd_tolerances_mm: tolerances of the surface Dice.
        nsd_epsilon: see `surface.nsd`.

    Where nothing is left to average (no lesion above the threshold, no false positive): Dice and NSD 1, HD95 0.
    """
    matches = match_by_dilation(reference, prediction)
    measure = _Measure(whole, reference.labels, prediction, "area", nsd_tolerances_mm, nsd_epsilon)
    lesions = [_score_by_dilation(measure, matches, number, threshold_mm3) for number in matches.reference_numbers]
    invented = [_invented(int(matches.prediction_voxels[number]), measure) for number in matches.false_positives]
    counted = [lesion for lesion in lesions if lesion.kind != "small"]
    charged = counted + invented * charges_false_positives
    return LesionwiseScores(
        dice=_mean([lesion.dice for lesion in charged], 1.0),
        hd95_mm=_mean([penalty if math.isinf(lesion.hd95_mm) else lesion.hd95_mm for lesion in charged], 0.0),
        nsd=tuple(_mean(list(values), 1.0) for values in zip(*(one.nsd for one in charged), strict=True))
        or (1.0,) * len(measure.tolerances_mm),
        num_tp=sum(lesion.kind == "found" for lesion in counted),
        num_fp=len(invented),
        num_fn=sum(lesion.kind == "missed" for lesion in counted),
        lesions=(*lesions, *invented),
    )


def score_instances(whole: MaskPair) -> InstanceScores:
    """Return the scores of BraTS 2025 for one region: 26-connected components, matched one to one by Dice.

    HD95 is the pooled percentile in mm, NSD has the smallest spacing as tolerance. No match: Dice and NSD 0, HD95 inf;
    no instance on either side: nan.
    """
    labels = components(whole.reference), components(whole.prediction)
    matches = match_by_overlap(*labels)
    pairs = dict(assign_one_to_one(matches))
    measure = _Measure(whole, *labels, "pooled", [min(whole.spacing_mm)])
    found = [_score_pair(measure, matches, number, [partner], "found") for number, partner in pairs.items()]
    missed = [number for number in matches.reference_numbers if number not in pairs]
    num_predicted = len(matches.prediction_voxels) - 1
    invented = sorted(set(range(1, num_predicted + 1)) - set(pairs.values()))
    rest = [_score_pair(measure, matches, number, [], "missed") for number in missed]
    rest += [_invented(int(matches.prediction_voxels[number]), measure) for number in invented]
    nothing = math.nan if not (found or rest) else 0.0
    return InstanceScores(
        dice=_mean([lesion.dice for lesion in found], nothing),
        nsd=_mean([lesion.nsd[0] for lesion in found], nothing),
        hd95_mm=_mean([lesion.hd95_mm for lesion in found], math.inf if rest else math.nan),
        num_tp=len(found),
        num_fp=len(invented),
        num_fn=len(missed),
        lesions=(*found, *rest),
    )


class _Measure:
    """Distances of a lesion and its predictions, in the box of both; those of the whole region where that is it."""

    def __init__(
        self,
        whole: MaskPair,
        reference: Labels,
        prediction: Labels,
        hd95: Literal["pooled", "area"],
        tolerances_mm: Sequence[float],
        epsilon: float = 0.0,
    ) -> None:
        self.whole, self.reference, self.prediction = whole, reference, prediction
        self.hd95, self.tolerances_mm, self.epsilon = hd95, tuple(tolerances_mm), epsilon

    @cached_property
    def boxes(self) -> tuple[list[Box | None], list[Box | None]]:
        """Boxes of the reference lesions and of the predicted ones; number n is at n - 1."""
        from scipy.ndimage import find_objects  # noqa: PLC0415 (scipy costs start-up time)

        return find_objects(self.reference), find_objects(self.prediction)

    def pair(self, number: int, partners: Sequence[int], num_voxels: tuple[int, int]) -> MaskPair:
        """Return the masks of a lesion and of its predictions, which have so many voxels."""
        if num_voxels == (self.whole.counts.num_reference, self.whole.counts.num_prediction):
            return self.whole
        references, predictions = self.boxes
        boxes = [references[number - 1], *(predictions[partner - 1] for partner in partners)]
        box = _box_of_all([one for one in boxes if one is not None])
        is_partner = np.zeros(len(predictions) + 1, bool)
        is_partner[list(partners)] = True
        return MaskPair.of_crop(self.reference[box] == number, is_partner[self.prediction[box]], self.whole.spacing_mm)

    def nsd(self, pair: MaskPair) -> tuple[float, ...]:
        """Return the surface Dice of a pair at each tolerance."""
        return tuple(nsd(pair.borders_mm, tolerance, epsilon=self.epsilon) for tolerance in self.tolerances_mm)


def _score_by_dilation(measure: _Measure, matches: Matches, number: int, threshold_mm3: float) -> LesionScore:
    partners = [int(one) for one in np.flatnonzero(matches.is_touching[number])]
    volume_mm3 = float(matches.reference_voxels[number]) * math.prod(measure.whole.spacing_mm)
    kind: Literal["found", "missed", "small"] = "found" if partners else "missed"
    return _score_pair(measure, matches, number, partners, "small" if volume_mm3 <= threshold_mm3 else kind)


def _score_pair(
    measure: _Measure,
    matches: Matches,
    number: int,
    partners: Sequence[int],
    kind: Literal["found", "missed", "small"],
) -> LesionScore:
    """Return the scores of a reference lesion against the union of the predicted lesions that answer to it."""
    num_reference = int(matches.reference_voxels[number])
    num_prediction = int(matches.prediction_voxels[partners].sum())
    if not partners:
        return LesionScore(kind, num_reference, 0, 0, 0.0, math.inf, (0.0,) * len(measure.tolerances_mm))
    pair = measure.pair(number, partners, (num_reference, num_prediction))
    return LesionScore(
        kind,
        num_reference,
        num_prediction,
        len(partners),
        dice(pair.counts),
        pair.hd95_by_area_mm if measure.hd95 == "area" else hd95_pooled(pair.borders_mm),
        measure.nsd(pair),
    )


def _invented(num_voxels: int, measure: _Measure) -> LesionScore:
    return LesionScore("false", 0, num_voxels, 1, 0.0, math.inf, (0.0,) * len(measure.tolerances_mm))


def _box_of_all(boxes: Sequence[Box]) -> Box:
    k, j, i = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return k, j, i


def _mean(values: Sequence[float], of_nothing: float) -> float:
    return math.fsum(values) / len(values) if values else of_nothing


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
