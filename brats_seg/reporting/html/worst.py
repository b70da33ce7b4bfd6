"""Which cases a reader should look at first.

Cases are taken in turn from each region's own list, the worst first, so that a region in which everything is hard (ET)
does not fill all places. A region that the reference does not have is no member of that list: any invented voxel makes
its overlap 0, whatever its size. Such false alarms are listed apart, and fill the places that are left, the largest
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from brats_seg.evaluation.saved import SavedEvaluation

__all__ = ["EmptyRegion", "WorstCase", "find_empty_regions", "find_worst_cases"]


@dataclass(frozen=True)
class WorstCase:
    """A case to look at, and in which region it is bad."""

    case: str
    region: str
    score: float
    """Mean of the overlap over the models; nan where it is undefined in all."""
    rank: int
    """1 = the worst of this region."""
    is_false_alarm: bool = False


@dataclass(frozen=True)
class EmptyRegion:
    """A region that one of both label maps does not have."""

    model: int
    case: str
    region: str
    kind: Literal["missed", "false alarm"]
    volume_ml: float
    """Of the mask that is not empty."""


def find_worst_cases(evaluations: Sequence[SavedEvaluation], metric: str, most: int) -> list[WorstCase]:
    """Return up to `most` cases, each once, in turn from every region's worst.

    Args:
        evaluations: of the same cases, in the same order.
        metric: an overlap, higher is better; several models are averaged.
        most: how many.
    """
    first = evaluations[0]
    lists = [_worst_of_region(evaluations, metric, row) for row in range(len(first.regions))]
    chosen: dict[str, WorstCase] = {}
    for one in _in_turn(lists):
        if len(chosen) == most:
            break
        chosen.setdefault(one.case, one)
    alarms = sorted(
        (one for one in find_empty_regions(evaluations) if one.kind == "false alarm"),
        key=lambda one: (-one.volume_ml, one.case),
    )
    for rank, alarm in enumerate(alarms, 1):
        if len(chosen) >= most:
            break
        chosen.setdefault(alarm.case, WorstCase(alarm.case, alarm.region, 0.0, rank, is_false_alarm=True))
    return list(chosen.values())


def find_empty_regions(evaluations: Sequence[SavedEvaluation]) -> list[EmptyRegion]:
    """Return where one mask is empty and the other is not, by model, then region, the largest volume first."""
    found = []
    for model, one in enumerate(evaluations):
        reference, prediction = (one.columns[f"{what}_voxels"] for what in ("reference", "prediction"))
        for column, region in enumerate(one.regions):
            for row, case in enumerate(one.cases):
                if bool(reference[row, column]) == bool(prediction[row, column]):
                    continue
                is_missed = bool(reference[row, column])
                volumes = one.columns["reference_ml" if is_missed else "prediction_ml"]
                kind: Literal["missed", "false alarm"] = "missed" if is_missed else "false alarm"
                found.append(EmptyRegion(model, case, region, kind, float(volumes[row, column])))
    order = evaluations[0].regions
    return sorted(found, key=lambda one: (one.model, order.index(one.region), one.kind, -one.volume_ml, one.case))


def _worst_of_region(evaluations: Sequence[SavedEvaluation], metric: str, column: int) -> list[WorstCase]:
    """Return the cases whose reference has the region, the lowest score first, then the largest, then by name."""
    first = evaluations[0]
    values = np.stack([one.columns[metric][:, column] for one in evaluations])
    num = np.isfinite(values).sum(axis=0)
    means = np.where(num, np.where(np.isfinite(values), values, 0).sum(axis=0) / np.maximum(num, 1), np.nan)
    sizes = first.columns["reference_voxels"][:, column]
    rows = [row for row in range(len(first.cases)) if sizes[row] and not np.isnan(means[row])]
    rows.sort(key=lambda row: (means[row], -sizes[row], first.cases[row]))
    region = first.regions[column]
    return [WorstCase(first.cases[row], region, float(means[row]), rank) for rank, row in enumerate(rows, 1)]


def _in_turn(lists: Sequence[Sequence[WorstCase]]) -> Iterator[WorstCase]:
    """Yield the lists' members in turn, each case once; a list whose next case was taken goes on to the one after."""
    taken: set[str] = set()
    queues = [iter(own) for own in lists]
    while queues:
        for queue in list(queues):
            one = next((one for one in queue if one.case not in taken), None)
            if one is None:
                queues.remove(queue)
            else:
                taken.add(one.case)
                yield one
