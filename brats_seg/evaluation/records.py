"""Records: the scores of one region of one case, and the tables that they are written to.

`cases.csv` has the columns of the contract and nothing else; `supplement.csv` what needs no protocol; `lesions.csv` a
line a lesion, where a protocol counts them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from brats_seg.evaluation.lesionwise import LesionScore
from brats_seg.evaluation.protocols import PROTOCOLS
from brats_seg.evaluation.scoring import nsd_column
from brats_seg.files import write_csv

__all__ = [
    "COLUMNS",
    "Row",
    "SliceRow",
    "columns_of",
    "supplement_of",
    "write_cases_csv",
    "write_lesions_csv",
    "write_slices_csv",
    "write_supplement_csv",
]


@dataclass(frozen=True)
class Row:
    """The scores of one region (or single label) of one case; undefined is nan. Field names are columns of the CSVs.

    Fields of a protocol that the record is not of are None.
    """

    case: str
    region: str
    dice: float
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    hd95_mm: float
    """In voxels under a protocol that measures so (brats2020, instance)."""
    assd_mm: float
    nsd_1mm: float
    reference_ml: float
    prediction_ml: float
    """Of the label map as it is, also where a protocol drops small lesions."""
    reference_voxels: int
    prediction_voxels: int
    protocol: str
    lesionwise_dice: float | None = None
    lesionwise_hd95_mm: float | None = None
    lesionwise_nsd_0_5mm: float | None = None
    lesionwise_nsd_1mm: float | None = None
    num_tp: int | None = None
    num_fp: int | None = None
    num_fn: int | None = None
    f1: float | None = None
    instance_dice: float | None = None
    instance_nsd: float | None = None
    instance_hd95_mm: float | None = None
    detection_precision: float | None = None
    detection_recall: float | None = None
    accuracy: float = math.nan
    """(TP + TN) / grid: about .99 for anything, since nearly all of a grid is background on both sides."""
    relative_volume_difference: float = math.nan
    """(prediction - reference) / reference."""
    hd95_directed_mm: float = math.nan
    """MONAI's HD95: the larger of both directed percentiles."""
    nsd: Mapping[str, float] = field(default_factory=dict)
    """Surface Dice at further tolerances, by column name."""
    lesions: tuple[LesionScore, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class SliceRow:
    """The scores of one slice of a case, scored as a volume of its own."""

    slice: int
    """Its number in the name of its file; its index along K, from 0, where the reference is a volume."""
    row: Row


COLUMNS = tuple(one.name for one in fields(Row))[: [one.name for one in fields(Row)].index("protocol")]
"""Columns of `cases.csv` under any protocol, before those of its own and `protocol`."""

_SUPPLEMENT = ("accuracy", "relative_volume_difference", "hd95_directed_mm")
_DETECTION = ("detection_precision", "detection_recall")
_LESION = ("kind", "reference_voxels", "prediction_voxels", "num_predictions", "dice", "hd95_mm")


def columns_of(protocol: str) -> tuple[str, ...]:
    """Return the columns of `cases.csv` under a protocol, in order."""
    return (*COLUMNS, *PROTOCOLS[protocol].columns, "protocol")


def supplement_of(row: Row) -> dict[str, float]:
    """Return what `supplement.csv` has of a record, by column."""
    names = _SUPPLEMENT if row.detection_precision is None else _SUPPLEMENT + _DETECTION
    return {name: getattr(row, name) for name in names} | dict(row.nsd)


def write_cases_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write `cases.csv`: a line a record, floats in full precision, `inf` and `nan` in words; complete or not."""
    columns = columns_of(rows[0].protocol) if rows else (*COLUMNS, "protocol")
    write_csv(path, [columns, *([getattr(row, name) for name in columns] for row in rows)])


def write_slices_csv(path: Path, rows: Sequence[SliceRow]) -> None:
    """Write `slices.csv`: the columns of `cases.csv` with `slice` after `case`, a line a slice and region."""
    case, *others = columns_of(rows[0].row.protocol)
    lines = ([one.row.case, one.slice, *(getattr(one.row, name) for name in others)] for one in rows)
    write_csv(path, [[case, "slice", *others], *lines])


def write_supplement_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write `supplement.csv`: accuracy, relative volume difference, MONAI's HD95, further surface Dice."""
    columns = list(supplement_of(rows[0])) if rows else list(_SUPPLEMENT)
    lines = ([row.case, row.region, *(supplement_of(row)[name] for name in columns)] for row in rows)
    write_csv(path, [["case", "region", *columns], *lines])


def write_lesions_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write `lesions.csv`: a line a lesion of every region, those of the reference first, then the invented ones."""
    protocol = PROTOCOLS[rows[0].protocol]
    tolerances = [nsd_column(one) for one in protocol.lesion_nsd_tolerances_mm]
    if protocol.matching == "one-to-one":
        tolerances = ["nsd"]
    lines = (
        [row.case, row.region, number, *(getattr(one, name) for name in _LESION), *one.nsd]
        for row in rows
        for number, one in enumerate(row.lesions, 1)
    )
    write_csv(path, [["case", "region", "lesion", *_LESION, *tolerances], *lines])
