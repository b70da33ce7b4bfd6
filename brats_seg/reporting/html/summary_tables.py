"""A report's numbers as texts: headline tiles, tables of statistics, counts of misses, and a paired comparison.

Statistics are those of `evaluation.summary`, computed from the rows of `cases.csv`, so that a selection of cases has
its own. Undefined is an en dash, infinity is its sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.evaluation.comparison import RULES
from brats_seg.evaluation.paired import compare_pairs, order_of_models
from brats_seg.evaluation.protocols import Protocol
from brats_seg.evaluation.ranking import rank_models
from brats_seg.evaluation.saved import SavedEvaluation, join_evaluations
from brats_seg.evaluation.summary import statistics_of
from brats_seg.reporting.html.charts import letter_of
from brats_seg.reporting.html.svg import NUM_COLORS

__all__ = [
    "comparison_tables",
    "counts_table",
    "is_distance",
    "metric_title",
    "metric_unit",
    "number",
    "summary_tables",
    "tiles",
]

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "hd95_mm": "HD95",
    "assd_mm": "Mean surface distance",
    "nsd_1mm": "Surface Dice at 1 mm",
    "lesionwise_dice": "Lesion-wise Dice",
    "lesionwise_hd95_mm": "Lesion-wise HD95",
    "lesionwise_nsd_0_5mm": "Lesion-wise surface Dice at 0.5 mm",
    "lesionwise_nsd_1mm": "Lesion-wise surface Dice at 1 mm",
    "f1": "Detection F1",
    "instance_dice": "Dice of matched instances",
    "instance_nsd": "Surface Dice of matched instances",
    "instance_hd95_mm": "HD95 of matched instances",
}
_NARROW = "\N{EN DASH}"


def metric_title(name: str) -> str:
    """Return a column of `cases.csv` as a heading; a column that is not known stays as it is."""
    return _TITLES.get(name, name)


def is_distance(metric: str) -> bool:
    """Return whether a metric is a distance: lower is better, without a bound."""
    return metric.endswith("_mm") and ("hd95" in metric or "assd" in metric)


def metric_unit(metric: str, protocol: Protocol) -> str:
    """Return the unit of a metric under a protocol; "" for a share."""
    if not is_distance(metric):
        return ""
    return "voxels" if "hd95" in metric and protocol.hd95_unit == "voxel" else "mm"


def number(value: float, digits: int) -> str:
    """Return a number as text: an en dash for nan, a true minus, the sign of infinity."""
    if math.isnan(value):
        return _NARROW
    text = f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")
    return text.replace("-", "\N{MINUS SIGN}")


def tiles(evaluations: Sequence[SavedEvaluation], protocol: Protocol) -> list[dict[str, Any]]:
    """Return a tile a region: the protocol's overlap and distance, and missed cases, of each evaluation."""
    overlap, distance = protocol.main_metrics
    found = []
    for column, region in enumerate(evaluations[0].regions):
        rows = []
        for model, one in enumerate(evaluations):
            dice = statistics_of(one.columns[overlap][:, column])
            missed, present = _misses(one, column)
            rows.append(
                {
                    "letter": letter_of(model) if len(evaluations) > 1 else "",
                    "series": model % NUM_COLORS,
                    "mean": number(dice["mean"], 3),
                    "interval": _span(dice, "ci95_low", "ci95_high", 3),
                    "distance": number(statistics_of(one.columns[distance][:, column])["median"], 2),
                    "missed": f"missed in {missed} of {present}" if missed else "none missed",
                }
            )
        unit = metric_unit(distance, protocol)
        titles = {"overlap": metric_title(overlap), "distance": metric_title(distance)}
        found.append({"region": region, "rows": rows, "unit": unit, **titles})
    return found


def summary_tables(
    evaluations: Sequence[SavedEvaluation], protocol: Protocol
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the tables of the metrics a reader looks at first, and those of all others that every evaluation has."""
    known = [name for name in evaluations[0].metrics if all(name in one.columns for one in evaluations)]
    first = [name for name in dict.fromkeys((*protocol.main_metrics, "dice", "hd95_mm")) if name in known]
    every = {name: _statistics_table(evaluations, name, protocol) for name in known}
    return [every[name] for name in first], [every[name] for name in known if name not in first]


def _statistics_table(evaluations: Sequence[SavedEvaluation], metric: str, protocol: Protocol) -> dict[str, Any]:
    digits = 2 if is_distance(metric) else 3
    rows = []
    for column, region, css in _rows_of(evaluations):
        for model, one in enumerate(evaluations):
            of = statistics_of(one.columns[metric][:, column])
            rows.append(
                {
                    "region": region,
                    "letter": letter_of(model),
                    "css": f"{css} again" if model else css,
                    **{name: number(of[name], digits) for name in ("mean", "sd", "median")},
                    "interval": _span(of, "ci95_low", "ci95_high", digits),
                    "quartiles": _span(of, "q25", "q75", digits),
                    "num": of["num"],
                    "undefined": of["num_undefined"],
                }
            )
    return {"title": metric_title(metric), "unit": metric_unit(metric, protocol), "rows": rows}


def _rows_of(evaluations: Sequence[SavedEvaluation]) -> list[tuple[int, str, str]]:
    """Return (column, name, class) of the regions, then of the single labels that all evaluations have."""
    first = evaluations[0]
    regions = [(column, region, "") for column, region in enumerate(first.regions)]
    if any(one.labels != first.labels for one in evaluations):
        return regions
    return regions + [(len(regions) + column, label, "label") for column, label in enumerate(first.labels)]


def counts_table(evaluations: Sequence[SavedEvaluation]) -> dict[str, Any]:
    """Return how many cases have a region, miss it, invent it, and have it in neither; and lesions, where counted."""
    heads = ["in the reference", "missed", "invented", "in neither"]
    has_lesions = all("num_tp" in one.columns for one in evaluations)
    heads += ["lesions found", "lesions missed", "lesions invented"] if has_lesions else []
    rows = []
    for column, region, css in _rows_of(evaluations):
        for model, one in enumerate(evaluations):
            reference, prediction = (
                one.columns[f"{what}_voxels"][:, column] > 0 for what in ("reference", "prediction")
            )
            cells = [reference, reference & ~prediction, ~reference & prediction, ~reference & ~prediction]
            lesions = ("num_tp", "num_fn", "num_fp") if has_lesions else ()
            sums = [f"{np.nansum(one.columns[name][:, column]):.0f}" for name in lesions]
            rows.append(
                {
                    "region": region,
                    "letter": letter_of(model),
                    "css": f"{css} again" if model else css,
                    "cells": [*(str(int(mask.sum())) for mask in cells), *sums],
                }
            )
    return {"heads": heads, "rows": rows}


def comparison_tables(evaluations: Sequence[SavedEvaluation]) -> dict[str, Any]:
    """Return the ranking and the paired tests of several evaluations, as `brats-seg compare` makes them."""
    scores = join_evaluations(evaluations)
    ranking = rank_models(scores, seed=0)
    letters = {name: letter_of(model) for model, name in enumerate(scores.models)}
    rows = [
        {
            "rank": int(ranking.ranks[model]),
            "letter": letters[scores.models[model]],
            "name": scores.models[model],
            "mean": number(float(ranking.mean_ranks[model]), 3),
            "interval": f"{ranking.ci95_low[model]:.2f} to {ranking.ci95_high[model]:.2f}",
            "share": f"{100 * ranking.share_first[model]:.1f} %",
        }
        for model in order_of_models(scores, ranking)
    ]
    tests = [
        {
            "pair": f"{letters[test.first]} − {letters[test.second]}",  # noqa: RUF001
            "what": f"{test.region}, {metric_title(test.metric)}",
            "difference": number(test.mean_difference, 4),
            "interval": f"{number(test.ci95_low, 4)} to {number(test.ci95_high, 4)}",
            "counts": f"{test.wins} / {test.ties} / {test.losses}",
            "p": _p_value(test.p_value),
            "holm": _p_value(test.p_holm),
        }
        for test in compare_pairs(scores, ranking, seed=0)
    ]
    words = (RULES["ranking"], RULES["p_value"], RULES["p_holm"], RULES["mean_difference"])
    return {"ranking": rows, "tests": tests, "rules": f"{'. '.join(text[0].upper() + text[1:] for text in words)}."}


def _misses(one: SavedEvaluation, column: int) -> tuple[int, int]:
    reference: NDArray[np.bool_] = one.columns["reference_voxels"][:, column] > 0
    is_missed = reference & (one.columns["prediction_voxels"][:, column] == 0)
    return int(is_missed.sum()), int(reference.sum())


def _span(of: dict[str, float | int], low: str, high: str, digits: int) -> str:
    if math.isnan(of[low]) and math.isnan(of[high]):
        return _NARROW
    return f"{number(of[low], digits)}{_NARROW}{number(of[high], digits)}"


def _p_value(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
