"""Reference label maps in a download or a flat folder: which cases there are, and of which edition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from brats_seg.data.cases import find_cases
from brats_seg.data.layout import is_segmentation_name, split_stem, stem_of
from brats_seg.data.reading import read_header, read_label_map
from brats_seg.editions import EDITIONS, Edition, editions_of_case_name, get_edition, modality_of_token
from brats_seg.errors import DataError, all_findings
from brats_seg.evaluation.overlap import labels_in

__all__ = ["Reference", "find_references", "is_flat", "label_maps_in", "names_of"]

_Select = Callable[[list[str]], list[str]]
"""All names of cases -> those wanted."""


@dataclass(frozen=True)
class Reference:
    """A case to be scored: its edition's name and its reference label map."""

    case: str
    edition: str
    path: Path


def is_flat(folder: Path) -> bool:
    """Return whether a folder holds label maps named `<case>.nii[.gz]`, rather than case folders or one case's files.

    One case's own folder is told by its files: two modalities, or a modality and a label map, of one name.
    """
    files = label_maps_in(folder)
    tokens: dict[str, set[str]] = {}
    for stem in files:
        prefix, token = split_stem(stem)
        what = "segmentation" if is_segmentation_name(Path(f"{stem}.nii")) else modality_of_token(token)
        tokens.setdefault(prefix, set()).add(what or "")
    return bool(files) and all(len(found - {""}) < 2 for found in tokens.values())


def find_references(
    folder: Path, edition: str | None = None, select: _Select = list
) -> tuple[list[Reference], list[str]]:
    """Return the reference label maps in a download or a flat folder, sorted by case, and the names of all cases there.

    In a flat folder a case is the whole file name without `.nii[.gz]`; images are not needed in either. `select` picks
    cases out of all names; what is wrong with others does not matter.

    Raises:
        DataError: nothing is there, a case has two label maps or none, or an edition cannot be told.
    """
    found = _flat_references if is_flat(folder) else _download_references
    references, names = found(folder, edition, select)
    regions = {get_edition(one.edition).region_names for one in references}
    if len(regions) > 1:
        editions = ", ".join(sorted({one.edition for one in references}))
        raise DataError(
            f"{folder}: cases of {editions}, whose regions differ; evaluate one edition at a time (--cases)"
        )
    return references, names


def label_maps_in(folder: Path) -> dict[str, list[Path]]:
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


def _download_references(folder: Path, edition: str | None, select: _Select) -> tuple[list[Reference], list[str]]:
    download = find_cases(folder, edition=edition, strict=False)
    names = [case.name for case in download.cases]
    chosen = set(select(names))
    cases = [case for case in download.cases if case.name in chosen]
    findings = [f"case {case.name}: no reference label map in {case.folder}" for case in cases if not case.label]
    for problem in download.found_problems:  # missing images are none of ours
        if any(file in (case.label, case.folder) for case in cases for file in problem.files):
            findings.append(str(problem))
    if findings:
        raise DataError(all_findings(str(folder), findings))
    return [Reference(case.name, case.edition, case.label) for case in cases if case.label], names


def _flat_references(folder: Path, edition: str | None, select: _Select) -> tuple[list[Reference], list[str]]:
    files = label_maps_in(folder)
    chosen = set(select(list(files)))
    own_files = {case: paths for case, paths in files.items() if case in chosen}
    if twice := [f"case {case}: {names_of(own)}; keep one" for case, own in own_files.items() if len(own) > 1]:
        raise DataError(all_findings(str(folder), twice))
    if edition is not None:
        name = get_edition(edition).name
        return [Reference(case, name, own[0]) for case, own in own_files.items()], list(files)
    paths = {case: own[0] for case, own in files.items()}  # cases that are not chosen tell the edition, too
    groups: dict[tuple[str, ...], list[str]] = {}
    for case, path in paths.items():
        groups.setdefault(tuple(one.name for one in _candidates(case, path)), []).append(case)
    groups = {names: cases for names, cases in groups.items() if chosen & set(cases)}
    told = {names: _edition_of_set(names, [paths[case] for case in cases]) for names, cases in groups.items()}
    unknown = {names: sorted(chosen & set(cases)) for names, cases in groups.items() if told[names] is None}
    if unknown:
        findings = [_unknown_edition(cases, names) for names, cases in unknown.items()]
        raise DataError(all_findings(str(folder), findings))
    editions = {case: told[names] or "" for names, cases in groups.items() for case in cases}
    return [Reference(case, editions[case], paths[case]) for case in own_files], list(files)


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


def names_of(paths: Sequence[Path]) -> str:
    """Return the names of files, for a message."""
    return ", ".join(path.name for path in paths)
