"""A folder of saved probabilities, `<case>_<region>.nii.gz`, to calibration tables.

How an evaluation of many cases uses it: once, before the work, `find_probabilities` for the cases that have a
prediction (all missing files at once); in the process that has a case's reference in hand, `count_case`; once, at the
end, `write_calibration`:

    files = find_probabilities(folder, cases, edition.region_names)
    counts, findings = count_case(case, reference, header, edition, files[case])     # in a worker process
    paths, numbers = write_calibration(out, sum_counts(all_counts), edition.region_names)
    summary["calibration"] = numbers

`read_probabilities` is the same for a caller with everything in one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.nifti import Header, read_header, read_stored, read_volume, same_geometry
from brats_seg.editions import Edition
from brats_seg.errors import DataError, all_findings
from brats_seg.evaluation.calibration import (
    NUM_BINS,
    NUM_LEVELS,
    count_levels,
    levels_of_probabilities,
    precision_recall,
    reliability,
    sum_counts,
    summarize_calibration,
)
from brats_seg.evaluation.overlap import mask_of_labels
from brats_seg.files import write_csv

__all__ = [
    "CALIBRATION_FILES",
    "RULES",
    "count_case",
    "find_probabilities",
    "read_levels",
    "read_probabilities",
    "write_calibration",
]

RULES = (
    "voxels of all cases pooled, those where probability (in steps of 1/255) and reference are both 0 left out; "
    f"ECE over {NUM_BINS} bins of equal width; average precision as a step sum over thresholds from 1/255"
)
"""How the numbers are made, in words, as `summary.json` holds them."""

CALIBRATION_FILES = ("calibration.csv", "precision_recall.csv")
"""Names of the tables that are written."""

_REMEDY = "`brats-seg predict --save-probabilities` writes them to PREDICTION/probabilities"


def find_probabilities(folder: Path, cases: Iterable[str], regions: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Return case -> region -> file; `<case>_<region>.nii.gz`, or `.nii`, directly in the folder.

    Raises:
        DataError: there is no such folder, or files of any case are missing; all of them are named.
    """
    _require_folder(folder)
    found = {case: _files_of_case(folder, case, regions) for case in cases}
    findings = [_missing(case, files, regions) for case, files in found.items() if len(files) < len(regions)]
    if findings and not any(found.values()):
        inner = folder / "probabilities"
        hint = f"did you mean {inner}?" if inner.is_dir() else _REMEDY
        example = f"{next(iter(found))}_{regions[0]}.nii.gz"
        raise DataError(f"{folder}: no probabilities of any of {len(found)} cases (expected {example} ...); {hint}")
    if findings:
        raise DataError(all_findings(str(folder), findings))
    return found


def read_levels(path: Path) -> tuple[NDArray[np.uint8], Header]:
    """Return probabilities as levels 0 to 255, uint8 (K, J, I), and the file's header.

    Raises:
        DataError: the file cannot be read, holds several volumes, values outside 0 to 1, nan, or whole numbers without
            scaling: a label map.
    """
    header = read_header(path)
    if len(header.shape) != 3:
        raise DataError(f"{path}: {header.shape[0]} volumes in one file, expected one region's probabilities")
    if header.dtype.kind in "iu" and (header.slope, header.intercept) == (1.0, 0.0):
        raise DataError(
            f"{path}: whole numbers without scaling ({header.dtype.name}), as in a label map; expected probabilities "
            f"from 0 to 1 (float32, or uint8 with slope 1/255); {_REMEDY}"
        )
    if header.dtype == np.uint8 and abs(header.slope * (NUM_LEVELS - 1) - 1) < 1e-6 and header.intercept == 0:
        return read_stored(path)
    values, header = read_volume(path)
    try:
        return levels_of_probabilities(values), header
    except DataError as error:
        raise DataError(f"{path}: {error}; {_REMEDY}") from error


def count_case(
    case: str, reference: NDArray[np.uint8], header: Header, edition: Edition, files: Mapping[str, Path]
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Return the counts of one case, (region, 2, 256), regions in the edition's order; and what is wrong, in words.

    Args:
        case: its name, for messages.
        reference: uint8 label map (K, J, I) with the edition's labels.
        header: the reference's.
        edition: tells the regions.
        files: region -> file, one for each of the edition's.

    Returns:
        The counts, or None where anything is wrong; all findings of the case.
    """
    counts, findings = [], []
    if len(files) < len(edition.regions):
        return None, [_missing(case, files, edition.region_names)]
    for region, labels in edition.regions.items():
        path = files[region]
        try:
            levels, own = read_levels(path)
        except DataError as error:
            findings.append(f"case {case}: probabilities {error}")
            continue
        if difference := same_geometry(header, own):
            findings.append(f"case {case}: probabilities {path}: {difference}; write them on the reference's grid")
            continue
        counts.append(count_levels(levels, mask_of_labels(reference, labels)))
    return (None if findings else np.stack(counts)), findings


def read_probabilities(
    folder: Path, references: Iterable[tuple[str, NDArray[np.uint8], Header]], edition: Edition
) -> NDArray[np.int64]:
    """Return the pooled counts of a set of cases, (region, 2, 256).

    Args:
        folder: of `<case>_<region>.nii.gz`.
        references: case, label map (K, J, I) and header; an iterator keeps one in memory at a time.
        edition: of all cases.

    Raises:
        DataError: all findings of all cases: missing files, another grid, values that are no probabilities.
    """
    _require_folder(folder)
    all_counts: list[NDArray[np.int64]] = []
    findings: list[str] = []
    for case, reference, header in references:
        files = _files_of_case(folder, case, edition.region_names)
        counts, problems = count_case(case, reference, header, edition, files)
        findings += problems
        all_counts += [] if counts is None else [counts]
    if findings:
        raise DataError(all_findings(str(folder), findings))
    return sum_counts(all_counts)


def write_calibration(
    out: Path, counts: NDArray[np.int64], regions: Sequence[str]
) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Write `calibration.csv` and `precision_recall.csv` to a folder; return their paths, and numbers for the summary.

    `counts` are (region, 2, 256), pooled over cases. A region has 15 rows in the first file, 255 in the second.
    """
    curve, recall = (out / name for name in CALIBRATION_FILES)
    header = ["region", "bin", "from", "to", "mean_probability", "observed_share", "count"]
    write_csv(curve, [header, *_reliability_lines(counts, regions)])
    write_csv(recall, [["region", "threshold", "precision", "recall"], *_recall_lines(counts, regions)])
    return (curve, recall), {"rules": RULES, "regions": dict(summarize_calibration(counts, regions))}


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {found}; expected a folder of <case>_<region>.nii.gz; {_REMEDY}")


def _files_of_case(folder: Path, case: str, regions: Sequence[str]) -> dict[str, Path]:
    """Return the files that are there, by region."""
    files = {}
    for region in regions:
        paths = [folder / f"{case}_{region}{suffix}" for suffix in (".nii.gz", ".nii")]
        if there := [path for path in paths if path.is_file()]:
            files[region] = there[0]
    return files


def _missing(case: str, files: Mapping[str, Path], regions: Sequence[str]) -> str:
    gone = [region for region in regions if region not in files]
    return f"case {case}: no probabilities of {', '.join(gone)} (expected {case}_{gone[0]}.nii.gz); {_REMEDY}"


def _reliability_lines(counts: NDArray[np.int64], regions: Sequence[str]) -> Iterator[list[Any]]:
    for region, own in zip(regions, counts, strict=True):
        curve = reliability(own)
        columns = curve.mean_probability.tolist(), curve.observed_share.tolist(), curve.num_voxels.tolist()
        for number, (mean, share, num) in enumerate(zip(*columns, strict=True)):
            yield [region, number + 1, number / NUM_BINS, (number + 1) / NUM_BINS, mean, share, num]


def _recall_lines(counts: NDArray[np.int64], regions: Sequence[str]) -> Iterator[list[Any]]:
    for region, own in zip(regions, counts, strict=True):
        curve = precision_recall(own)
        columns = curve.thresholds.tolist(), curve.precision.tolist(), curve.recall.tolist()
        yield from ([region, *values] for values in zip(*columns, strict=True))
