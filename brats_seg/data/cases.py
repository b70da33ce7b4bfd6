"""Discovery of cases: which files on disk are the modalities and the label map of which case, of which edition.

In comes a folder in any layout that BraTS (or MSD Task01) has been given out in, or explicit files; out come `Case`
records of paths. Headers and label maps are read only where names cannot tell the edition. Nothing is ever written.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats_seg.data.layout import Listing, is_segmentation_name, list_folder, name_of
from brats_seg.data.nifti import read_header, read_label_map
from brats_seg.data.stems import Found, ImageFile, split_stem, stem_of
from brats_seg.editions import (
    EDITIONS,
    MODALITY_ALIASES,
    Edition,
    can_share_store,
    editions_of_case_name,
    get_edition,
    modality_of_token,
    site_of_case_name,
)
from brats_seg.errors import DataError, UsageError, all_findings, did_you_mean

__all__ = [
    "Case",
    "Download",
    "ImageFile",
    "Problem",
    "case_from_files",
    "find_cases",
    "is_segmentation_name",
    "stem_of",
]

_Mapping = Mapping[str, tuple[str, str | None]]
"""Lower-case case name -> its patient and site, as `name_mapping.csv` tells them."""


@dataclass(frozen=True)
class Case:
    """One time point of one patient: where its modalities and its label map lie."""

    name: str
    patient: str
    site: str | None
    edition: str
    folder: Path
    images: Mapping[str, ImageFile]
    """Modality -> file, in the edition's channel order; a case with problems may lack some."""
    label: Path | None

    @property
    def missing(self) -> tuple[str, ...]:
        """Modalities of the edition for which there is no file, in channel order."""
        return tuple(m for m in get_edition(self.edition).modalities if m not in self.images)


@dataclass(frozen=True)
class Problem:
    """Something about a case's files that keeps it from being used; `files` are the ones concerned."""

    case: str
    message: str
    check: str = "missing"
    """`missing`, or `ambiguous`: there is more than one."""
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"case {self.case}: {self.message}"


@dataclass(frozen=True)
class Download:
    """What `find_cases` saw in a folder."""

    root: Path
    cases: tuple[Case, ...]
    """Sorted by name."""
    passed_over: tuple[str, ...] = ()
    """Folders (ending in /) and files, relative to `root`, that belong to no case."""
    found_problems: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems in words, a line each."""
        return tuple(str(problem) for problem in self.found_problems)


def find_cases(
    root: Path,
    *,
    edition: str | None = None,
    otherwise: str | None = None,
    channels: Sequence[str] | None = None,
    strict: bool = True,
    allow_missing: bool = False,
) -> Download:
    """Return the cases in a folder: of cases at any depth, of one case, MSD's Task01, or nnU-Net's numbered channels.

    Args:
        root: the folder; only read.
        edition: name of the edition of all cases, over what names and labels tell; names may then be anything.
        otherwise: name of the edition of cases whose names tell none; None = that is an error.
        channels: modalities of nnU-Net's numbered channels, in order; None = as its `dataset.json` tells.
        strict: raise when a case has a problem; else such cases are returned with the files that they have.
        allow_missing: a case may lack modalities, as long as it has one; that is no problem then.

    Raises:
        DataError: no folder, no cases, an edition that cannot be told, editions that do not go together, and
            (strict) all problems of all cases.
        UsageError: there is no such edition; channels are named, and none are numbered.
    """
    wanted, default = (None if name is None else get_edition(name) for name in (edition, otherwise))
    listing = list_folder(_require_folder(root), channels)
    if channels is not None and not listing.numbered:
        raise UsageError(f"--modalities: no file in {root} is named such as <case>_0000.nii.gz; leave it out")
    found, passed_over = _drop_imageless_copies(listing)
    if not found:
        raise DataError(_nothing_found(root, listing.nameless))
    cases, problems, unused = _cases_from(found, wanted, default, _read_mappings(listing.mappings))
    problems = sorted(_duplicate_names(cases) + problems, key=lambda problem: problem.case)
    if allow_missing:
        problems = _without_missing(problems, cases)
    if strict and problems:
        raise DataError(all_findings(str(root), map(str, problems)))
    return Download(
        root=root,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        passed_over=tuple(sorted(_relative(path, root) for path in passed_over + unused)),
        found_problems=tuple(problems),
    )


def _without_missing(problems: Iterable[Problem], cases: Iterable[Case]) -> list[Problem]:
    """Return the problems but for modalities missing from cases that have others."""
    with_images = {case.name for case in cases if case.images}
    return [problem for problem in problems if problem.check != "missing" or problem.case not in with_images]


def case_from_files(
    images: Mapping[str, Path], *, name: str | None = None, edition: str, allow_missing: bool = False
) -> Case:
    """Return a case of explicit image files, without a label map.

    Args:
        images: modality -> file; modalities may be written with any alias.
        name: the case's name; None = what the file names begin with, or else their folder's name.
        edition: name of the edition whose modalities these are.
        allow_missing: modalities may be missing, but not all.

    Raises:
        DataError: a modality is missing, given twice or unknown, or a file is not there; names all of them.
    """
    wanted = get_edition(edition)
    files: dict[str, list[ImageFile]] = {}
    for token, path in images.items():
        modality = modality_of_token(token)
        if modality not in wanted.modalities:
            hint = did_you_mean(token, wanted.modalities)
            raise UsageError(f"modality {token!r} is unknown in edition {edition}{hint}")
        named = modality_of_token(split_stem(stem_of(Path(path).name) or "")[1])
        if named not in (None, modality):
            raise UsageError(f"{path}: given as {modality}, but its name says {named}; give it as that, or rename it")
        files.setdefault(modality, []).append(ImageFile(Path(path)))
    folder = next((file[0].path for file in files.values()), Path()).absolute().parent
    found = Found("", folder, files)
    found.name = name or name_of(folder, (_prefix(file.path) for file in found.all_images()))
    case, problems, _ = _case_from(found, wanted, {})
    if allow_missing:
        problems = _without_missing(problems, [case])
    gone = [Problem(case.name, f"no file {file.path}") for file in found.all_images() if not file.path.is_file()]
    if problems or gone:
        raise DataError(all_findings(case.name, map(str, problems + gone)))
    return case


def _prefix(path: Path) -> str:
    return split_stem(stem_of(path.name) or path.name)[0]


def _relative(path: Path, root: Path) -> str:
    text = str(path.relative_to(root)) if path != root and path.is_relative_to(root) else str(path)
    return f"{text}/" if path.is_dir() else text


def _require_folder(root: Path) -> Path:
    if not root.exists():
        raise DataError(f"{root}: no such folder; give the folder of a download, or of one case")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder of a download, or of one case")
    return root


def _drop_imageless_copies(listing: Listing) -> tuple[list[Found], list[Path]]:
    """Pass over folders that are named as a case which lies elsewhere with its images (predictions, masks)."""
    complete = {found.name for found in listing.found if found.images}
    copies = [found.folder for found in listing.found if not found.images and found.name in complete]
    left = [found for found in listing.found if found.images or found.name not in complete]
    return left, listing.passed_over + copies


def _nothing_found(root: Path, nameless: Sequence[Path]) -> str:
    if nameless:
        return (
            f"{nameless[0]}: files such as <case>_0000.nii.gz do not tell their modality; name those of 0000, 0001 ... "
            "in order, such as --modalities t1,t1c,t2,flair"
        )
    names = sorted(path.name for path in root.iterdir())
    expected = "expected <case>/<case>_t1.nii.gz and so on, as BraTS gives them out"
    if not names:
        return f"{root}: is empty; {expected}"
    archives = [name for name in names if name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".7z"))]
    what = f"unpack {archives[0]} first" if archives else expected
    return f"{root}: no cases in it (found {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}); {what}"


# ---- whose edition ----


def _cases_from(
    found: Sequence[Found], wanted: Edition | None, default: Edition | None, mapping: _Mapping
) -> tuple[list[Case], list[Problem], list[Path]]:
    editions = [wanted] * len(found) if wanted else _tell_editions(found, default)
    cases: list[Case] = []
    problems: list[Problem] = []
    unused: list[Path] = []
    for one, edition in zip(found, editions, strict=True):
        case, its_problems, its_unused = _case_from(one, edition, mapping)
        cases.append(case)
        problems += its_problems
        unused += its_unused
    _require_one_store(cases)
    return cases, problems, unused


def _case_from(found: Found, edition: Edition, mapping: _Mapping) -> tuple[Case, list[Problem], list[Path]]:
    images = {m: found.images[m][0] for m in edition.modalities if m in found.images}
    foreign = [file.path for m, files in found.images.items() if m not in edition.modalities for file in files]
    patients = (e.patient_of(found.name) for e in (edition, *editions_of_case_name(found.name)))
    patient, site = mapping.get(found.name.lower(), (next((p for p in patients if p), found.name), None))
    case = Case(
        name=found.name,
        patient=patient,
        site=site or site_of_case_name(found.name),
        edition=edition.name,
        folder=found.folder,
        images=images,
        label=found.labels[0] if found.labels else None,
    )
    return case, list(_problems_of(found, edition)), found.others + foreign


def _problems_of(found: Found, edition: Edition) -> Iterator[Problem]:
    there = [modality for modality in MODALITY_ALIASES if modality in found.images]
    missing = [modality for modality in edition.modalities if modality not in there]
    if missing:
        seen = ", ".join([*there, *["a label map"] * bool(found.labels)]) or "no NIfTI file"
        yield Problem(found.name, f"no {', '.join(missing)} (found: {seen})")
    several = {m.upper(): [file.path for file in found.images.get(m, [])] for m in edition.modalities}
    for what, paths in (*several.items(), ("label map", found.labels)):
        if len(paths) > 1:
            count = "two" if len(paths) == 2 else str(len(paths))
            names = ", ".join(path.name for path in paths)
            message = f"{count} {what}s ({names}); move all but one out of the folder"
            yield Problem(found.name, message, "ambiguous", tuple(paths))


def _duplicate_names(cases: Iterable[Case]) -> list[Problem]:
    folders: dict[str, list[Path]] = {}
    for case in cases:
        folders.setdefault(case.name, []).append(case.folder)
    return [
        Problem(name, f"is there {len(where)} times ({', '.join(map(str, where))})", "ambiguous", tuple(where))
        for name, where in sorted(folders.items())
        if len(where) > 1
    ]


def _require_one_store(cases: Sequence[Case]) -> None:
    names = sorted({case.edition for case in cases})
    other = next((name for name in names if not can_share_store(get_edition(names[0]), get_edition(name))), None)
    if other:
        raise DataError(
            f"cases of {names[0]} and {other} in one folder: their modalities or regions differ; give one at a time"
        )


def _tell_editions(found: Sequence[Found], default: Edition | None) -> list[Edition]:
    """Return the edition of each case, by its name, then its grid, then the label values of the set it lies in."""
    has_edition = [default is None or bool(editions_of_case_name(one.name)) for one in found]
    if default is not None and not all(has_edition):
        named = iter(_tell_editions([one for one, has in zip(found, has_edition, strict=True) if has], None))
        return [next(named) if has else default for has in has_edition]
    _require_known_names(found)
    candidates = [_fitting_grid(one, editions_of_case_name(one.name)) for one in found]
    keys = [(one.folder.parent, " or ".join(e.name for e in some)) for one, some in zip(found, candidates, strict=True)]
    sets: dict[_Set, list[Found]] = {}
    for one, key in zip(found, keys, strict=True):
        sets.setdefault(key, []).append(one)
    told = {key: _fitting_labels(sets[key], some) for key, some in dict(zip(keys, candidates, strict=True)).items()}
    decided = {key: edition or _as_other_sets(key, sets[key], told) for key, edition in told.items()}
    return [decided[key] for key in keys]


_Set = tuple[Path, str]
"""Cases that lie in one folder and whose names and grids leave the same editions open."""


def _require_known_names(found: Sequence[Found]) -> None:
    strangers = [one.name for one in found if not editions_of_case_name(one.name)]
    if strangers:
        names = ", ".join(strangers[:5]) + (" ..." if len(strangers) > 5 else "")
        raise DataError(
            f"case {names}: no edition has such case names; name one with --edition ({', '.join(EDITIONS)})"
        )


def _fitting_grid(found: Found, editions: list[Edition]) -> list[Edition]:
    """Return those of the editions that have the grid of the case's first readable image; all if none has it."""
    if len({edition.shape for edition in editions}) < 2:
        return editions
    for image in found.all_images():
        try:
            grid = read_header(image.path).grid
        except DataError:  # told by whoever reads the case
            continue
        return [edition for edition in editions if edition.shape == grid] or editions
    return editions


def _fitting_labels(cases: Sequence[Found], editions: list[Edition]) -> Edition | None:
    """Return the one edition that has all label values of a set of cases; None if several do that differ in meaning.

    Reads label maps one by one, and only until one edition is left.
    """
    left = editions
    for path in (path for case in cases for path in case.labels):
        if len(left) == 1:
            break
        values = _label_values(path)
        left = [edition for edition in left if values <= set(edition.label_values)] or left
    has_same_meaning = all(edition.regions == left[0].regions for edition in left)
    return left[0] if has_same_meaning else None


def _label_values(path: Path) -> set[int]:
    try:
        label_map, _ = read_label_map(path)
    except DataError:  # told by whoever reads the case
        return set()
    return set(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist())


def _as_other_sets(key: _Set, cases: Sequence[Found], told: Mapping[_Set, Edition | None]) -> Edition:
    """Return the edition of a set without label maps: that of the other sets of the same naming in the download."""
    others = {edition.name for other, edition in told.items() if edition is not None and other[1] == key[1]}
    if len(others) == 1 and not any(case.labels for case in cases):
        return get_edition(others.pop())
    raise DataError(
        f"{key[0]}: cases such as {cases[0].name} may be {key[1]}, whose labels mean different things; "
        "name the edition with --edition"
    )


# ---- whose patient, which site ----


def _read_mappings(tables: Iterable[Path]) -> _Mapping:
    """Read all `name_mapping*.csv`; a row is one patient through the years, named by the newest of its names."""
    known: dict[str, tuple[str, str | None]] = {}
    for table in tables:
        try:
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{table}: cannot be read ({error})") from error
        for row in rows:
            columns = sorted(c for c in row if c and re.fullmatch(r"BraTS_\d{4}_subject_ID", c.strip(), re.IGNORECASE))
            names = [name for c in columns if (name := (row[c] or "").strip()) and name.upper() not in ("NA", "N/A")]
            site = next((site for name in reversed(names) if (site := site_of_case_name(name))), None)
            known |= {name.lower(): (names[-1], site) for name in names}
    return known
