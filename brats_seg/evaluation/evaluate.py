"""One case's label maps to records, records to `cases.csv` and to a summary.

    rows = evaluate_case("case", reference, prediction, "brats2020", "brats2020", spacing_mm=(1.0, 1.0, 1.0))
    write_cases_csv(Path("cases.csv"), rows)
    summarize(rows)["regions"]["ET"]["metrics"]["dice"]["mean"]

Arrays in, records out: finding and reading the files of a pair is in `pairs`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.overlap import Counts, confusion, mask_of_labels, scored_labels, union_box
from brats_seg.evaluation.protocols import (
    METRICS,
    PROTOCOLS,
    Protocol,
    Spacing,
    get_protocol,
    score_missing,
    score_region,
)
from brats_seg.files import write_text

__all__ = ["COLUMNS", "Row", "evaluate_case", "summarize", "write_cases_csv", "write_portal_csv"]

_NUM_RESAMPLES = 2000
"""Bootstrap samples behind a 95 % interval."""

_NUM_WORST = 5
"""Cases that a summary lists as the worst."""


@dataclass(frozen=True)
class Row:
    """The scores of one region (or single label) of one case; undefined is nan. Fields are the columns of the CSV."""

    case: str
    region: str
    dice: float
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    hd95_mm: float
    """In voxels under a protocol that measures so (brats2020)."""
    assd_mm: float
    nsd_1mm: float
    reference_ml: float
    prediction_ml: float
    reference_voxels: int
    prediction_voxels: int
    protocol: str


COLUMNS = tuple(field.name for field in fields(Row))
"""Columns of `cases.csv`, in order."""


def evaluate_case(
    case: str,
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8] | None,
    edition: Edition | str,
    protocol: Protocol | str,
    spacing_mm: Spacing,
) -> list[Row]:
    """Return one record a region of the edition, then one a label that is no region (NCR, ED), under a protocol.

    `reference` and `prediction` are uint8 label maps of one shape (K, J, I) with the edition's labels; no prediction
    (None) is scored as the protocol's failure. Empty regions have the values of the protocol's table.

    Raises:
        DataError: the shapes differ, an array is not uint8, or a label is not the edition's.
    """
    edition = get_edition(edition) if isinstance(edition, str) else edition
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    predicted = np.zeros_like(reference) if prediction is None else prediction
    _check_arrays(case, reference, predicted)
    box = union_box(reference, predicted) or (slice(0, 0),) * 3
    crops = reference[box], predicted[box]
    try:
        counts = confusion(*crops, edition, num_outside=reference.size - crops[0].size)
    except DataError as error:
        raise DataError(f"case {case}: {error}") from error
    rows = []
    for region, labels in scored_labels(edition).items():
        if prediction is None:
            values = score_missing(reference.shape, protocol, spacing_mm)
        else:
            masks = (mask_of_labels(crops[0], labels), mask_of_labels(crops[1], labels))
            values = score_region(counts[region], masks, reference.shape, protocol, spacing_mm)
        rows.append(_row(case, region, values, counts[region], protocol, ml=math.prod(spacing_mm) / 1000))
    return rows


def write_cases_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write `cases.csv`: a line a record, floats in full precision, `inf` and `nan` in words; complete or not."""
    _write_csv(path, [COLUMNS, *(astuple(row) for row in rows)])


def write_portal_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the ET, WT, TC scores in the form of the portal's `Stats_Validation_final.csv`.

    A line a case, then mean, sd (sample), median and quartiles of each column over the cases where it is defined.
    """
    regions, metrics = ("ET", "WT", "TC"), ("dice", "sensitivity", "specificity", "hd95_mm")
    titles = {"dice": "Dice", "sensitivity": "Sensitivity", "specificity": "Specificity", "hd95_mm": "Hausdorff95"}
    by_case: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.region] = row
    columns = [[getattr(own[region], metric) for own in by_case.values()] for metric in metrics for region in regions]
    lines: list[Sequence[Any]] = [
        ["Label", *(f"{titles[metric]}_{region}" for metric in metrics for region in regions)]
    ]
    lines += [[case, *values] for case, values in zip(by_case, zip(*columns, strict=True), strict=True)]
    footer = {"Mean": "mean", "StdDev": "sd", "Median": "median", "25quantile": "q25", "75quantile": "q75"}
    statistics = [_statistics(np.array(column, float)) for column in columns]
    lines += [[title, *(column[key] for column in statistics)] for title, key in footer.items()]
    _write_csv(path, lines)


def summarize(
    rows: Sequence[Row], *, regions: Sequence[str] | None = None, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the statistics of the records of one evaluation, as `summary.json` holds them.

    Per region and metric: mean, sd (of the sample), median, quartiles and a bootstrap 95 % interval of the mean
    (percentiles of 2000 resamples of the cases, seed fixed), over the cases where the metric is defined, and the number
    of those where it is not (nan). `regions` are those that decide which cases are the worst (default: all that the
    records name); `missing` are the cases that had no prediction.

    Raises:
        DataError: there are no records, or they are of several protocols.
    """
    protocols = sorted({row.protocol for row in rows})
    if len(protocols) != 1:
        raise DataError(f"a summary needs the records of one protocol, found {protocols or 'no records'}")
    names = list(dict.fromkeys(row.region for row in rows))
    return {
        "protocol": protocols[0],
        "protocol_title": PROTOCOLS[protocols[0]].title,
        "num_cases": len({row.case for row in rows}),
        "num_missing": len(missing),
        "missing": list(missing),
        "regions": {name: _summary_of_region([row for row in rows if row.region == name], missing) for name in names},
        "worst_cases": _worst_cases([row for row in rows if row.region in (regions or names)]),
    }


def _summary_of_region(rows: Sequence[Row], missing: Sequence[str]) -> dict[str, Any]:
    predicted = [row for row in rows if row.case not in missing]
    metrics = (*METRICS, "reference_ml", "prediction_ml")
    return {
        "num_cases": len(rows),
        "num_empty_reference": sum(not row.reference_voxels for row in rows),
        "num_empty_prediction": sum(not row.prediction_voxels for row in predicted),
        "num_both_empty": sum(not (row.reference_voxels or row.prediction_voxels) for row in predicted),
        "metrics": {name: _statistics(np.array([getattr(row, name) for row in rows], float)) for name in metrics},
    }


def _statistics(values: NDArray[np.float64]) -> dict[str, float | int]:
    """Return the statistics of the values that are defined (not nan); nan where there are too few."""
    defined = values[~np.isnan(values)]
    names = ("mean", "sd", "median", "q25", "q75", "ci95_low", "ci95_high")
    numbers = [math.nan] * len(names)
    if defined.size:
        with np.errstate(invalid="ignore"):  # inf - inf, where distances are infinite, is nan as it should be
            sd = np.std(defined, ddof=1) if defined.size > 1 else math.nan
            means = defined[_resamples(defined.size)].mean(axis=1)
            quartiles = np.percentile(defined, [50, 25, 75])
            numbers = [float(x) for x in (defined.mean(), sd, *quartiles, *np.percentile(means, [2.5, 97.5]))]
    return {
        **dict(zip(names, numbers, strict=True)),
        "num": int(defined.size),
        "num_undefined": int(values.size - defined.size),
    }


@lru_cache(maxsize=2)
def _resamples(size: int) -> NDArray[np.int64]:
    """Return the cases of each bootstrap sample, (_NUM_RESAMPLES, size): the same in every run and for every metric."""
    return np.random.default_rng(0).integers(size, size=(_NUM_RESAMPLES, size))


def _worst_cases(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the cases of lowest mean Dice (over the regions where it is defined), the worst first."""
    by_case: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.region] = row
    scored = []
    for case, own in by_case.items():
        defined = [row.dice for row in own.values() if not math.isnan(row.dice)]
        if defined:
            scored.append((math.fsum(defined) / len(defined), case, own))
    return [
        {
            "case": case,
            "mean_dice": mean,
            "dice": {region: row.dice for region, row in own.items()},
            "hd95_mm": {region: row.hd95_mm for region, row in own.items()},
        }
        for mean, case, own in sorted(scored, key=lambda entry: entry[:2])[:_NUM_WORST]
    ]


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


def _row(case: str, region: str, values: Mapping[str, float], counts: Counts, protocol: Protocol, *, ml: float) -> Row:
    return Row(
        case,
        region,
        **values,
        reference_ml=counts.num_reference * ml,
        prediction_ml=counts.num_prediction * ml,
        reference_voxels=counts.num_reference,
        prediction_voxels=counts.num_prediction,
        protocol=protocol.name,
    )


def _write_csv(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([repr(float(x)) if isinstance(x, float) else x for x in line] for line in lines)
    write_text(path, text.getvalue())
