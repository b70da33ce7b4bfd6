"""A folder of references and one of predictions to the tables of an evaluation.

A batch is checked as a whole: whatever is wrong with any pair is collected and raised together, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError, OutputError, all_findings
from brats_seg.evaluation.pairs import (
    Pair,
    PairScores,
    Scoring,
    find_predictions,
    match_predictions,
    missing_predictions,
    score_pairs,
)
from brats_seg.evaluation.pooled import pooled_metrics
from brats_seg.evaluation.portal import PORTAL_FILES, write_portal_csv
from brats_seg.evaluation.presence_files import PRESENCE_FILE, presence_of, thresholds_of, write_presence_csv
from brats_seg.evaluation.probabilities import CALIBRATION_FILES, find_probabilities, write_calibration
from brats_seg.evaluation.protocols import Protocol, get_protocol
from brats_seg.evaluation.records import (
    Row,
    write_cases_csv,
    write_lesions_csv,
    write_slices_csv,
    write_supplement_csv,
)
from brats_seg.evaluation.references import find_references, is_flat
from brats_seg.evaluation.summary import summarize
from brats_seg.files import make_output_folder, provenance, read_json, require_outside, write_json

__all__ = ["Evaluation", "evaluate_folder"]

Missing = Literal["error", "score-as-failure"]

_STALE = ("report.html",)
"""What others made of an evaluation that is replaced."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_folder` found and wrote."""

    rows: list[Row]
    summary: dict[str, Any]
    regions: tuple[str, ...]
    """The edition's regions; further names in `rows` are single labels."""
    warnings: tuple[str, ...]
    """What a reader of the numbers should know: predictions that were not scored, distances in odd voxels."""
    files: tuple[Path, ...]


def evaluate_folder(
    reference: Path,
    prediction: Path,
    out: Path,
    *,
    protocol: str,
    edition: str | None = None,
    select: Callable[[list[str]], list[str]] = list,
    nsd_tolerances_mm: Sequence[float] = (),
    probabilities: Path | None = None,
    jobs: int = 1,
    missing: Missing = "error",
    with_slices: bool = False,
    presence: str | None = None,
    overwrite: bool = False,
    is_silent: bool = True,
) -> Evaluation:
    """Score a folder of predictions; write the tables, `summary.json` and `run.json`.

    Tables: `cases.csv`, `supplement.csv`, under a protocol that counts lesions `lesions.csv`, the challenge portal's
    own where there is one, and `calibration.csv` and `precision_recall.csv` of saved probabilities.

    Args:
        reference: a download, or a flat folder of `<case>.nii.gz`.
        prediction: a flat folder of `<case>.nii.gz` or `<case>.nii`.
        out: the folder to write to, outside both.
        protocol: name of the protocol.
        edition: name of the edition of all cases, over what names and labels tell.
        select: picks the cases to be scored out of all names.
        nsd_tolerances_mm: tolerances of further surface Dice, in `supplement.csv`.
        probabilities: a folder of `<case>_<region>.nii.gz`, for calibration and precision-recall curves.
        jobs: processes; the result is the same for any number.
        missing: whether a case without a prediction is an error or scored as the protocol's failure.
        with_slices: score each slice of volumes, too, in `slices.csv`; those of 2D sets always are.
        presence: threshold of presence or absence, see `presence_files.thresholds_of`; None = one voxel in a 2D set,
            and no such table of volumes.
        overwrite: replace an evaluation that is there already.
        is_silent: no progress bar.

    Raises:
        DataError: all findings of all pairs: missing or unreadable files, other grids, labels of another edition.
        OutputError: `out` lies in an input, has an evaluation already, or cannot be written to.
        UsageError: there is no such protocol or edition, or the protocol has no rules for an edition's task.
    """
    rule = get_protocol(protocol)
    _check_places(reference, prediction, out, overwrite)
    references, names = find_references(reference, edition, select)
    editions = [get_edition(name) for name in sorted({one.edition for one in references})]
    for one in editions:
        rule.rules_of(one)
    predictions = find_predictions(prediction)
    extra = tuple(sorted(set(predictions) - set(names)))
    pairs, gone, findings = match_predictions(references, predictions)
    if gone and missing == "error":
        findings.insert(0, missing_predictions(prediction, gone, len(pairs), extra))
        pairs = [pair for pair in pairs if pair.prediction]
    regions = editions[0].region_names
    if probabilities is not None:
        pairs = _with_probabilities(pairs, probabilities, regions)
    is_two_dimensional = editions[0].is_two_dimensional
    if presence is not None:
        thresholds_of(presence)  # a wrong one is told before the work
    scoring = Scoring(rule.name, tuple(nsd_tolerances_mm), is_check_only=bool(findings), with_slices=with_slices)
    with _output_folder(out):
        scores = score_pairs(pairs, scoring, jobs=jobs, is_silent=is_silent)
        if findings or scores.findings:
            raise DataError(all_findings(str(prediction), findings + scores.findings))
        summary = summarize(scores.rows, regions=regions, missing=gone)
        summary |= {"editions": [one.name for one in editions], "rules": _rules_in_words(rule, editions)}
        warnings = _warnings(rule, extra, scores.other_voxels)
        if is_two_dimensional:
            warnings.append("pictures have no voxel size: mm are pixels, ml are thousands of pixels")
        summary |= {"extra_predictions": list(extra), "warnings": warnings}
        summary |= {"pooled": _pooled(scores.histograms)}
        if presence is not None or is_two_dimensional:
            summary["presence"] = presence_of(scores.rows, scores.slices, regions[-1], presence or "1")
        places = {"reference": reference, "prediction": prediction, "probabilities": probabilities}
        places |= {"images": None if is_flat(reference) else reference}
        files = _write(out, scores, summary, regions, places)
    return Evaluation(scores.rows, summary, regions, tuple(warnings), files)


def _pooled(histograms: Mapping[str, NDArray[np.int64]]) -> dict[str, Any] | None:
    """Return the metrics over all voxels; None where editions differ in what a label is called."""
    editions = [get_edition(name) for name in sorted(histograms)]
    if len({tuple((label.value, label.name) for label in one.labels) for one in editions}) != 1:
        return None
    total = sum(histograms.values(), start=np.zeros_like(histograms[editions[0].name]))
    return pooled_metrics(total, editions[0])


def _warnings(protocol: Protocol, extra: Sequence[str], other_voxels: Sequence[str]) -> list[str]:
    lines = [f"not scored, no such reference: {', '.join(extra)}"] if extra else []
    if other_voxels and protocol.hd95_unit == "voxel":
        some = ", ".join(other_voxels[:5]) + ", ..." * (len(other_voxels) > 5)
        lines.append(
            f"hd95_mm is in voxels under {protocol.name}, and those of {len(other_voxels)} cases are not 1 mm "
            f"({some}); --protocol plain measures in mm"
        )
    return lines


def _with_probabilities(pairs: Sequence[Pair], folder: Path, regions: Sequence[str]) -> list[Pair]:
    """Return the pairs with the files of their probabilities; those without a prediction need none."""
    files = find_probabilities(folder, [pair.reference.case for pair in pairs if pair.prediction], regions)
    return [replace(pair, probabilities=files.get(pair.reference.case, {})) for pair in pairs]


def _rules_in_words(protocol: Protocol, editions: Sequence[Edition]) -> list[str]:
    """Return a sentence for each task: how its lesions are told apart and what they cost."""
    rules = {one.task: protocol.rules_of(one) for one in editions}
    return [f"{task}: {own}" for task, own in rules.items() if own is not None]


def _check_places(reference: Path, prediction: Path, out: Path, overwrite: bool) -> None:
    for what, folder in (("reference", reference), ("prediction", prediction)):
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {found}; {what} must be a folder, of <case>.nii.gz for instance")
        require_outside(out, folder)
    if (out / "cases.csv").exists() and not overwrite:
        raise OutputError(f"{out}: has an evaluation already; choose another --out, or replace it with --overwrite")


@contextmanager
def _output_folder(out: Path) -> Iterator[None]:
    """Make the folder before the work, so that a lack of permission shows at once; remove it if the work fails."""
    is_new = not out.exists()
    make_output_folder(out)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                out.rmdir()
        raise


def _runs_behind(prediction: Path | None) -> list[str]:
    """Return the run folders that made the predictions, as their folder tells: its record, or the run around it."""
    if prediction is None:
        return []
    if (prediction.parent / "model.safetensors").is_file():  # a run's own validation
        return [str(prediction.resolve().parent)]
    record = prediction / "predictions.json"
    try:
        models = read_json(record).get("models", []) if record.is_file() else []
    except (OSError, ValueError, AttributeError):
        return []  # only a hint for reports; scores do not depend on it
    return [str(model) for model in models]


def _write(
    out: Path, scores: PairScores, summary: dict[str, Any], regions: Sequence[str], places: dict[str, Path | None]
) -> tuple[Path, ...]:
    """Write everything, `cases.csv` last: its presence says that the evaluation is complete."""
    names = ("cases.csv", "supplement.csv", "lesions.csv", "summary.json", "run.json", "slices.csv", PRESENCE_FILE)
    cases, supplement, lesions, summary_file, run, slices, presence = (out / name for name in names)
    stale = (out / name for name in (*_STALE, *PORTAL_FILES, *CALIBRATION_FILES))
    for path in (cases, supplement, lesions, slices, presence, *stale):
        path.unlink(missing_ok=True)  # of the evaluation that this one replaces
    folders = {name: None if place is None else str(place.resolve()) for name, place in places.items()}
    rows, protocol = scores.rows, get_protocol(summary["protocol"])
    curves: tuple[Path, ...] = ()
    if scores.levels is not None:
        curves, summary["calibration"] = write_calibration(out, scores.levels, regions)
    write_json(summary_file, summary)
    portal = write_portal_csv(out, rows, regions)
    write_supplement_csv(supplement, rows)
    if protocol.matching:
        write_lesions_csv(lesions, rows)
    if scores.slices:
        write_slices_csv(slices, scores.slices)
    if "presence" in summary:
        write_presence_csv(presence, rows, scores.slices, summary["presence"]["region"])
    write_json(run, provenance(protocol=protocol.name, **folders, runs=_runs_behind(places["prediction"])))
    write_cases_csv(cases, rows)
    more = [path for path in (slices, lesions, presence) if path.is_file()]
    return (cases, summary_file, *portal, supplement, *more, *curves, run)
