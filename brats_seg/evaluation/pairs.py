"""Pairs of reference and prediction: which files belong together, whether they can be compared, all of them scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.reading import read_label_map, same_geometry, slice_numbers
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.evaluation.calibration import sum_counts
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.overlap import labels_in
from brats_seg.evaluation.pooled import label_histogram
from brats_seg.evaluation.probabilities import count_case
from brats_seg.evaluation.records import Row, SliceRow
from brats_seg.evaluation.references import Reference, label_maps_in, names_of

__all__ = [
    "Pair",
    "PairScores",
    "Scoring",
    "find_predictions",
    "match_predictions",
    "missing_predictions",
    "score_pairs",
]


_MM_SLACK = 1e-3
"""How far an edge may be from 1 mm and still be called so: headers keep it as float32, registration rounds it."""


@dataclass(frozen=True)
class Pair:
    """A reference and what was predicted for it; None = no prediction, to be scored as a failure."""

    reference: Reference
    prediction: Path | None
    probabilities: Mapping[str, Path] = field(default_factory=dict)
    """Region -> file of the probabilities behind the prediction, where those are to be looked at, too."""


@dataclass(frozen=True)
class PairScores:
    """What came of a pair."""

    rows: list[Row]
    findings: list[str]
    """What is wrong with it, in words; then there are no records."""
    levels: NDArray[np.int64] | None = None
    """(region, 2, 256) voxels by probability and reference, see `calibration`."""
    other_voxels: tuple[str, ...] = ()
    """Cases whose voxels are not 1 mm along every axis."""
    slices: list[SliceRow] = field(default_factory=list)
    """Records of each slice, where those are asked for or the edition is a 2D set."""
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Edition -> voxels with each pair of labels, see `pooled`."""


@dataclass(frozen=True)
class Scoring:
    """How pairs are scored; plain values, since it goes to other processes."""

    protocol: str
    nsd_tolerances_mm: tuple[float, ...] = ()
    is_check_only: bool = False
    """Only look whether pairs can be compared, and score nothing."""
    with_slices: bool = False
    """Score each slice of volumes, too; those of 2D sets are always scored."""


def score_pairs(pairs: Sequence[Pair], scoring: Scoring, *, jobs: int = 1, is_silent: bool = True) -> PairScores:
    """Return the records of all pairs in their order, their levels summed, and what is wrong with any of them.

    `jobs` processes share the pairs; the result does not depend on their number.
    """
    from tqdm import tqdm  # noqa: PLC0415 (only work needs it, not an import of this module)

    work = partial(_score_pair, scoring=scoring)
    with tqdm(total=len(pairs), desc="evaluate", disable=is_silent, unit="case") as bar:
        results = map_in_processes(work, pairs, jobs=jobs, progress=bar.update)
    levels = [one.levels for one in results if one.levels is not None]
    return PairScores(
        [row for one in results for row in one.rows],
        [finding for one in results for finding in one.findings],
        sum_counts(levels) if levels else None,
        tuple(case for one in results for case in one.other_voxels),
        [row for one in results for row in one.slices],
        _summed([one.histograms for one in results]),
    )


def _summed(parts: Sequence[Mapping[str, NDArray[np.int64]]]) -> dict[str, NDArray[np.int64]]:
    total: dict[str, NDArray[np.int64]] = {}
    for part in parts:
        for edition, table in part.items():
            total[edition] = total[edition] + table if edition in total else table
    return total


def _score_pair(pair: Pair, *, scoring: Scoring) -> PairScores:
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
    levels = None
    if pair.probabilities and not findings:
        levels, findings = count_case(case, maps[0], headers[0], edition, pair.probabilities)
    if findings or scoring.is_check_only:
        return PairScores([], findings)
    prediction, spacing_mm = maps[1] if pair.prediction else None, headers[0].spacing_mm

    def score(reference: NDArray[np.uint8], predicted: NDArray[np.uint8] | None) -> list[Row]:
        tolerances = scoring.nsd_tolerances_mm
        return evaluate_case(
            case, reference, predicted, edition, scoring.protocol, spacing_mm, nsd_tolerances_mm=tolerances
        )

    slices = []
    if scoring.with_slices or edition.is_two_dimensional:
        numbers = slice_numbers(pair.reference.path) or range(len(maps[0]))
        for k, number in enumerate(numbers):
            own = None if prediction is None else prediction[k : k + 1]
            slices += [SliceRow(number, row) for row in score(maps[0][k : k + 1], own)]
    return PairScores(
        score(maps[0], prediction),
        [],
        levels,
        (case,) if max(abs(edge - 1) for edge in spacing_mm) > _MM_SLACK else (),
        slices,
        {edition.name: label_histogram(maps[0], prediction, edition)},
    )


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
