"""A report's cases as texts: the table of all of them, what is missed or invented, and the cards of the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brats_seg.evaluation.protocols import Protocol
from brats_seg.evaluation.saved import SavedEvaluation
from brats_seg.reporting.html.case_pictures import CasePicture
from brats_seg.reporting.html.charts import letter_of
from brats_seg.reporting.html.summary_tables import is_distance, metric_title, number
from brats_seg.reporting.html.svg import NUM_COLORS
from brats_seg.reporting.html.worst import EmptyRegion, WorstCase

__all__ = ["card_of", "case_table", "empty_rows", "tips"]

_MOST_EMPTY = 40
"""Rows of missed and invented regions that are listed."""
_SHORT = {
    "lesionwise_dice": "LW Dice",
    "lesionwise_hd95_mm": "LW HD95",
    "instance_dice": "inst. Dice",
    "instance_hd95_mm": "inst. HD95",
}


def case_table(evaluations: Sequence[SavedEvaluation], protocol: Protocol, links: Mapping[str, str]) -> dict[str, Any]:
    """Return the table of all cases: a row a case, for each region its scores and volumes.

    Several evaluations stand beside each other, with the protocol's own overlap and distance alone. `links` are the
    places of pictures, by case.
    """
    first = evaluations[0]
    wanted = dict.fromkeys((*protocol.main_metrics, *(("dice",) if len(evaluations) == 1 else ())))
    columns, sources = [], []
    for region, name in enumerate(first.regions):
        own: list[dict[str, Any]] = []
        for metric in wanted:
            for model, one in enumerate(evaluations):
                letter = f" {letter_of(model)}" if len(evaluations) > 1 else ""
                key = name if metric == protocol.main_metrics[0] else ""
                own.append({"name": _short(metric) + letter, "key": key, "first": False})
                sources.append((one.columns[metric][:, region], 2 if is_distance(metric) else 3))
        volumes = [("reference_ml", "ref ml")] + [("prediction_ml", "pred ml")] * (len(evaluations) == 1)
        for column, title in volumes:
            own.append({"name": title, "key": "", "first": False})
            sources.append((first.columns[column][:, region], 1))
        own[0]["first"] = True
        columns += own
    span = len(columns) // len(first.regions)
    rows = [
        {
            "index": row,
            "case": case,
            "link": links.get(case, ""),
            "cells": [number(float(values[row]), digits) for values, digits in sources],
        }
        for row, case in enumerate(first.cases)
    ]
    groups = [{"name": region, "span": span} for region in first.regions]
    return {"groups": groups, "columns": columns, "rows": rows, "regions": first.regions}


def _short(metric: str) -> str:
    return _SHORT.get(metric, metric_title(metric))


def tips(evaluations: Sequence[SavedEvaluation], metric: str) -> list[str]:
    """Return what is said of each case beside the pointer: its name, and a single evaluation's overlaps."""
    first = evaluations[0]
    if len(evaluations) > 1:
        return list(first.cases)
    texts = []
    for row, case in enumerate(first.cases):
        values = (f"{name} {number(float(first.columns[metric][row, n]), 3)}" for n, name in enumerate(first.regions))
        texts.append(" · ".join((case, *values)))
    return texts


def empty_rows(
    evaluations: Sequence[SavedEvaluation], found: Sequence[EmptyRegion]
) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of regions that one label map lacks, and how many are left out."""
    cases = evaluations[0].cases
    chosen = found
    if len(found) > _MOST_EMPTY:
        kept = set(map(id, sorted(found, key=lambda one: -one.volume_ml)[:_MOST_EMPTY]))
        chosen = [one for one in found if id(one) in kept]
    rows = [
        {
            "index": cases.index(one.case),
            "case": one.case,
            "letter": letter_of(one.model),
            "region": one.region,
            "kind": "missed" if one.kind == "missed" else "invented",
            "volume": number(one.volume_ml, 3),
        }
        for one in chosen
    ]
    return rows, len(found) - len(chosen)


def card_of(
    worst: WorstCase,
    evaluations: Sequence[SavedEvaluation],
    names: Sequence[str],
    protocol: Protocol,
    pictures: Sequence[CasePicture],
    files: Sequence[str],
) -> dict[str, Any]:
    """Return the card of a case: why it is shown, its pictures, and its numbers, region by region.

    Args:
        worst: the case.
        evaluations: in the order of `names`, `pictures` and `files`.
        names: of the evaluations.
        protocol: theirs.
        pictures: one an evaluation, or none at all.
        files: names of pictures that lie beside the page; "" for one that stands in it.
    """
    row = evaluations[0].cases.index(worst.case)
    several = len(evaluations) > 1
    shown = []
    for model, picture in enumerate(pictures):
        own: dict[str, Any] = {"letter": letter_of(model), "series": model % NUM_COLORS, "name": names[model]}
        shown.append({**own, "svg": "" if files[model] else picture.svg, "file": files[model], "notes": picture.notes})
    heads, rows = _numbers_of_case(row, evaluations, protocol, pictures)
    what = f"invented {worst.region}" if worst.is_false_alarm else f"number {worst.rank} of the worst in {worst.region}"
    score = "" if worst.is_false_alarm else f", {'mean ' * several}{_short(protocol.main_metrics[0])} {worst.score:.3f}"
    return {
        "index": row,
        "case": worst.case,
        "region": worst.region,
        "regions": evaluations[0].regions,
        "why": f"{what}{score}",
        "pictures": shown if any(picture.svg or picture.notes for picture in pictures) else [],
        "heads": heads,
        "rows": rows,
    }


def _numbers_of_case(
    row: int, evaluations: Sequence[SavedEvaluation], protocol: Protocol, pictures: Sequence[CasePicture]
) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of a case's own table; missed and false volumes are the pictures' own."""
    several = len(evaluations) > 1
    heads = ["ref ml"]
    rows = [[region] for region in evaluations[0].regions]
    for column, own in enumerate(rows):
        own.append(number(float(evaluations[0].columns["reference_ml"][row, column]), 1))
    for model, one in enumerate(evaluations):
        letter = f" {letter_of(model)}" if several else ""
        picture = pictures[model] if pictures else None
        has_faults = picture is not None and bool(picture.missed_ml)
        metrics = list(dict.fromkeys((*protocol.main_metrics, *(() if several else ("dice", "hd95_mm")))))
        heads += [f"pred ml{letter}"] + [f"{what} ml{letter}" for what in ("missed", "false") * has_faults]
        heads += [_short(metric) + letter for metric in metrics]
        for column, own in enumerate(rows):
            own.append(number(float(one.columns["prediction_ml"][row, column]), 1))
            if picture is not None and has_faults:
                own += [number(picture.missed_ml[column], 1), number(picture.false_ml[column], 1)]
            own += [
                number(float(one.columns[metric][row, column]), 2 if is_distance(metric) else 3) for metric in metrics
            ]
    return heads, rows
