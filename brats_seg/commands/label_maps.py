"""Which label map belongs to which case: what `--prediction` and `--reference` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brats_seg.data.cases import Case, find_cases
from brats_seg.errors import DataError, UsageError, all_findings
from brats_seg.evaluation.references import label_maps_in, names_of

__all__ = ["match_label_maps"]


def match_label_maps(cases: Sequence[Case], place: Path, what: str, *, is_partial: bool) -> dict[str, Path]:
    """Return case -> its label map in `place`.

    Args:
        cases: those that are looked for.
        place: one case's file; a flat folder of `<case>.nii.gz`; a run, whose `validation/` is taken; for references
            also a download.
        what: `prediction` or `reference`.
        is_partial: some of the cases may have none, but not all.

    Raises:
        DataError: names all cases that have two, or none.
        UsageError: one file is given for several cases.
    """
    if place.is_file():
        if len(cases) != 1:
            raise UsageError(
                f"--{what} {place}: one file for {len(cases)} cases; give a folder, or one case by --cases"
            )
        return {cases[0].name: place}
    if not place.is_dir():
        raise DataError(f"--{what} {place}: no such file or folder")
    folder = place / "validation" if (place / "config.yaml").is_file() else place
    there = label_maps_in(folder)
    if what == "reference" and not any(case.name in there for case in cases):
        there = _references_of_download(folder) or there
    names = [case.name for case in cases]
    findings = [
        f"case {name}: two {what}s ({names_of(there[name])}); keep one"
        for name in names
        if len(there.get(name, [])) > 1
    ]
    if not (is_partial and any(name in there for name in names)):
        some = f"{len(there)} label maps, {', '.join(sorted(there)[:3])} ..." if there else "no label map"
        missing = [name for name in names if name not in there]
        findings += [f"case {name}: no {what} {folder / name}.nii.gz (found: {some})" for name in missing]
    if findings:
        raise DataError(all_findings(f"--{what} {place}", findings))
    return {name: there[name][0] for name in names if name in there}


def _references_of_download(folder: Path) -> dict[str, list[Path]]:
    """Return the segmentations of a download's cases; nothing where the folder is none."""
    try:
        cases = find_cases(folder, strict=False, allow_missing=True).cases
    except DataError:
        return {}
    return {case.name: [case.label] for case in cases if case.label is not None}
