"""Which label map belongs to which case: what `--prediction` and `--reference` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brats_seg.data.cases import Case
from brats_seg.errors import DataError, UsageError, all_findings

__all__ = ["match_label_maps"]


def match_label_maps(cases: Sequence[Case], place: Path, what: str, *, is_partial: bool) -> dict[str, Path]:
    """Return case -> its label map in `place`, a file or a flat folder.

    Raises:
        DataError: names all cases that have two, or none (with `is_partial` only where no case has one).
    """
    if place.is_file():
        if len(cases) != 1:
            raise UsageError(
                f"--{what} {place}: one file for {len(cases)} cases; give a folder, or one case by --cases"
            )
        return {cases[0].name: place}
    if not place.is_dir():
        raise DataError(f"--{what} {place}: no such file or folder")
    candidates = {case.name: [place / f"{case.name}{suffix}" for suffix in (".nii.gz", ".nii")] for case in cases}
    there = {name: [path for path in paths if path.is_file()] for name, paths in candidates.items()}
    findings = [
        f"case {name}: two {what}s ({', '.join(map(str, two))}); keep one" for name, two in there.items() if two[1:]
    ]
    if not (is_partial and any(there.values())):
        findings += [f"case {name}: no {what} {candidates[name][0]}" for name, paths in there.items() if not paths]
    if findings:
        raise DataError(all_findings(f"--{what} {place}", findings))
    return {name: paths[0] for name, paths in there.items() if paths}
