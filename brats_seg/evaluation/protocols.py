"""Protocols: what a challenge measures, and what stands where a mask is empty. This module is data.

A protocol is one row of `PROTOCOLS`: which HD95, in which unit; its tables of empty cases; and, where it counts
lesions, a row for each task with dilations, thresholds and penalties. A metric that an empty-case table does not name
has the value of its formula. A number never appears without its protocol. What is done with a row is in `scoring`.

Sources: CaPTk `Utilities -lsb` (the portal of BraTS 2017-2021) and nnU-Net's BraTS 2020 script, which agrees with it;
the challenge's scripts BraTS-2023-Metrics (43c9052) and BraTS-2024-Metrics (f1131e3); the package BraTS_evaluation
0.0.10 with panoptica 2.1.7 (2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from brats_seg.editions import Edition
from brats_seg.errors import UsageError, did_you_mean
from brats_seg.evaluation.overlap import Counts

__all__ = [
    "DIAGONAL",
    "METRICS",
    "PENALTY",
    "PROTOCOLS",
    "EmptyTable",
    "LesionRules",
    "Protocol",
    "get_protocol",
    "tissue_of",
]

DIAGONAL: Final = "diagonal"
"""In a table: the grid's diagonal, in voxels or mm as the protocol measures that distance."""

PENALTY: Final = "penalty"
"""In a table: what the task's lesion rules charge for a distance that is infinite."""

METRICS = ("dice", "iou", "sensitivity", "specificity", "precision", "hd95_mm", "assd_mm", "nsd_1mm")
"""Metrics of a region, in the order of `cases.csv`."""

_Value = float | Literal["diagonal", "penalty"]
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
class LesionRules:
    """How one task of a challenge tells lesions apart, and what they cost."""

    dilation: int
    """Steps of 18-neighbour dilation within which parts are one lesion and a prediction counts as touching."""
    threshold_mm3: float
    """Reference lesions of at most this volume are left out of scores and counts."""
    penalty: float | Literal["diagonal"]
    """HD95 (mm) of a missed or invented lesion; `diagonal` = the grid's, in voxels."""
    tissue_dilations: Mapping[str, int] = field(default_factory=dict)
    """Tissues (`tissue_of`) with another dilation."""
    tissue_thresholds_mm3: Mapping[str, float] = field(default_factory=dict)
    """Tissues with another threshold."""
    joined_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tissue -> the tissues that join its lesions where several touch the same lesion of theirs, in this order."""
    filters_predictions: bool = True
    """Predicted parts are merged by dilation, too, and merged lesions up to the threshold vanish before anything."""
    charges_false_positives: bool = True
    """Whether predicted lesions that touch nothing count in the means."""

    def dilation_of(self, tissue: str) -> int:
        """Return the steps of dilation for a tissue or region."""
        return self.tissue_dilations.get(tissue, self.dilation)

    def threshold_of(self, tissue: str) -> float:
        """Return the threshold (mm3) for a tissue or region."""
        return self.tissue_thresholds_mm3.get(tissue, self.threshold_mm3)

    def __str__(self) -> str:
        """Return the rules in words."""
        penalty = "the grid's diagonal" if self.penalty == DIAGONAL else f"{self.penalty:g}"
        words = [f"parts within {self.dilation} steps of dilation are one lesion{_exceptions(self.tissue_dilations)}"]
        limits = _exceptions(self.tissue_thresholds_mm3)
        words.append(f"reference lesions up to {self.threshold_mm3:g} mm3{limits} are left out")
        if self.filters_predictions:
            words.append("predicted ones too, before anything is measured")
        joined = "; ".join(f"{tissue} by {', '.join(others)}" for tissue, others in self.joined_with.items())
        words += [f"lesions that touch the same lesion of another tissue are joined ({joined})"] * bool(joined)
        invented = "or invented " if self.charges_false_positives else ""
        return "; ".join([*words, f"a missed {invented}lesion costs Dice 0 and HD95 {penalty}"])

    @property
    def largest_dilation(self) -> int:
        """The most steps that any tissue is dilated by."""
        return max([self.dilation, *self.tissue_dilations.values()])


def _exceptions(values: Mapping[str, float]) -> str:
    return f" ({', '.join(f'{name} {value:g}' for name, value in values.items())})" if values else ""


@dataclass(frozen=True)
class Protocol:
    """One way to score."""

    name: str
    title: str
    """What it is, and which HD95, in one line for tables and files."""
    hd95: Literal["pooled", "area"]
    """Definition A (95th percentile of both lists of border distances pooled) or B (95 % of the surface's area)."""
    hd95_unit: Literal["voxel", "mm"]
    both_empty: EmptyTable
    reference_empty: EmptyTable
    """Only the reference has no voxel of the region: a false alarm."""
    prediction_empty: EmptyTable
    """Only the prediction has none: a miss."""
    prediction_missing: EmptyTable
    """There is no prediction file, whatever the reference holds."""
    lesions_missing: EmptyTable = field(default_factory=dict)
    """Lesion-wise scores where there is no prediction file."""
    disjoint: EmptyTable = field(default_factory=dict)
    """Neither is empty, but they have no voxel in common."""
    matching: Literal["dilation", "one-to-one"] | None = None
    """How lesions are matched; None = no lesions are counted."""
    tasks: Mapping[str, LesionRules] = field(default_factory=dict)
    """Edition's task -> its rules, where lesions are matched by dilation."""
    lesion_nsd_tolerances_mm: tuple[float, ...] = ()
    """Tolerances of the lesion-wise surface Dice."""
    nsd_tolerances_mm: tuple[float, ...] = ()
    """Tolerances of the whole region's surface Dice besides 1 mm (`supplement.csv`)."""
    nsd_epsilon: float = 0.0
    """Added to the denominator of the surface Dice."""
    columns: tuple[str, ...] = ()
    """Columns of `cases.csv` beyond those of every protocol."""
    main_metrics: tuple[str, str] = ("dice", "hd95_mm")
    """An overlap, which decides the worst cases, and a distance: what a reader looks at first."""
    ranked_by: tuple[str, ...] = ("dice", "hd95_mm")
    """Metrics that the challenge ranked by (2025: instance Dice alone; HD95 and NSD were only reported)."""
    portal: Literal["2020", "lesion-wise"] | None = None
    """The form of the challenge portal's own table, where there is one."""

    def empty_case(self, counts: Counts) -> EmptyTable:
        """Return what stands in place of the formulas for these counts: nothing if the masks have voxels in common."""
        if not counts.num_reference:
            return self.reference_empty if counts.num_prediction else self.both_empty
        if not counts.num_prediction:
            return self.prediction_empty
        return {} if counts.tp else self.disjoint

    def rules_of(self, edition: Edition) -> LesionRules | None:
        """Return the lesion rules of an edition's task; None where the protocol has none for any.

        Raises:
            UsageError: it has rules for other tasks alone.
        """
        if not self.tasks:
            return None
        if edition.task not in self.tasks:
            fitting = [one.name for one in PROTOCOLS.values() if not one.tasks or edition.task in one.tasks]
            raise UsageError(
                f"--protocol {self.name}: has no rules for task {edition.task} (edition {edition.name}), only for "
                f"{', '.join(self.tasks)}; choose one of {', '.join(fitting)}"
            )
        return self.tasks[edition.task]


_NAN = math.nan

_LESION_COLUMNS = ("lesionwise_dice", "lesionwise_hd95_mm", "num_tp", "num_fp", "num_fn")

# Whole-region numbers of the scripts of 2023 and 2024.
_NOTHING = _table(1, 1, None, _NAN, 0)
_FALSE_ALARM = _table(0, 0, None, 0, PENALTY)
_MISS = _table(0, 0, None, _NAN, PENALTY)
_NO_FILE = _table(0, 0, 0, _NAN, PENALTY)
_NO_LESIONS: EmptyTable = MappingProxyType({"lesionwise_dice": 0, "lesionwise_hd95_mm": PENALTY})
_NO_LESIONS_NSD = MappingProxyType({**_NO_LESIONS, "lesionwise_nsd_0_5mm": 0, "lesionwise_nsd_1mm": 0})
_NO_INSTANCES: EmptyTable = MappingProxyType({"f1": 0, "instance_dice": 0, "instance_nsd": 0, "instance_hd95_mm": 373})

_MEN_2023 = LesionRules(1, 50, 374, filters_predictions=False)

_TASKS_2023 = {
    **dict.fromkeys(("GLI", "SSA", "PED"), LesionRules(3, 50, 374, filters_predictions=False)),
    "MEN": _MEN_2023,
    "MET": LesionRules(1, 2, 374, filters_predictions=False),
}

_TASKS_2024 = {
    "GLI": LesionRules(
        3,
        20,
        337,
        tissue_dilations={"NETC": 5, "RC": 5},  # SNFH was meant to have 5, too; its name is misspelt in the script
        tissue_thresholds_mm3={"ET": 10},
        joined_with={
            "NETC": ("ET", "RC"),
            "ET": ("NETC", "RC"),
            "RC": ("ET", "NETC"),
            "SNFH": ("ET", "RC", "NETC"),
        },
    ),
    "SSA": LesionRules(3, 50, 374, joined_with={"ET": ("NETC",)}),
    "PED": LesionRules(5, 10, 374),
    "MET": LesionRules(1, 2, DIAGONAL, joined_with={"ET": ("NETC",)}),
    "MEN-RT": LesionRules(1, 50, DIAGONAL, charges_false_positives=False),
    "MEN": _MEN_2023,
}

_ROWS = (
    Protocol(
        name="brats2020",
        title="BraTS 2017-2021 portal; HD95 = pooled percentile in voxels, grid diagonal where one mask is empty",
        hd95="pooled",
        hd95_unit="voxel",
        both_empty=_table(1, 1, 1, _NAN, 0),
        reference_empty=_table(0, 0, None, 0, DIAGONAL),
        prediction_empty=_table(0, 0, 1, _NAN, DIAGONAL),
        prediction_missing=_table(0, 0, 0, _NAN, 374),
        portal="2020",
    ),
    Protocol(
        name="brats2023",
        title="BraTS 2023, lesion-wise; HD95 = by surface area in mm; a missed or invented lesion is 0 and 374",
        hd95="area",
        hd95_unit="mm",
        both_empty=_NOTHING,
        reference_empty=_FALSE_ALARM,
        prediction_empty=_MISS,
        prediction_missing=_NO_FILE,
        lesions_missing=_NO_LESIONS,
        matching="dilation",
        tasks=_TASKS_2023,
        columns=_LESION_COLUMNS,
        main_metrics=("lesionwise_dice", "lesionwise_hd95_mm"),
        ranked_by=("lesionwise_dice", "lesionwise_hd95_mm"),
        portal="lesion-wise",
    ),
    Protocol(
        name="brats2024",
        title="BraTS 2024, lesion-wise; HD95 = by surface area in mm; small predicted lesions are dropped first",
        hd95="area",
        hd95_unit="mm",
        both_empty=_NOTHING,
        reference_empty=_FALSE_ALARM,
        prediction_empty=_MISS,
        prediction_missing=_NO_FILE,
        lesions_missing=_NO_LESIONS_NSD,
        matching="dilation",
        tasks=_TASKS_2024,
        lesion_nsd_tolerances_mm=(0.5, 1.0),
        nsd_tolerances_mm=(0.5,),
        nsd_epsilon=1e-8,
        columns=(*_LESION_COLUMNS, "lesionwise_nsd_0_5mm", "lesionwise_nsd_1mm"),
        main_metrics=("lesionwise_dice", "lesionwise_hd95_mm"),
        ranked_by=("lesionwise_dice", "lesionwise_hd95_mm"),
        portal="lesion-wise",
    ),
    Protocol(
        name="instance",
        title="BraTS 2025, instances matched one to one; whole-region HD95 = pooled percentile in voxels, or 373",
        hd95="pooled",
        hd95_unit="voxel",
        both_empty=_table(_NAN, _NAN, None, _NAN, _NAN),
        reference_empty=_table(0, _NAN, None, 0, 373),
        prediction_empty=_table(0, 0, None, _NAN, 373),
        prediction_missing=_table(0, 0, 0, _NAN, 373),
        lesions_missing=_NO_INSTANCES,
        disjoint=MappingProxyType({"hd95_mm": 373, "nsd_1mm": 0}),
        matching="one-to-one",
        nsd_tolerances_mm=(0.5,),  # the package's own for the whole region
        columns=("num_tp", "num_fp", "num_fn", "f1", "instance_dice", "instance_nsd", "instance_hd95_mm"),
        main_metrics=("instance_dice", "instance_hd95_mm"),
        ranked_by=("instance_dice",),
    ),
    Protocol(
        name="plain",
        title="no penalties; HD95 = pooled percentile in mm; undefined values are nan and counted",
        hd95="pooled",
        hd95_unit="mm",
        both_empty=_table(_NAN, _NAN, None, _NAN, _NAN),
        reference_empty=_table(0, _NAN, None, 0, _NAN),
        prediction_empty=_table(0, 0, None, _NAN, _NAN),
        prediction_missing=_table(0, 0, _NAN, _NAN, _NAN),
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ROWS})
"""All protocols by name.

`brats2020`: IoU, NSD and the mean surface distance are not the portal's; in empty cases they follow Dice and HD95 (the
distance is the diagonal in mm). A missing prediction is 0 and 374, as on the server of 2021; its precision is nan.

`brats2023`, `brats2024`: the whole-region columns are the scripts' legacy numbers. In 2024 they are of the prediction
without its small lesions, and HD95, sensitivity and specificity are what the script meant: it computes them on arrays
of lesion numbers in place of masks, which is wrong as soon as a region has two lesions. Its other slips are kept: SNFH
is dilated by 3. MET and MEN-RT are charged the grid's diagonal, as in the script of 2025; MEN has the rules of 2023
with surface Dice. Thresholds are in mm3 on both sides (the scripts count voxels of predictions but for MEN-RT; all
their grids but that one's are 1 mm). Precision, IoU and mean surface distance are ours and follow Dice and HD95 where a
mask is empty. The public scorers do not count a missing prediction at all; scored as a failure it is 0 and the penalty.

`instance`: the whole-region numbers are of the masks. The package leaves an infinite distance of no matched instance
infinite, and so does this; it writes 373 for the whole region's.

`plain`: Dice, IoU and NSD of one empty mask are 0 (their formulas say so), distances to nothing are nan.
"""

_TISSUES = {"NCR": "NETC", "NC": "NETC", "NET": "NETC", "ED": "SNFH"}


def tissue_of(name: str, task: str) -> str:
    """Return what a label or region of an edition is called in the rules of 2024 (`NCR` -> `NETC`, `ED` -> `SNFH`)."""
    return name if task == "PED" else _TISSUES.get(name, name)


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name!r} is unknown{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]
