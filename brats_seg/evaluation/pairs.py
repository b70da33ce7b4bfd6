"""Pairs of reference and prediction: which files belong together, whether they can be compared, all of them scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from brats_seg.data.nifti import read_label_map, same_geometry
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.overlap import labels_in
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.references import Reference, label_maps_in, names_of

__all__ = ["Pair", "Scoring", "find_predictions", "match_predictions", "missing_predictions", "score_pairs"]


@dataclass(frozen=True)
class Pair:
    """A reference and what was predicted for it; None = no prediction, to be scored as a failure."""

    reference: Reference
    prediction: Path | None


@dataclass(frozen=True)
class Scoring:
    """How pairs are scored; plain values, since it goes to other processes."""

    protocol: str
    nsd_tolerances_mm: tuple[float, ...] = ()
    is_check_only: bool = False
    """Only look whether pairs can be compared, and score nothing."""


def score_pairs(
    pairs: Sequence[Pair], scoring: Scoring, *, jobs: int = 1, is_silent: bool = True
) -> tuple[list[Row], list[str]]:
    """Return the records of all pairs in their order, and what is wrong with any of them, in words.

    `jobs` processes share the pairs; neither result depends on their number.
    """
    from tqdm import tqdm  # noqa: PLC0415 (only work needs it, not an import of this module)

    work = partial(_score_pair, scoring=scoring)
    with tqdm(total=len(pairs), desc="evaluate", disable=is_silent, unit="case") as bar:
        results = map_in_processes(work, pairs, jobs=jobs, progress=bar.update)
    rows = [row for its_rows, _ in results for row in its_rows]
    return rows, [finding for _, findings in results for finding in findings]


def _score_pair(pair: Pair, *, scoring: Scoring) -> tuple[list[Row], list[str]]:
    """Return a pair's records, or what is wrong with it; runs in a process of its own."""
    case, edition = pair.reference.case, get_edition(pair.reference.edition)
    files = {"reference": pair.reference.path} | ({"prediction": pair.prediction} if pair.prediction else {})
    maps, headers, findings = [], [], []
    for what, path in files.items():
        try:
            label_map, header = read_label_map(path)
            edition.check_labels([0, *labels_in(label_map)], str(path))
        except DataError as error:
            findings.append(f"case {case}: {what} {error}")
        else:
            maps.append(label_map)
            headers.append(header)
    if len(headers) == 2 and (difference := same_geometry(*headers)):
        both = f": reference {_affine(headers[0])}, prediction {_affine(headers[1])}" if "affine" in difference else ""
        remedy = "write predictions on the reference's grid, with its header"
        findings.append(f"case {case}: prediction {pair.prediction}: {difference}{both}; {remedy}")
    if findings or scoring.is_check_only:
        return [], findings
    prediction = maps[1] if pair.prediction else None
    return evaluate_case(
        case,
        maps[0],
        prediction,
        edition,
        scoring.protocol,
        headers[0].spacing_mm,
        nsd_tolerances_mm=scoring.nsd_tolerances_mm,
    ), []


def _affine(header: Any) -> str:
    return str([[round(float(value), 4) + 0.0 for value in row] for row in header.affine[:3]])


def find_predictions(folder: Path) -> dict[str, list[Path]]:
    """Return the label maps directly in a folder by case, which is the file name without `.nii[.gz]`.

    Raises:
        DataError: there are none.
    """
    found = label_maps_in(folder)
    if not found:
        raise DataError(f"{folder}: no predictions in it; expected <case>.nii.gz or <case>.nii, directly in the folder")
    return found


def match_predictions(
    references: Sequence[Reference], predictions: dict[str, list[Path]]
) -> tuple[list[Pair], list[str], list[str]]:
    """Return the pairs, the cases without a prediction (their pairs have None), and what is wrong."""
    pairs, gone, findings = [], [], []
    for one in references:
        paths = predictions.get(one.case, [])
        if len(paths) > 1:
            findings.append(f"case {one.case}: two predictions ({names_of(paths)}); keep one")
        elif not paths:
            gone.append(one.case)
        pairs.append(Pair(one, paths[0] if paths else None))
    return pairs, gone, findings


def missing_predictions(folder: Path, gone: Sequence[str], num_cases: int, extra: Sequence[str]) -> str:
    """Return the message that names all cases without a prediction, and what to do."""
    others = f"; of no reference there: {', '.join(extra[:5])}{' ...' if len(extra) > 5 else ''}" if extra else ""
    return (
        f"{folder}: no prediction for {len(gone)} of {num_cases} cases: {', '.join(gone)} (expected <case>.nii.gz or "
        f"<case>.nii{others}); predict them, choose with --cases, or count them with --missing score-as-failure"
    )
