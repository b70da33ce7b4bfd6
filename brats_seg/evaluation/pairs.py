"""Folders of label maps to scores: which files belong together, whether they can be compared, all cases at once.

A batch is checked as a whole: whatever is wrong with any pair is collected and raised together, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from brats_seg.data.cases import find_cases
from brats_seg.data.layout import is_segmentation_name, split_stem, stem_of
from brats_seg.data.nifti import read_header, read_label_map, same_geometry
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import EDITIONS, Edition, editions_of_case_name, get_edition, modality_of_token
from brats_seg.errors import DataError, OutputError, all_findings
from brats_seg.evaluation.evaluate import Row, evaluate_case, summarize, write_cases_csv, write_portal_csv
from brats_seg.evaluation.overlap import labels_in
from brats_seg.evaluation.protocols import Protocol, get_protocol
from brats_seg.files import make_output_folder, provenance, read_json, require_outside, write_json

__all__ = ["Evaluation", "Pair", "Reference", "evaluate_folder", "find_references", "is_flat", "score_pairs"]

Missing = Literal["error", "score-as-failure"]


@dataclass(frozen=True)
class Reference:
    """A case to be scored: its edition's name and its reference label map."""

    case: str
    edition: str
    path: Path


@dataclass(frozen=True)
class Pair:
    """A reference and what was predicted for it; None = no prediction, to be scored as a failure."""

    reference: Reference
    prediction: Path | None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_folder` found and wrote."""

    rows: list[Row]
    summary: dict[str, Any]
    regions: tuple[str, ...]
    """The edition's regions; further names in `rows` are single labels."""
    extra: tuple[str, ...]
    """Predictions without a reference, which were not scored."""
    files: tuple[Path, ...]


def evaluate_folder(
    reference: Path,
    prediction: Path,
    out: Path,
    *,
    protocol: str,
    edition: str | None = None,
    select: Callable[[list[str]], list[str]] = list,
    jobs: int = 1,
    missing: Missing = "error",
    overwrite: bool = False,
    is_silent: bool = True,
) -> Evaluation:
    """Score a folder of predictions; write `cases.csv`, `summary.json`, `run.json` and (brats2020) `portal.csv`.

    Args:
        reference: a download, or a flat folder of `<case>.nii.gz`.
        prediction: a flat folder of `<case>.nii.gz` or `<case>.nii`.
        out: the folder to write to, outside both.
        protocol: name of the protocol.
        edition: name of the edition of all cases, over what names and labels tell.
        select: picks the cases to be scored out of all names.
        jobs: processes; the result is the same for any number.
        missing: whether a case without a prediction is an error or scored as the protocol's failure.
        overwrite: replace an evaluation that is there already.
        is_silent: no progress bar.

    Raises:
        DataError: all findings of all pairs: missing or unreadable files, other grids, labels of another edition.
        OutputError: `out` lies in an input, has an evaluation already, or cannot be written to.
        UsageError: there is no such protocol or edition.
    """
    rule = get_protocol(protocol)
    _check_places(reference, prediction, out, overwrite)
    references = find_references(reference, edition)
    chosen = set(select([one.case for one in references]))
    predictions = _find_predictions(prediction)
    extra = tuple(sorted(set(predictions) - {one.case for one in references}))
    pairs, gone, findings = _match([one for one in references if one.case in chosen], predictions)
    if gone and missing == "error":
        findings.insert(0, _missing_predictions(prediction, gone, len(pairs), extra))
        pairs = [pair for pair in pairs if pair.prediction]
    with _output_folder(out):
        rows, problems = score_pairs(pairs, rule, jobs=jobs, is_check_only=bool(findings), is_silent=is_silent)
        if findings or problems:
            raise DataError(all_findings(str(prediction), findings + problems))
        regions = get_edition(references[0].edition).region_names
        summary = summarize(rows, regions=regions, missing=gone)
        summary |= {"editions": sorted({one.edition for one in references}), "extra_predictions": list(extra)}
        places = {"reference": reference, "prediction": prediction, "images": None if is_flat(reference) else reference}
        files = _write(out, rows, summary, rule, places)
    return Evaluation(rows, summary, regions, extra, files)


def is_flat(folder: Path) -> bool:
    """Return whether a folder holds label maps named `<case>.nii[.gz]`, rather than case folders or one case's files.

    One case's own folder is told by its files: two modalities, or a modality and a label map, of one name.
    """
    files = _label_maps_in(folder)
    tokens: dict[str, set[str]] = {}
    for stem in files:
        prefix, token = split_stem(stem)
        what = "segmentation" if is_segmentation_name(Path(f"{stem}.nii")) else modality_of_token(token)
        tokens.setdefault(prefix, set()).add(what or "")
    return bool(files) and all(len(found - {""}) < 2 for found in tokens.values())


def find_references(folder: Path, edition: str | None = None) -> list[Reference]:
    """Return the reference label maps in a download or a flat folder, sorted by case.

    In a flat folder a case is the whole file name without `.nii[.gz]`; images are not needed in either.

    Raises:
        DataError: nothing is there, a case has two label maps or none, or an edition cannot be told.
    """
    references = _flat_references(folder, edition) if is_flat(folder) else _download_references(folder, edition)
    regions = {get_edition(one.edition).region_names for one in references}
    if len(regions) > 1:
        names = ", ".join(sorted({one.edition for one in references}))
        raise DataError(f"{folder}: cases of {names}, whose regions differ; evaluate one edition at a time (--cases)")
    return references


def score_pairs(
    pairs: Sequence[Pair], protocol: Protocol, *, jobs: int = 1, is_check_only: bool = False, is_silent: bool = True
) -> tuple[list[Row], list[str]]:
    """Return the records of all pairs in their order, and what is wrong with any of them, in words.

    `jobs` processes share the pairs; neither result depends on their number. With `is_check_only` nothing is scored.
    """
    from tqdm import tqdm  # noqa: PLC0415 (only work needs it, not an import of this module)

    work = partial(_score_pair, protocol=protocol.name, is_check_only=is_check_only)
    with tqdm(total=len(pairs), desc="evaluate", disable=is_silent, unit="case") as bar:
        results = map_in_processes(work, pairs, jobs=jobs, progress=bar.update)
    rows = [row for its_rows, _ in results for row in its_rows]
    return rows, [finding for _, findings in results for finding in findings]


def _score_pair(pair: Pair, *, protocol: str, is_check_only: bool) -> tuple[list[Row], list[str]]:
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
    if findings or is_check_only:
        return [], findings
    prediction = maps[1] if pair.prediction else None
    return evaluate_case(case, maps[0], prediction, edition, protocol, headers[0].spacing_mm), []


def _affine(header: Any) -> str:
    return str([[round(float(value), 4) + 0.0 for value in row] for row in header.affine[:3]])


def _label_maps_in(folder: Path) -> dict[str, list[Path]]:
    """Return the NIfTI files directly in a folder by name without suffix; hidden, half-written ones are left out."""
    found: dict[str, list[Path]] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); change its permissions") from error
    for path in paths:
        stem = stem_of(path.name)
        if stem is not None and not path.name.startswith(".") and path.is_file():
            found.setdefault(stem, []).append(path)
    return found


def _download_references(folder: Path, edition: str | None) -> list[Reference]:
    download = find_cases(folder, edition=edition, strict=False)
    unlabelled = [case for case in download.cases if not case.label]
    findings = [f"case {case.name}: no reference label map in {case.folder}" for case in unlabelled]
    for problem in download.found_problems:  # missing images are none of ours
        if any(file in (case.label, case.folder) for case in download.cases for file in problem.files):
            findings.append(str(problem))
    if findings:
        raise DataError(all_findings(str(folder), findings))
    return [Reference(case.name, case.edition, case.label) for case in download.cases if case.label]


def _flat_references(folder: Path, edition: str | None) -> list[Reference]:
    files = _label_maps_in(folder)
    if twice := [f"case {case}: {_names(own)}; keep one" for case, own in files.items() if len(own) > 1]:
        raise DataError(all_findings(str(folder), twice))
    paths = {case: own[0] for case, own in files.items()}
    if edition is not None:
        return [Reference(case, get_edition(edition).name, path) for case, path in paths.items()]
    groups: dict[tuple[str, ...], list[str]] = {}
    for case, path in paths.items():
        groups.setdefault(tuple(one.name for one in _candidates(case, path)), []).append(case)
    told = {names: _edition_of_set(names, [paths[case] for case in cases]) for names, cases in groups.items()}
    findings = [_unknown_edition(cases, names) for names, cases in groups.items() if told[names] is None]
    if findings:
        raise DataError(all_findings(str(folder), findings))
    editions = {case: told[names] or "" for names, cases in groups.items() for case in cases}
    return [Reference(case, editions[case], path) for case, path in paths.items()]


def _candidates(case: str, path: Path) -> list[Edition]:
    """Return the editions whose case names look so, those whose grid it is where that tells them apart."""
    editions = editions_of_case_name(case)
    if len({one.shape for one in editions}) < 2:
        return editions
    try:
        shape = read_header(path).grid
    except DataError:  # told when the pair is read
        return editions
    return [one for one in editions if one.shape == shape] or editions


def _edition_of_set(names: Sequence[str], paths: Sequence[Path]) -> str | None:
    """Return the one edition that has all label values of a set of cases; None if several do that differ in meaning."""
    left = [get_edition(name) for name in names]
    for path in paths:
        if len(left) < 2:
            break
        with suppress(DataError):  # told when the pair is read
            values = set(labels_in(read_label_map(path)[0]))
            left = [one for one in left if values <= set(one.label_values)] or left
    return left[0].name if left and all(one.regions == left[0].regions for one in left) else None


def _unknown_edition(cases: Sequence[str], names: Sequence[str]) -> str:
    some = ", ".join(cases[:5]) + (" ..." if len(cases) > 5 else "")
    what = "no edition names its cases so"
    if names:
        what = f"may be {' or '.join(names)}, whose labels mean different things"
    return f"case {some}: {what}; name the edition with --edition ({', '.join(names or EDITIONS)})"


def _find_predictions(folder: Path) -> dict[str, list[Path]]:
    found = _label_maps_in(folder)
    if not found:
        raise DataError(f"{folder}: no predictions in it; expected <case>.nii.gz or <case>.nii, directly in the folder")
    return found


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _match(
    references: Sequence[Reference], predictions: dict[str, list[Path]]
) -> tuple[list[Pair], list[str], list[str]]:
    """Return the pairs, the cases without a prediction (their pairs have None), and what is wrong."""
    pairs, gone, findings = [], [], []
    for one in references:
        paths = predictions.get(one.case, [])
        if len(paths) > 1:
            findings.append(f"case {one.case}: two predictions ({_names(paths)}); keep one")
        elif not paths:
            gone.append(one.case)
        pairs.append(Pair(one, paths[0] if paths else None))
    return pairs, gone, findings


def _missing_predictions(folder: Path, gone: Sequence[str], num_cases: int, extra: Sequence[str]) -> str:
    others = f"; of no reference there: {', '.join(extra[:5])}{' ...' if len(extra) > 5 else ''}" if extra else ""
    return (
        f"{folder}: no prediction for {len(gone)} of {num_cases} cases: {', '.join(gone)} (expected <case>.nii.gz or "
        f"<case>.nii{others}); predict them, choose with --cases, or count them with --missing score-as-failure"
    )


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
    out: Path, rows: list[Row], summary: dict[str, Any], protocol: Protocol, places: dict[str, Path | None]
) -> tuple[Path, ...]:
    cases, portal, summary_file, run = (out / name for name in ("cases.csv", "portal.csv", "summary.json", "run.json"))
    has_portal = protocol.has_portal and {"ET", "TC", "WT"} <= {row.region for row in rows}
    folders = {name: None if place is None else str(place.resolve()) for name, place in places.items()}
    cases.unlink(missing_ok=True)
    write_json(summary_file, summary)
    if has_portal:
        write_portal_csv(portal, rows)
    else:
        portal.unlink(missing_ok=True)  # of the evaluation that this one replaces
    write_json(run, provenance(protocol=protocol.name, **folders, runs=_runs_behind(places["prediction"])))
    write_cases_csv(cases, rows)  # last: its presence says that the evaluation is complete
    return (cases, summary_file, *[portal] * has_portal, run)
