"""Statistics over the cases of one evaluation, as `summary.json` holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import DataError
from brats_seg.evaluation.protocols import METRICS, PROTOCOLS, Protocol
from brats_seg.evaluation.records import Row, supplement_of

__all__ = ["statistics_of", "summarize"]

_NUM_RESAMPLES = 2000
"""Bootstrap samples behind a 95 % interval."""

_NUM_WORST = 5
"""Cases that a summary lists as the worst."""


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
    protocol = PROTOCOLS[protocols[0]]
    names = list(dict.fromkeys(row.region for row in rows))
    return {
        "protocol": protocols[0],
        "protocol_title": protocol.title,
        "main_metrics": list(protocol.main_metrics),
        "num_cases": len({row.case for row in rows}),
        "num_missing": len(missing),
        "missing": list(missing),
        "regions": {name: _summary_of_region([row for row in rows if row.region == name], missing) for name in names},
        "worst_cases": _worst_cases([row for row in rows if row.region in (regions or names)], protocol),
    }


def _summary_of_region(rows: Sequence[Row], missing: Sequence[str]) -> dict[str, Any]:
    predicted = [row for row in rows if row.case not in missing]
    return {
        "num_cases": len(rows),
        "num_empty_reference": sum(not row.reference_voxels for row in rows),
        "num_empty_prediction": sum(not row.prediction_voxels for row in predicted),
        "num_both_empty": sum(not (row.reference_voxels or row.prediction_voxels) for row in predicted),
        "metrics": {name: statistics_of(values) for name, values in _values_of_region(rows).items()},
    }


def _values_of_region(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    """Return every metric of a region's records, (case,)."""
    names = (*METRICS, *PROTOCOLS[rows[0].protocol].columns, "reference_ml", "prediction_ml")
    values = {name: np.array([getattr(row, name) for row in rows], float) for name in names}
    more = [supplement_of(row) for row in rows]
    return values | {name: np.array([one[name] for one in more], float) for name in more[0]}


def statistics_of(values: NDArray[np.float64]) -> dict[str, float | int]:
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


def _worst_cases(rows: Sequence[Row], protocol: Protocol) -> list[dict[str, Any]]:
    """Return the cases of the lowest mean of the protocol's main overlap (over regions that define it), worst first."""
    by_case: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.region] = row
    shown = tuple(dict.fromkeys(("dice", "hd95_mm", *protocol.main_metrics)))
    scored = []
    for case, own in by_case.items():
        score = _mean_defined([getattr(row, protocol.main_metrics[0]) for row in own.values()])
        if not math.isnan(score):
            scored.append((score, case, own))
    return [
        {
            "case": case,
            "score": score,
            "mean_dice": _mean_defined([row.dice for row in own.values()]),
            **{metric: {region: getattr(row, metric) for region, row in own.items()} for metric in shown},
        }
        for score, case, own in sorted(scored, key=lambda entry: entry[:2])[:_NUM_WORST]
    ]


def _mean_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
