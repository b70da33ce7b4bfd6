"""One case under a protocol: from the masks of its regions to the values of its records.

What a protocol says is data in `protocols`; how overlap, distances and lesions are measured is in the modules that
bear their names. Here they meet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_seg.evaluation import overlap
from brats_seg.evaluation.lesions import Lesions, join_touching, lesions_by_dilation, without_small
from brats_seg.evaluation.lesionwise import score_instances, score_lesions
from brats_seg.evaluation.masks import MaskPair
from brats_seg.evaluation.protocols import DIAGONAL, PENALTY, EmptyTable, LesionRules, Protocol, tissue_of
from brats_seg.evaluation.surface import Spacing, assd, hd95_directed, hd95_pooled, nsd

__all__ = ["CaseScorer", "LesionPair", "nsd_column"]

_OVERLAP = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "sensitivity": overlap.sensitivity,
    "specificity": overlap.specificity,
    "precision": overlap.precision,
}

_DISTANCES = frozenset({"hd95_mm", "assd_mm", "nsd_1mm"})


@dataclass(frozen=True)
class LesionPair:
    """A region's lesions on both sides; the masks are what is left of the region after the protocol's filter."""

    masks: MaskPair
    reference: Lesions
    prediction: Lesions


@dataclass(frozen=True)
class CaseScorer:
    """The rules for one case: a protocol, its rules for the edition's task, and the grid that sets some penalties."""

    protocol: Protocol
    rules: LesionRules | None
    task: str
    shape: tuple[int, ...]
    """Voxels of the whole grid, (K, J, I)."""
    spacing_mm: Spacing

    def lesions(self, masks: Mapping[str, MaskPair]) -> dict[str, LesionPair] | None:
        """Return the lesions of all regions of the case by name, told apart by dilation; None if the rules have none.

        The masks need a margin of the largest dilation to wherever the grid goes on.
        """
        if self.rules is None:
            return None
        references, predictions = {}, {}
        for name, pair in masks.items():
            references[name] = lesions_by_dilation(pair.reference, self.rules.dilation_of(self._tissue(name)))
            predictions[name] = self._predicted_lesions(name, pair)
        return {
            name: LesionPair(
                _without(pair, predictions[name]), self._joined(name, references), self._joined(name, predictions)
            )
            for name, pair in masks.items()
        }

    def region_values(self, masks: MaskPair, *, is_missing: bool = False) -> dict[str, float]:
        """Return the metrics (`protocols.METRICS`) of one region; `is_missing` = there is no prediction file.

        `assd_mm` and `nsd_1mm` are in mm, `hd95_mm` in the protocol's unit.
        """
        table = self.protocol.prediction_missing if is_missing else self.protocol.empty_case(masks.counts)
        values = {name: formula(masks.counts) for name, formula in _OVERLAP.items()}
        if not set(table) >= _DISTANCES:
            values |= self._distances(masks)
        return values | self._numbers(table)

    def lesion_values(self, name: str, pair: LesionPair | MaskPair, *, is_missing: bool = False) -> dict[str, Any]:
        """Return the fields of a record beyond those: lesions by dilation of a pair of lesions, else of the masks."""
        if isinstance(pair, LesionPair):
            values = self._by_dilation(name, pair)
        elif self.protocol.matching == "one-to-one":
            values = _one_to_one(pair)
        else:
            return {}
        return values | (self._numbers(self.protocol.lesions_missing) if is_missing else {})

    def more_values(self, masks: MaskPair, tolerances_mm: Sequence[float] = ()) -> dict[str, Any]:
        """Return what `cases.csv` has no column for.

        Pixel accuracy is (TP + TN) / grid; relative volume difference (prediction - reference) / reference; the
        directed HD95 is MONAI's: undefined is nan, nothing is charged. Surface Dice at the protocol's further
        tolerances and at `tolerances_mm`: an empty mask has the value that the protocol gives the one at 1 mm.
        """
        counts = masks.counts
        of_empty = self.protocol.empty_case(counts).get("nsd_1mm")
        tolerances = sorted({*self.protocol.nsd_tolerances_mm, *tolerances_mm})
        num_more = counts.num_prediction - counts.num_reference
        return {
            "accuracy": (counts.tp + counts.tn) / math.prod(self.shape),
            "relative_volume_difference": num_more / counts.num_reference if counts.num_reference else math.nan,
            "hd95_directed_mm": hd95_directed(masks.borders_mm),
            "nsd": {
                nsd_column(tolerance): nsd(masks.borders_mm, tolerance, epsilon=self.protocol.nsd_epsilon)
                if of_empty is None
                else float(of_empty)
                for tolerance in tolerances
            },
        }

    def _tissue(self, name: str) -> str:
        return tissue_of(name, self.task)

    def _predicted_lesions(self, name: str, masks: MaskPair) -> Lesions:
        if self.rules is None or not self.rules.filters_predictions:
            return lesions_by_dilation(masks.prediction, 0)  # its components
        tissue = self._tissue(name)
        lesions = lesions_by_dilation(masks.prediction, self.rules.dilation_of(tissue))
        return without_small(lesions, self.rules.threshold_of(tissue) / math.prod(self.spacing_mm))

    def _joined(self, name: str, lesions: Mapping[str, Lesions]) -> Lesions:
        tissues = () if self.rules is None else self.rules.joined_with.get(self._tissue(name), ())
        by_tissue = {self._tissue(other): own for other, own in lesions.items()}
        return join_touching(lesions[name], [by_tissue[tissue] for tissue in tissues if tissue in by_tissue])

    def _distances(self, masks: MaskPair) -> dict[str, float]:
        if self.protocol.hd95 == "area":
            hd95 = masks.hd95_by_area_mm
        else:
            hd95 = hd95_pooled(masks.borders_voxels if self.protocol.hd95_unit == "voxel" else masks.borders_mm)
        return {
            "hd95_mm": hd95,
            "assd_mm": assd(masks.borders_mm),
            "nsd_1mm": nsd(masks.borders_mm, 1.0, epsilon=self.protocol.nsd_epsilon),
        }

    def _by_dilation(self, name: str, pair: LesionPair) -> dict[str, Any]:
        rules, tolerances = self.rules, self.protocol.lesion_nsd_tolerances_mm
        if rules is None:
            return {}
        scores = score_lesions(
            pair.masks,
            pair.reference,
            pair.prediction.labels,
            threshold_mm3=rules.threshold_of(self._tissue(name)),
            penalty=self._penalty,
            charges_false_positives=rules.charges_false_positives,
            nsd_tolerances_mm=tolerances,
            nsd_epsilon=self.protocol.nsd_epsilon,
        )
        of_nsd = {f"lesionwise_{nsd_column(one)}": value for one, value in zip(tolerances, scores.nsd, strict=True)}
        return {
            "lesionwise_dice": scores.dice,
            "lesionwise_hd95_mm": scores.hd95_mm,
            **{count: getattr(scores, count) for count in ("num_tp", "num_fp", "num_fn", "lesions")},
            **of_nsd,
        }

    def _numbers(self, table: EmptyTable) -> dict[str, float]:
        """Return a table's values, words put into numbers."""
        words = {PENALTY: lambda _: self._penalty, DIAGONAL: self._diagonal_for}
        return {
            metric: words[value](metric) if isinstance(value, str) else float(value) for metric, value in table.items()
        }

    @property
    def _penalty(self) -> float:
        if self.rules is None or self.rules.penalty == DIAGONAL:
            return self._diagonal_voxels
        return float(self.rules.penalty)

    @property
    def _diagonal_voxels(self) -> float:
        return math.hypot(*self.shape)

    def _diagonal_for(self, metric: str) -> float:
        """Return the grid's diagonal in the unit of a metric."""
        if metric == "hd95_mm" and self.protocol.hd95_unit == "voxel":
            return self._diagonal_voxels
        return math.hypot(*(size * spacing for size, spacing in zip(self.shape, self.spacing_mm, strict=True)))


def nsd_column(tolerance_mm: float) -> str:
    """Return the column of the surface Dice at a tolerance: `nsd_0_5mm`, `nsd_2mm`."""
    return f"nsd_{f'{tolerance_mm:g}'.replace('.', '_')}mm"


def _one_to_one(masks: MaskPair) -> dict[str, Any]:
    scores = score_instances(masks)
    return {
        "instance_dice": scores.dice,
        "instance_nsd": scores.nsd,
        "instance_hd95_mm": scores.hd95_mm,
        "detection_precision": scores.precision,
        "detection_recall": scores.recall,
        **{name: getattr(scores, name) for name in ("num_tp", "num_fp", "num_fn", "f1", "lesions")},
    }


def _without(masks: MaskPair, lesions: Lesions) -> MaskPair:
    """Return the masks with the prediction that is left in its lesions."""
    if np.count_nonzero(lesions.labels) == masks.counts.num_prediction:
        return masks
    return masks.with_prediction(lesions.labels > 0)
