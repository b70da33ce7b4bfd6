"""Protocols: what a challenge does with a region's counts and distances, and what stands where a mask is empty.

A protocol is one row of `PROTOCOLS`: the unit and definition of its HD95, and its table of empty cases, which is data.
A metric that such a table does not name has the value of its formula. A number never appears without its protocol.
Sources: CaPTk `Utilities -lsb` (the portal of BraTS 2017-2021) and nnU-Net's BraTS 2020 script, which agrees with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import UsageError, did_you_mean
from brats_seg.evaluation import overlap
from brats_seg.evaluation.overlap import Counts
from brats_seg.evaluation.surface import Spacing, assd, hd95_pooled, nsd, surface_distances

__all__ = [
    "DIAGONAL",
    "METRICS",
    "PROTOCOLS",
    "EmptyTable",
    "Protocol",
    "Spacing",
    "get_protocol",
    "score_missing",
    "score_region",
]

DIAGONAL: Final = "diagonal"
"""In an empty-case table: the grid's diagonal, in voxels or mm as the protocol measures that distance."""

_OVERLAP = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "sensitivity": overlap.sensitivity,
    "specificity": overlap.specificity,
    "precision": overlap.precision,
}

METRICS = (*_OVERLAP, "hd95_mm", "assd_mm", "nsd_1mm")
"""Metrics of a region, in the order of `cases.csv`."""

_Value = float | Literal["diagonal"]
EmptyTable = Mapping[str, _Value]


def _table(
    dice: float, sensitivity: float, specificity: float | None, precision: float, distance: _Value
) -> EmptyTable:
    """Return one row of an empty-case table; IoU and NSD follow Dice; None = by its formula."""
    values: dict[str, _Value | None] = {
        "dice": dice,
        "iou": dice,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": precision,
        "hd95_mm": distance,
        "assd_mm": distance,
        "nsd_1mm": dice,
    }
    return MappingProxyType({metric: value for metric, value in values.items() if value is not None})


@dataclass(frozen=True)
class Protocol:
    """One way to score: how HD95 is measured, and the values of each kind of empty case."""

    name: str
    title: str
    """What it is, and which HD95, in one line for tables and files."""
    hd95_unit: Literal["voxel", "mm"]
    both_empty: EmptyTable
    reference_empty: EmptyTable
    """Only the reference has no voxel of the region: a false alarm."""
    prediction_empty: EmptyTable
    """Only the prediction has none: a miss."""
    prediction_missing: EmptyTable
    """There is no prediction file, whatever the reference holds."""
    has_portal: bool = False
    """Whether the challenge's portal has a table of its own form, `portal.csv`."""

    def empty_case(self, counts: Counts) -> EmptyTable:
        """Return what stands in place of the formulas for these counts: nothing where neither mask is empty."""
        if not counts.num_reference:
            return self.reference_empty if counts.num_prediction else self.both_empty
        return {} if counts.num_prediction else self.prediction_empty


_NAN = math.nan

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="brats2020",
            title="BraTS 2017-2021 portal; HD95 = pooled percentile in voxels, grid diagonal where one mask is empty",
            hd95_unit="voxel",
            both_empty=_table(1, 1, 1, _NAN, 0),
            reference_empty=_table(0, 0, None, 0, DIAGONAL),
            prediction_empty=_table(0, 0, 1, _NAN, DIAGONAL),
            prediction_missing=_table(0, 0, 0, _NAN, 374),
            has_portal=True,
        ),
        Protocol(
            name="plain",
            title="no penalties; HD95 = pooled percentile in mm; undefined values are nan and counted",
            hd95_unit="mm",
            both_empty=_table(_NAN, _NAN, None, _NAN, _NAN),
            reference_empty=_table(0, _NAN, None, 0, _NAN),
            prediction_empty=_table(0, 0, None, _NAN, _NAN),
            prediction_missing=_table(0, 0, _NAN, _NAN, _NAN),
        ),
    )
}
"""All protocols by name.

`brats2020`: IoU, NSD and the mean surface distance are not the portal's; in empty cases they follow Dice and HD95 (the
distance is the diagonal in mm). A missing prediction is 0 and 374, as on the server of 2021; its precision is nan.
`plain`: Dice, IoU and NSD of one empty mask are 0 (their formulas say so), distances to nothing are nan.
"""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name!r} is unknown{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def score_region(
    counts: Counts,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    shape: tuple[int, ...],
    protocol: Protocol,
    spacing_mm: Spacing,
) -> dict[str, float]:
    """Return the metrics (`METRICS`) of one region.

    `counts` are of the whole grid of `shape`; `masks` (reference, prediction), bool (K, J, I), may be crops of it that
    hold all of the region. `assd_mm` and `nsd_1mm` are in mm, `hd95_mm` in the protocol's unit.
    """
    values = {name: formula(counts) for name, formula in _OVERLAP.items()}
    table = protocol.empty_case(counts)
    if table:
        return values | _penalties(table, shape, protocol, spacing_mm)
    return values | _distances(*masks, protocol, spacing_mm)


def score_missing(shape: tuple[int, ...], protocol: Protocol, spacing_mm: Spacing) -> dict[str, float]:
    """Return the metrics (`METRICS`) of any region where there is no prediction at all."""
    return _penalties(protocol.prediction_missing, shape, protocol, spacing_mm)


def _penalties(table: EmptyTable, shape: tuple[int, ...], protocol: Protocol, spacing_mm: Spacing) -> dict[str, float]:
    """Return an empty-case table as numbers: `diagonal` becomes that of the grid, in each distance's own unit."""
    in_mm = math.hypot(*(size * spacing for size, spacing in zip(shape, spacing_mm, strict=True)))
    diagonals = {"hd95_mm": math.hypot(*shape) if protocol.hd95_unit == "voxel" else in_mm, "assd_mm": in_mm}
    return {metric: diagonals[metric] if value == DIAGONAL else float(value) for metric, value in table.items()}


def _distances(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], protocol: Protocol, spacing_mm: Spacing
) -> dict[str, float]:
    in_mm = surface_distances(reference, prediction, spacing_mm)
    unit = (1.0, 1.0, 1.0) if protocol.hd95_unit == "voxel" else spacing_mm
    for_hd95 = in_mm if unit == spacing_mm else surface_distances(reference, prediction, unit)
    return {"hd95_mm": hd95_pooled(for_hd95), "assd_mm": assd(in_mm), "nsd_1mm": nsd(in_mm, 1.0)}
