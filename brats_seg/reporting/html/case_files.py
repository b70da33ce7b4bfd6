"""Where the files of a report's pictures lie: images, reference and predictions of each case.

A report is made long after an evaluation, maybe elsewhere; whatever is not where `run.json` says is told in words, and
the cases that lack it have no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brats_seg.data.cases import Case, find_cases
from brats_seg.errors import DataError
from brats_seg.evaluation.references import is_flat, label_maps_in
from brats_seg.reporting.html.case_slices import CaseFiles
from brats_seg.reporting.html.sources import Source
from brats_seg.reporting.html.worst import WorstCase

__all__ = ["find_case_files"]

_HINT = "name a download that has the images with --data"


def find_case_files(
    sources: Sequence[Source], wanted: Sequence[WorstCase], data: Path | None, edition: str | None
) -> tuple[dict[str, CaseFiles], list[str]]:
    """Return the files of each case that can be drawn, in the order asked for, and what is missing, in words.

    Args:
        sources: the evaluations; the first tells where images and references are.
        wanted: cases and the regions that their planes are chosen by.
        data: a download with images, over what the record tells.
        edition: of all cases, over what names and labels tell.

    Raises:
        DataError: `data` was given and is no download.
    """
    first = sources[0]
    folder = data or first.place("images")
    if folder is None:
        named = first.record.get("images")
        return {}, [f"No pictures: {f'{named} is not there' if named else 'the evaluation names no images'}; {_HINT}."]
    known = edition or (first.scores.editions[0] if len(first.scores.editions) == 1 else None)
    try:
        cases = {case.name: case for case in find_cases(folder, edition=known, strict=False).cases}
    except DataError as error:
        if data is not None:
            raise
        return {}, [f"No pictures: {error}; {_HINT}."]
    references = _references(first, cases)
    predictions = [_label_maps(source.place("prediction")) for source in sources]
    lacking = [source.name for source, own in zip(sources, predictions, strict=True) if own is None]
    if lacking:
        return {}, [f"No pictures: the predictions of {', '.join(lacking)} are not where the evaluation found them."]
    files, gone = {}, []
    for one in wanted:
        paths = [(own or {}).get(one.case) for own in predictions]
        if one.case not in cases or one.case not in references or _is_incomplete(one.case, sources, paths):
            gone.append(one.case)
            continue
        files[one.case] = _files_of(one, cases[one.case], references[one.case], paths, sources)
    notes = []
    if gone:
        some = ", ".join(gone[:5]) + (" ..." if len(gone) > 5 else "")
        notes.append(
            f"No picture of {len(gone)} of {len(wanted)} cases ({some}): no images in {folder}, or no label map."
        )
    return files, notes


def _files_of(
    one: WorstCase, case: Case, reference: Path, predictions: Sequence[Path | None], sources: Sequence[Source]
) -> CaseFiles:
    first = sources[0].scores
    row, column = first.cases.index(one.case), first.regions.index(one.region)
    counts = [
        tuple(int(source.scores.columns[f"{what}_voxels"][row, column]) for what in ("reference", "prediction"))
        for source in sources
    ]
    return CaseFiles(
        case=one.case,
        edition=case.edition,
        images={modality: (image.path, image.channel) for modality, image in case.images.items()},
        reference=reference,
        predictions=tuple(predictions),
        region=one.region,
        voxels=tuple((pair[0], pair[1]) for pair in counts),
    )


def _is_incomplete(case: str, sources: Sequence[Source], paths: Sequence[Path | None]) -> bool:
    """Return whether a label map is gone that was there when it was scored."""
    pairs = zip(sources, paths, strict=True)
    return any(path is None and case not in source.scores.without_prediction for source, path in pairs)


def _references(source: Source, cases: dict[str, Case]) -> dict[str, Path]:
    """Return case -> reference, those of the record's flat folder over those beside the images."""
    found = {name: case.label for name, case in cases.items() if case.label is not None}
    folder = source.place("reference")
    if folder is None:
        return found
    try:
        if is_flat(folder):
            return found | (_label_maps(folder) or {})
    except DataError:
        return found
    return found


def _label_maps(folder: Path | None) -> dict[str, Path] | None:
    """Return the label maps of a folder by case; None where there is no folder."""
    if folder is None:
        return None
    return {case: paths[0] for case, paths in label_maps_in(folder).items()}
