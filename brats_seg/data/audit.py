"""Audit of a download: every problem of every case, found in one reading of its files, never stopping at the first.

In comes a `Download`; out comes an `Audit`, a list of findings. Errors make a case unusable, warnings make it doubtful,
notes are what one should know. Cases are read by several processes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case, Download, is_segmentation_name
from brats_seg.data.header import sizes_in_words
from brats_seg.data.reading import (
    Header,
    count_colored,
    count_lossy,
    read_label_map,
    read_volume,
    same_geometry,
    slice_numbers,
)
from brats_seg.data.slices import missing_between, slices_in_words
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError

__all__ = ["SEVERITIES", "Audit", "CaseAudit", "Finding", "audit_case", "audit_download"]

SEVERITIES = ("error", "warning", "note")
"""From the gravest on; only errors make `check` end with exit code 1."""

_LABEL_MAP = "label map"
_BRATS_AXES = "LPS"


@dataclass(frozen=True)
class Finding:
    """One thing about a case or a file; `file` is relative to the download, empty where the whole case is meant."""

    severity: str
    case: str
    file: str
    check: str
    message: str


@dataclass(frozen=True)
class Audit:
    """All findings of a download, the gravest first, then by case and file."""

    root: Path
    editions: Mapping[str, int]
    """Edition -> number of its cases."""
    num_cases: int
    num_patients: int
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Severity -> number of findings."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def as_json(self) -> dict[str, Any]:
        """Return what `check --json` writes."""
        return {
            "root": str(self.root),
            "editions": dict(self.editions),
            "cases": self.num_cases,
            "patients": self.num_patients,
            "counts": self.counts,
            "findings": [vars(finding) for finding in self.findings],
        }


@dataclass
class CaseAudit:
    """What one case's files told; `hashes` maps a modality (or `label map`) to the hash of its voxels."""

    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    num_lossy: int = 0
    """Masks that are JPEGs."""
    num_between: int = 0
    """Values of those that are neither 0 nor 255."""


def audit_download(download: Download, *, jobs: int = 1, progress: Callable[[], object] | None = None) -> Audit:
    """Read every file of every case and return all findings.

    Args:
        download: cases with or without problems, as `find_cases(root, strict=False)` gives them.
        jobs: processes that read at the same time; 1 = this one.
        progress: called once a case.

    Raises:
        WorkError: a reading process was killed (as when memory runs out).
    """
    read = partial(audit_case, root=download.root)
    audits = map_in_processes(read, download.cases, jobs=jobs, progress=progress)
    findings = [
        *(finding for audit in audits for finding in audit.findings),
        *_discovery_findings(download),
        *_missing_label_maps(download),
        *_lossy_masks(audits),
        *_duplicates([case.name for case in download.cases], [audit.hashes for audit in audits]),
    ]
    return Audit(
        root=download.root,
        editions=dict(sorted(Counter(case.edition for case in download.cases).items())),
        num_cases=len(download.cases),
        num_patients=len({case.patient for case in download.cases}),
        findings=tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.case, f.file, f.check))),
    )


def audit_case(case: Case, root: Path) -> CaseAudit:
    """Read all files of one case and return what is to be said of them, file names relative to `root`."""
    return _CaseReader(case, root).read()


# ---- one case ----


class _CaseReader:
    """Reads one case file by file, holding one image at a time, and collects findings."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case = case
        self.root = root
        self.edition: Edition = get_edition(case.edition)
        self.has_own_names = not (self.edition.is_four_dimensional or self.edition.is_two_dimensional)
        self.audit = CaseAudit()
        self.headers: dict[Path, Header] = {}
        self.brain: NDArray[np.bool_] | None = None

    def read(self) -> CaseAudit:
        for modality, image in self.case.images.items():
            volume = self._read(image.path, image.channel)
            if volume is not None:
                self._check_image(modality, image.path, volume)
        label_map = None if self.case.label is None else self._read_label_map(self.case.label)
        if self.case.label is not None and label_map is not None:
            self._check_label_map(self.case.label, label_map)
        self._check_geometry()
        self._check_grid()
        self._check_copies()
        if self.edition.is_two_dimensional:
            self._check_pictures()
        for path, header in self.headers.items():
            self._note_header(path, header)
        return self.audit

    def _say(self, severity: str, path: Path | None, check: str, message: str) -> None:
        file = "" if path is None else _relative(path, self.root)
        self.audit.findings.append(Finding(severity, self.case.name, file, check, message))

    def _read(self, path: Path, channel: int | None) -> NDArray[Any] | None:
        try:
            volume, header = read_volume(path, channel=channel)
        except (DataError, OSError, MemoryError) as error:
            self._say("error", path, "unreadable", _reason(error, path))
            return None
        self.headers[path] = header
        if volume.ndim != 3:
            self._say("error", path, "geometry", f"{len(volume)} volumes in one file, expected one")
            return None
        return volume

    def _read_label_map(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            label_map, header = read_label_map(path)
        except (DataError, OSError, MemoryError) as error:
            if self._read(path, None) is not None:  # a sound file, whose values are no labels
                self._say("error", path, "labels", _reason(error, path))
            return None
        self.headers[path] = header
        return label_map

    def _check_image(self, modality: str, path: Path, volume: NDArray[Any]) -> None:
        if volume.dtype.kind in "fc":
            num_bad = volume.size - int(np.count_nonzero(np.isfinite(volume)))
            if num_bad:
                self._say(
                    "error", path, "nan", f"{modality}: {num_bad:,} of {volume.size:,} voxels are NaN or infinite"
                )
        low, high = volume.min(), volume.max()
        if low == high:
            self._say("error", path, "empty", f"{modality}: empty, every voxel is {low:g}")
            return
        self.audit.hashes[modality] = _hash_of_voxels(volume)
        if self.brain is None:
            self.brain = volume != 0
        elif self.brain.shape == volume.shape:
            self.brain |= volume != 0

    def _check_label_map(self, path: Path, label_map: NDArray[np.uint8]) -> None:
        values = np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist()
        try:
            self.edition.check_labels(values)
        except DataError as error:
            self._say("error", path, "labels", str(error))
        if values == [0]:
            self._say("note", path, "no tumour", "label map is empty: no tumour")
            return
        self.audit.hashes[_LABEL_MAP] = _hash_of_voxels(label_map)
        if self.brain is not None and self.brain.shape == label_map.shape:
            num_tumour = int(np.count_nonzero(label_map))
            num_outside = int(np.count_nonzero(label_map[~self.brain]))
            if num_outside:
                message = f"{num_outside:,} of {num_tumour:,} tumour voxels lie where every modality is 0"
                self._say("warning", path, "tumour outside brain", message)
        if self.has_own_names and not is_segmentation_name(path):
            message = "taken as the label map: the one file here whose name ends in no modality"
            self._say("note", path, "naming", message)

    def _check_geometry(self) -> None:
        """Compare every file with the one that most others agree with."""
        headers = list(self.headers.items())
        if len(headers) < 2:
            return
        num_agree = [sum(same_geometry(one, other) is None for _, other in headers) for _, one in headers]
        path, reference = headers[num_agree.index(max(num_agree))]
        for other, header in headers:
            difference = same_geometry(reference, header)
            if difference:
                self._say("error", other, "geometry", f"differs from {path.name}: {difference}")

    def _check_grid(self) -> None:
        expected = self.edition.shape
        first = next(iter(self.headers.values()), None)
        if expected is None or first is None:
            return
        is_spaced = np.allclose(first.spacing_mm, 1, atol=1e-3)
        if first.grid != expected or not is_spaced:
            spacing = "x".join(f"{mm:g}" for mm in first.spacing_mm)
            wanted = f"{self.edition.name} has {sizes_in_words(expected)} of 1 mm"
            message = f"grid {sizes_in_words(first.grid)} of {spacing} mm; {wanted}"
            self._say("warning", None, "grid", message)
        axes = _axes_of(first.affine)
        if axes != _BRATS_AXES and not self.edition.is_four_dimensional:
            self._say("note", None, "header", f"voxel axes run to {axes}; BraTS gives {_BRATS_AXES} out")

    def _check_copies(self) -> None:
        for names in _names_by_hash(self.audit.hashes):
            if len(names) > 1 and self.edition.filler in names:
                others = " and ".join(name for name in names if name != self.edition.filler)
                message = f"{others}: a copy of {self.edition.filler}, which stands for what is missing"
                self._say("note", None, "filled", message)
            elif len(names) > 1:
                self._say("warning", None, "duplicate", f"{' and '.join(names)} have the same voxels")

    def _check_pictures(self) -> None:
        """Tell of colours made grey, lossy masks, and slices that are missing between others."""
        try:
            if count_colored(self.case.images):
                self._say("note", None, "colours", "the image has three channels, made grey (ITU-R 601)")
            if self.case.label is not None:
                self.audit.num_lossy, self.audit.num_between = count_lossy(self.case.label)
        except DataError:  # told by whoever reads the file
            return
        numbers = next((slice_numbers(image.path) for image in self.case.images.values()), None)
        if missing := missing_between(numbers):
            message = f"{slices_in_words(missing)} not there: fine in 2D, no patch may reach over the gap in 3D"
            self._say("note", None, "gap", message)

    def _note_header(self, path: Path, header: Header) -> None:
        what = _LABEL_MAP if path == self.case.label else "image"
        if header.vox_offset > 352:
            self._say("note", path, "header", f"{what}s with header extensions (read over, never written)")
        if header.qform_code != 1:
            self._say("note", path, "header", f"{what}s with qform code {header.qform_code}")
        if header.sform_code != 1:
            self._say("note", path, "header", f"{what}s with sform code {header.sform_code}")
        if (header.slope, header.intercept) != (1, 0):
            message = f"{what}s scaled by {header.slope:g}, {header.intercept:+g}"
            self._say("note", path, "header", message)
        if path == self.case.label and header.dtype != np.uint8:
            self._say("note", path, "dtype", f"label maps of type {header.dtype.name}")
        if path != self.case.label and header.dtype.name != ("uint8" if self.edition.is_two_dimensional else "int16"):
            self._say("note", path, "dtype", f"images of type {header.dtype.name}")


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _reason(error: BaseException, path: Path) -> str:
    """Return an error in words, without the file's name before it: a finding has a column for that."""
    text = str(error) or type(error).__name__
    for name in (str(path), path.name):
        text = text.removeprefix(f"{name}: ")
    return text


def _axes_of(affine: NDArray[np.float64]) -> str:
    """Return the directions to which i, j, k grow, as in LPS."""
    letters = []
    for column in affine[:3, :3].T:
        axis = int(np.argmax(np.abs(column)))
        letters.append(("RAS" if column[axis] > 0 else "LPI")[axis])
    return "".join(letters)


def _hash_of_voxels(volume: NDArray[Any]) -> str:
    """Return the hash of shape and values: equal for equal voxels, whatever the header and the type on disk."""
    compact = volume
    if volume.dtype != np.int16:
        with np.errstate(invalid="ignore"):
            as_int16 = volume.astype(np.int16)
        compact = as_int16 if np.array_equal(as_int16, volume) else volume.astype(np.float64)
    digest = hashlib.blake2b(repr(volume.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(compact).data)
    return digest.hexdigest()


def _names_by_hash(hashes: Mapping[str, str]) -> Iterable[list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in hashes.items():
        groups.setdefault(value, []).append(name)
    return groups.values()


# ---- the download as a whole ----


def _discovery_findings(download: Download) -> Iterator[Finding]:
    for problem in download.found_problems:
        file = _relative(problem.files[0], download.root) if problem.files else ""
        yield Finding("error", problem.case, file, problem.check, problem.message)
    for path in download.passed_over:
        what = "folder" if path.endswith("/") else "file"
        yield Finding("note", "", path, "passed over", f"{what} of no case, passed over")


def _missing_label_maps(download: Download) -> Iterator[Finding]:
    """A case without label map is an error among cases that have one (training), a note elsewhere (validation sets)."""
    told = {problem.case for problem in download.found_problems if problem.check == "missing mask"}
    neighbours: dict[Path, list[Case]] = {}
    for case in download.cases:
        neighbours.setdefault(case.folder.parent, []).append(case)
    for cases in neighbours.values():
        lacking = [case for case in cases if case.label is None and case.name not in told]
        num_labelled = len(cases) - len(lacking)
        for case in lacking:
            if num_labelled > len(lacking):
                message = f"no label map, though {num_labelled} of the {len(cases)} cases in its folder have one"
                yield Finding("error", case.name, "", "missing", message)
            else:
                yield Finding("note", case.name, "", "no label map", "no label map: can be predicted, not trained on")


def _lossy_masks(audits: Iterable[CaseAudit]) -> Iterator[Finding]:
    """Yield one warning for all masks that are JPEGs: a set has thousands."""
    lossy = [audit for audit in audits if audit.num_lossy]
    if lossy:
        num, values = sum(one.num_lossy for one in lossy), sum(one.num_between for one in lossy)
        message = (
            f"{num:,} masks are JPEGs, whose compression blurs edges: {values:,} values are neither 0 nor 255 (those "
            "from 128 on are taken as 1); get them as PNG or TIFF"
        )
        yield Finding("warning", "", "", "lossy masks", message)


def _duplicates(names: Sequence[str], hashes: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """Yield one warning for each set of cases that share voxels, naming what they share."""
    owners: dict[str, dict[int, str]] = {}
    for index, its_hashes in enumerate(hashes):
        for what, value in its_hashes.items():
            owners.setdefault(value, {}).setdefault(index, what)
    shared: dict[tuple[int, ...], list[str]] = {}
    for where in owners.values():
        if len(where) > 1:
            shared.setdefault(tuple(where), []).append(next(iter(where.values())))
    for indices, whats in shared.items():
        others = ", ".join(names[index] for index in indices[1:])
        message = f"same voxels as {others}: {', '.join(whats)}"
        yield Finding("warning", names[indices[0]], "", "duplicate", message)
