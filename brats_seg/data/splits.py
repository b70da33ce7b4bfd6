"""Folds: which cases are held out together. A patient is never divided, however many time points it has.

In come names, patients, sites and whether there is ET; out come names. Only `save_split` and `load_split` touch a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats_seg.editions import editions_of_case_name
from brats_seg.errors import DataError, all_findings
from brats_seg.files import read_json, write_json

__all__ = ["Folds", "Member", "fold_of", "load_split", "save_split", "split_cases"]

Folds = tuple[tuple[str, ...], ...]
"""Per fold the names of the cases that it holds out, sorted."""


@dataclass(frozen=True)
class Member:
    """What a split needs to know of a case; None where it is not known (no mapping table, no label map)."""

    name: str
    patient: str
    site: str | None
    has_et: bool | None


@dataclass(frozen=True)
class _Patient:
    name: str
    cases: tuple[str, ...]
    site: str
    has_et: bool | None
    """Whether any of the patient's cases has ET; None if none has and one is unknown."""


def split_cases(members: Sequence[Member], num_folds: int) -> Folds:
    """Return folds by patient, stratified by ET and by site; for the same members in any order the same.

    Folds differ by at most one patient, and by at most one patient with ET (and without). Within that, sites and
    numbers of cases are spread as evenly as dealing out one patient after the other can.

    Raises:
        DataError: fewer than two folds, fewer patients than folds, or a case that is there twice.
    """
    _require_unique([member.name for member in members])
    patients = _patients_of(members)
    if num_folds < 2:
        raise DataError(f"{num_folds} folds: at least 2 are needed")
    if len(patients) < num_folds:
        raise DataError(f"{num_folds} folds of {len(patients)} patients: a fold would be empty; ask for fewer folds")
    folds: list[list[_Patient]] = [[] for _ in range(num_folds)]
    for stratum in (False, None, True):
        _deal([patient for patient in patients if patient.has_et is stratum], folds)
    return tuple(tuple(sorted(name for patient in fold for name in patient.cases)) for fold in folds)


def _deal(patients: Sequence[_Patient], folds: list[list[_Patient]]) -> None:
    """Deal out the patients of one stratum of ET, so that no fold gets a second before every fold has one.

    In the last, incomplete round the smallest folds come first: that keeps all folds within one patient.
    """
    num_whole = len(patients) - len(patients) % len(folds)
    for index, patient in enumerate(patients):
        if index % len(folds) == 0:
            waiting = list(range(len(folds)))

        def burden(fold: int, patient: _Patient = patient, is_last: bool = index >= num_whole) -> tuple[int, ...]:
            num_patients = len(folds[fold]) if is_last else 0
            num_of_site = sum(other.site == patient.site for other in folds[fold])
            return num_patients, num_of_site, sum(len(other.cases) for other in folds[fold]), fold

        chosen = min(waiting, key=burden)
        waiting.remove(chosen)
        folds[chosen].append(patient)


def _patients_of(members: Sequence[Member]) -> list[_Patient]:
    """Return the patients by site, those with most cases first."""
    groups: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda member: member.name):
        groups.setdefault(member.patient, []).append(member)
    patients = [
        _Patient(
            name=name,
            cases=tuple(member.name for member in group),
            site=next((member.site for member in group if member.site), ""),
            has_et=_any([member.has_et for member in group]),
        )
        for name, group in groups.items()
    ]
    return sorted(patients, key=lambda patient: (patient.site, -len(patient.cases), patient.name))


def _any(answers: Sequence[bool | None]) -> bool | None:
    return True if True in answers else None if None in answers else False


def _require_unique(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"case {', '.join(twice)}: there more than once; case names must differ")


def save_split(path: Path, folds: Sequence[Sequence[str]]) -> None:
    """Write folds as JSON: {"folds": [[case names held out], ...]}."""
    write_json(path, {"folds": [list(fold) for fold in folds]})


def load_split(path: Path, *, patients: Mapping[str, str] | None = None) -> Folds:
    """Return the folds of a file that `save_split`, or a person, has written.

    Args:
        path: the JSON file.
        patients: case name -> patient; names that it lacks are read as the editions name their patients.

    Raises:
        DataError: no such file, not of this form, or a case or a patient in two folds (names all of them).
    """
    folds = _folds_of(_read(path), path)
    homes: dict[tuple[str, str], set[int]] = {}
    findings = []
    for number, fold in enumerate(folds):
        for name in fold:
            homes.setdefault(("case", name), set()).add(number)
            homes.setdefault(("patient", (patients or {}).get(name) or _patient_of(name)), set()).add(number)
        findings += [f"case {name} is twice in fold {number}" for name in sorted(set(fold)) if fold.count(name) > 1]
    for (kind, name), numbers in homes.items():
        if len(numbers) > 1 and (kind == "case" or ("case", name) not in homes):
            where = " and ".join(str(number) for number in sorted(numbers))
            findings.append(f"{kind} {name} is in folds {where}; leave it in one")
    if findings:
        raise DataError(f"{path}: {all_findings('folds overlap', findings)}")
    return folds


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; brats-seg split DATA --out {path} makes one") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error


def _folds_of(value: Any, path: Path) -> Folds:
    folds = value.get("folds") if isinstance(value, dict) else None
    if not isinstance(folds, list) or not all(map(_is_list_of_names, folds)):
        raise DataError(f'{path}: expected {{"folds": [["case", ...], ...]}}, a list of case names a fold')
    return tuple(tuple(fold) for fold in folds)


def _is_list_of_names(fold: Any) -> bool:
    return isinstance(fold, list) and all(isinstance(name, str) for name in fold)


def _patient_of(name: str) -> str:
    return next((edition.patient_of(name) or name for edition in editions_of_case_name(name)), name)


def fold_of(folds: Sequence[Sequence[str]], fold: int, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the (training, validation) case names of a fold, each sorted; cases that no fold names are in neither.

    Args:
        folds: per fold the case names that it holds out.
        fold: number of the fold, from 0.
        known: the names of the cases that are there.

    Raises:
        DataError: there is no such fold, a case is not there, or nothing is left to train on or to hold out.
    """
    if not 0 <= fold < len(folds):
        raise DataError(f"fold {fold}: there are {len(folds)} folds, 0 to {len(folds) - 1}")
    missing = sorted({name for names in folds for name in names} - set(known))
    if missing:
        some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataError(
            f"split names {len(missing)} cases that are not there: {some} ({len(known)} are there); "
            "prepare them too, or make a split of those that are there"
        )
    validation = tuple(sorted(folds[fold]))
    training = tuple(sorted(name for number, names in enumerate(folds) if number != fold for name in names))
    for what, names in (("held out", validation), ("trained on", training)):
        if not names:
            raise DataError(f"fold {fold}: no case would be {what}; put cases into the other folds, or ask for another")
    return training, validation
