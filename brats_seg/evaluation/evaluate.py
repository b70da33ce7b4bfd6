"""One case's label maps to records: the door for whoever has arrays.

    rows = evaluate_case("case", reference, prediction, "brats2020", "brats2023", spacing_mm=(1.0, 1.0, 1.0))
    rows[0].region, rows[0].lesionwise_dice, rows[0].num_fn

Arrays in, records out: finding and reading the files of a pair is in `pairs`, statistics over cases in `summary`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.masks import MaskPair
from brats_seg.evaluation.overlap import Box, Counts, confusion, mask_of_labels, scored_labels, union_box
from brats_seg.evaluation.protocols import Protocol, get_protocol
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.scoring import CaseScorer, LesionPair
from brats_seg.evaluation.surface import Spacing

__all__ = ["evaluate_case"]


def evaluate_case(
    case: str,
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8] | None,
    edition: Edition | str,
    protocol: Protocol | str,
    spacing_mm: Spacing,
    *,
    nsd_tolerances_mm: Sequence[float] = (),
) -> list[Row]:
    """Return one record a region of the edition, then one a label that is no region (NCR, ED), under a protocol.

    Args:
        case: its name, for records and messages.
        reference: uint8 label map (K, J, I) with the edition's labels; C order is fastest.
        prediction: the same on the same grid; None = there is none, which is scored as the protocol's failure.
        edition: an edition or its name; gives regions, labels and the task whose rules a protocol applies.
        protocol: a protocol or its name.
        spacing_mm: voxel size along (K, J, I).
        nsd_tolerances_mm: tolerances of further surface Dice in the records' `nsd`.

    Empty regions have the values of the protocol's table.

    Raises:
        DataError: the shapes differ, an array is not uint8, or a label is not the edition's.
        UsageError: the protocol has no rules for the edition's task.
    """
    edition = get_edition(edition) if isinstance(edition, str) else edition
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    predicted = np.zeros_like(reference) if prediction is None else prediction
    _check_arrays(case, reference, predicted)
    scorer = CaseScorer(protocol, protocol.rules_of(edition), edition.task, reference.shape, spacing_mm)
    box = _box_with_margin(reference, predicted, scorer.rules.largest_dilation + 1 if scorer.rules else 0)
    crops = reference[box], predicted[box]
    try:
        counts = confusion(*crops, edition, num_outside=reference.size - crops[0].size)
    except DataError as error:
        raise DataError(f"case {case}: {error}") from error
    masks = {
        name: MaskPair(mask_of_labels(crops[0], labels), mask_of_labels(crops[1], labels), counts[name], spacing_mm)
        for name, labels in scored_labels(edition).items()
    }
    lesions = scorer.lesions(masks)
    is_missing, rows = prediction is None, []
    for name, own in masks.items():
        pair = own if lesions is None else lesions[name]
        kept = pair.masks if isinstance(pair, LesionPair) else pair
        values: dict[str, Any] = {
            **scorer.region_values(kept, is_missing=is_missing),
            **scorer.lesion_values(name, pair, is_missing=is_missing),
            **scorer.more_values(kept, nsd_tolerances_mm),
        }
        rows.append(_row(case, name, values, own.counts, protocol, ml=math.prod(spacing_mm) / 1000))
    return rows


def _box_with_margin(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], margin: int) -> Box:
    """Return the box of all labels with a margin, as far as the grid goes."""
    box = union_box(reference, prediction)
    if box is None:
        return slice(0, 1), slice(0, 1), slice(0, 1)  # a voxel of background: some functions refuse empty arrays
    k, j, i = (
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, size in zip(box, reference.shape, strict=True)
    )
    return k, j, i


def _check_arrays(case: str, reference: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
    if reference.shape != prediction.shape or reference.ndim != 3:
        raise DataError(
            f"case {case}: reference is {reference.shape} voxels, prediction {prediction.shape} (K, J, I); "
            "both must be 3-D and on one grid"
        )
    kinds = reference.dtype, prediction.dtype
    if any(kind != np.uint8 for kind in kinds):
        raise DataError(
            f"case {case}: label maps must be uint8, found {kinds[0]} (reference) and {kinds[1]} (prediction)"
        )


def _row(case: str, region: str, values: dict[str, Any], counts: Counts, protocol: Protocol, *, ml: float) -> Row:
    return Row(
        case=case,
        region=region,
        reference_ml=counts.num_reference * ml,
        prediction_ml=counts.num_prediction * ml,
        reference_voxels=counts.num_reference,
        prediction_voxels=counts.num_prediction,
        protocol=protocol.name,
        **values,
    )
