"""The challenge portals' own tables, for whoever compares with what a portal gave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.evaluation.protocols import PROTOCOLS
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.summary import statistics_of
from brats_seg.files import write_csv

__all__ = ["PORTAL_FILES", "write_portal_csv"]

PORTAL_FILES = ("portal.csv", "portal_full.csv")
"""Names of all tables that a portal may have."""

_TITLES_2020 = {"dice": "Dice", "sensitivity": "Sensitivity", "specificity": "Specificity", "hd95_mm": "Hausdorff95"}
_FOOTER_2020 = {"Mean": "mean", "StdDev": "sd", "Median": "median", "25quantile": "q25", "75quantile": "q75"}

_TITLES_LESIONS = {
    "lesionwise_dice": "LesionWise_Dice",
    "lesionwise_hd95_mm": "LesionWise_Hausdorff95",
    "num_tp": "Num_TP",
    "num_fp": "Num_FP",
    "num_fn": "Num_FN",
}
_TITLES_WHOLE = {"dice": "Dice", "hd95_mm": "Hausdorff95", "sensitivity": "Sensitivity", "specificity": "Specificity"}
_FOOTER_LESIONS = {"mean": "mean", "std": "sd", "25quantile": "q25", "median": "median", "75quantile": "q75"}


def write_portal_csv(folder: Path, rows: Sequence[Row], regions: Sequence[str]) -> list[Path]:
    """Write the tables of the protocol's portal into a folder, as far as it has one, and return their paths.

    2017-2021: `portal.csv` in the form of `Stats_Validation_final.csv`, ET, WT, TC. 2023 and 2024: `portal.csv` as
    `all_scores.csv` (lesion-wise), `portal_full.csv` as `all_full_scores.csv` (whole region), the regions in
    alphabetical order. A line a case, then mean, sd (of the sample), median and quartiles of each column over the cases
    where it is defined. Sources: files that the portals gave out; the scorer of the 2023 and 2024 challenges.
    """
    form = PROTOCOLS[rows[0].protocol].portal
    if form == "2020" and {"ET", "WT", "TC"} <= set(regions):
        lines = _table(rows, ("ET", "WT", "TC"), _TITLES_2020, _FOOTER_2020, corner="Label")
        return [_written(folder / "portal.csv", lines)]
    if form == "lesion-wise":
        names = sorted(regions)
        return [
            _written(folder / name, _table(rows, names, titles, _FOOTER_LESIONS, corner=""))
            for name, titles in zip(PORTAL_FILES, (_TITLES_LESIONS, _TITLES_WHOLE), strict=True)
        ]
    return []


def _table(
    rows: Sequence[Row],
    regions: Sequence[str],
    titles: Mapping[str, str],
    footer: Mapping[str, str],
    *,
    corner: str,
) -> list[Sequence[Any]]:
    by_case: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.region] = row
    columns = [[getattr(own[region], metric) for own in by_case.values()] for metric in titles for region in regions]
    header = [corner, *(f"{title}_{region}" for title in titles.values() for region in regions)]
    cases = [[case, *values] for case, values in zip(by_case, zip(*columns, strict=True), strict=True)]
    statistics = [statistics_of(np.array(column, float)) for column in columns]
    return [header, *cases, *([title, *(one[key] for one in statistics)] for title, key in footer.items())]


def _written(path: Path, lines: Sequence[Sequence[Any]]) -> Path:
    write_csv(path, lines)
    return path
