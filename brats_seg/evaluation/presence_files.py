"""Presence of tumour in an evaluation: where thresholds come from, what `summary.json` and `presence.csv` hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_seg.errors import DataError, UsageError
from brats_seg.evaluation.presence import Samples, best_threshold, presence_summary, roc_curve
from brats_seg.evaluation.records import Row, SliceRow
from brats_seg.files import read_json, write_csv

__all__ = ["PRESENCE_FILE", "presence_of", "thresholds_of", "write_presence_csv"]

PRESENCE_FILE = "presence.csv"

_AUTO = "auto"


def thresholds_of(rule: str) -> Mapping[str, int] | None:
    """Return level (`case`, `slice`) -> threshold in voxels, of `--presence-voxels`; None where they are to be chosen.

    Args:
        rule: a number for both levels; `auto`; or the folder of another evaluation, whose thresholds are taken.

    Raises:
        DataError: that evaluation has no thresholds.
        UsageError: none of these.
    """
    if rule == _AUTO:
        return None
    if rule.isdecimal() and int(rule) >= 1:
        return {"case": int(rule), "slice": int(rule)}
    folder = Path(rule)
    if not folder.is_dir():
        raise UsageError(f"--presence-voxels {rule}: expected a number from 1, auto, or the folder of an evaluation")
    try:
        levels = read_json(folder / "summary.json")["presence"]["levels"]
        return {level: int(one["threshold_voxels"]) for level, one in levels.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder}: no thresholds of presence in its summary.json; evaluate with --presence-voxels auto first"
        raise DataError(message) from error


def presence_of(rows: Sequence[Row], slices: Sequence[SliceRow], region: str, rule: str) -> dict[str, Any]:
    """Return what `summary.json` has of presence: by case, and by slice where cases have several.

    Args:
        rows: of all regions and cases.
        slices: the same of each slice; may be empty.
        region: the one that is present or absent.
        rule: of `thresholds_of`.

    Raises:
        DataError: another evaluation, asked for its thresholds, has none for a level.
        UsageError: as `thresholds_of`.
    """
    thresholds = thresholds_of(rule)
    levels = {}
    for level, samples in _samples_of(rows, slices, region).items():
        if thresholds is not None and level not in thresholds:
            raise DataError(f"{rule}: has a threshold of presence by {', '.join(thresholds)}, none by {level}")
        chosen = best_threshold(samples.areas, samples.present) if thresholds is None else thresholds[level]
        levels[level] = presence_summary(samples, chosen)
    return {"region": region, "threshold_from": _origin(rule), "levels": levels}


def write_presence_csv(path: Path, rows: Sequence[Row], slices: Sequence[SliceRow], region: str) -> None:
    """Write the ROC curves: a line a threshold, the strictest first, by case and by slice."""
    lines: list[Sequence[Any]] = [("level", "threshold_voxels", "sensitivity", "specificity")]
    for level, samples in _samples_of(rows, slices, region).items():
        curve = zip(*(part.tolist() for part in roc_curve(samples.areas, samples.present)), strict=True)
        lines += [(level, *point) for point in curve]
    write_csv(path, lines)


def _samples_of(rows: Sequence[Row], slices: Sequence[SliceRow], region: str) -> dict[str, Samples]:
    levels = {"case": [row for row in rows if row.region == region]}
    own = [one.row for one in slices if one.row.region == region]
    if len(own) > len(levels["case"]):
        levels["slice"] = own
    return {
        level: Samples.of(
            [row.prediction_voxels for row in of], [row.reference_voxels > 0 for row in of], [row.case for row in of]
        )
        for level, of in levels.items()
    }


def _origin(rule: str) -> str:
    if rule == _AUTO:
        return "chosen on these cases (Youden), which flatters them: take it to others with --presence-voxels DIR"
    return "given" if rule.isdecimal() else f"chosen by the evaluation {rule}"
