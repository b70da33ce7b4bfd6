"""Filling a store: many cases in several processes, resumable, each complete or absent.

Cases that are there and were made from the same files with the same settings are kept; whatever is stale is made anew.
A bad case is an outcome and stops no other; a full disk or a dead process stops the work, and finished cases stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from brats_seg.data.cases import Case
from brats_seg.data.reading import files_of
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import can_share_store, get_edition
from brats_seg.errors import BratsSegError, DataError, OutputError
from brats_seg.files import (
    TEMPORARY_PREFIX,
    hash_of_file,
    hash_of_json,
    make_output_folder,
    provenance,
    read_json,
    write_json,
)
from brats_seg.preprocessing.store import (
    CASE_FILE,
    FOREGROUND_FILE,
    IMAGE_FILE,
    LABEL_FILE,
    STORE_FILE,
    case_folders,
    store_settings,
)

__all__ = ["Outcome", "fill_case", "fill_store"]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `kept` was there and is current, `remade` replaces one that was not."""

    case: str
    state: Literal["made", "remade", "kept", "failed"]
    notes: tuple[str, ...] = ()
    error: str | None = None


def fill_store(
    cases: Sequence[Case],
    folder: Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Callable[[], object] | None = None,
) -> tuple[Outcome, ...]:
    """Prepare cases into a store, in `jobs` processes; return what became of each, sorted by name.

    Cases that the store holds already, from the same files and with the same settings, are kept as they are.

    Args:
        cases: whose editions share modalities and regions.
        folder: the store; new, empty, or one that was made with the same settings.
        jobs: processes, one thread each.
        overwrite: remake all of `cases`; cases that were made with other settings are removed.
        progress: called after each case.

    Raises:
        DataError: there are no cases, or cases that cannot share a store.
        OutputError: the folder is no store, is one of other settings, or cannot be written to.
        WorkError: a process was killed.
    """
    settings = _shared_settings(cases)
    settings_hash = hash_of_json(settings)
    _open_folder(folder, settings, settings_hash, overwrite=overwrite)
    write_json(folder / STORE_FILE, _store_record(folder, settings, settings_hash, cases))
    one = partial(fill_case, folder=folder, settings_hash=settings_hash, overwrite=overwrite)
    with _one_thread_each():
        outcomes = map_in_processes(one, cases, jobs=jobs, progress=progress)
    write_json(folder / STORE_FILE, _store_record(folder, settings, settings_hash, ()))
    return tuple(sorted(outcomes, key=lambda outcome: outcome.case))


def _shared_settings(cases: Sequence[Case]) -> dict[str, Any]:
    if not cases:
        raise DataError("no cases to prepare")
    editions = [get_edition(name) for name in sorted({case.edition for case in cases})]
    for edition in editions[1:]:
        if not can_share_store(editions[0], edition):
            both = f"{editions[0].name} and {edition.name}"
            raise DataError(f"cases of {both}: modalities or regions differ; prepare each into a store of its own")
    return store_settings(editions[0].modalities, editions[0].region_names)


def _open_folder(folder: Path, settings: Mapping[str, Any], settings_hash: str, *, overwrite: bool) -> None:
    """Make the folder, or check that what is there is a store which these cases may join."""
    make_output_folder(folder)
    path = folder / STORE_FILE
    others = [p.name for p in folder.iterdir() if not p.name.startswith(TEMPORARY_PREFIX)]
    if not path.is_file():
        if others:
            raise OutputError(
                f"{folder}: not a store, and not empty (found {sorted(others)[0]}); choose a new or empty folder"
            )
        return
    found = _existing(path)
    if found.get("settings_hash") == settings_hash:
        return
    if not overwrite:
        raise OutputError(
            f"{folder}: {_difference(found, settings)}; choose another folder, or --overwrite to remake it"
        )
    for stale in list(case_folders(folder)):
        shutil.rmtree(stale)


def _existing(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _difference(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    own = found.get("settings")
    if not isinstance(own, dict):
        return f"its {STORE_FILE} is damaged"
    differing = [f"{key} {own.get(key)}, now {value}" for key, value in settings.items() if own.get(key) != value]
    return f"a store made with other settings ({'; '.join(differing) or 'keys unknown here'})"


def _store_record(
    folder: Path, settings: Mapping[str, Any], settings_hash: str, cases: Sequence[Case]
) -> dict[str, Any]:
    there = {_existing(path / CASE_FILE).get("edition") for path in case_folders(folder)}
    return {
        "editions": sorted({name for name in there if name} | {case.edition for case in cases}),
        "modalities": settings["modalities"],
        "regions": settings["regions"],
        "settings": dict(settings),
        "settings_hash": settings_hash,
        "made_by": provenance(),
    }


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile compute on one thread: threads of several processes only wait for each other."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def fill_case(case: Case, *, folder: Path, settings_hash: str, overwrite: bool = False) -> Outcome:
    """Prepare one case into the store `folder`, or keep it; bad data is an outcome, a full disk is an error.

    Raises:
        OutputError: the folder cannot be written to.
    """
    target = folder / case.name
    was_there = (target / CASE_FILE).is_file()
    try:
        sources = _hashes_of_sources(case)
        is_current = was_there and _is_current(target, case, settings_hash, sources)
        if is_current and not overwrite:
            return Outcome(case.name, "kept")
        if was_there and not is_current:  # gone even if its successor fails: a store must not offer what is stale
            shutil.rmtree(target)
        from brats_seg.preprocessing.prepare import prepare_case, write_case  # noqa: PLC0415 (MONAI, for work alone)

        prepared = prepare_case(case)
    except OutputError:
        raise
    except BratsSegError as error:
        return Outcome(case.name, "failed", error=str(error))
    except MemoryError:
        return Outcome(case.name, "failed", error=f"case {case.name}: not enough memory; use a smaller --jobs")
    write_case(folder, prepared, settings_hash=settings_hash, sources=sources)
    return Outcome(case.name, "remade" if was_there else "made", prepared.notes)


def _hashes_of_sources(case: Case) -> dict[str, dict[str, str]]:
    """Return file name and sha256 of each file of a case, by its role."""
    roles = {role: image.path for role, image in case.images.items()} | ({"label": case.label} if case.label else {})
    try:
        hashes = {path: _hash_of(path) for path in set(roles.values())}
    except OSError as error:
        message = f"case {case.name}: {error.filename} cannot be read ({error.strerror or error})"
        raise DataError(message) from error
    return {role: {"file": path.name, "sha256": hashes[path]} for role, path in roles.items()}


def _hash_of(path: Path) -> str:
    """Return the sha256 of a file, or that of the names and hashes of the slices that a path stands for."""
    files = files_of(path)
    return hash_of_file(path) if files == [path] else hash_of_json([[one.name, hash_of_file(one)] for one in files])


def _is_current(target: Path, case: Case, settings_hash: str, sources: Mapping[str, Mapping[str, str]]) -> bool:
    record = _existing(target / CASE_FILE)
    expected = {
        "settings_hash": settings_hash,
        "sources": sources,
        "edition": case.edition,
        "patient": case.patient,
        "site": case.site,
        "details": dict(case.details),
    }
    arrays = [IMAGE_FILE, *([LABEL_FILE, FOREGROUND_FILE] if case.label else [])]
    found = {key: record.get(key) for key in expected} | {"details": record.get("details") or {}}
    return found == expected and all((target / name).is_file() for name in arrays)
