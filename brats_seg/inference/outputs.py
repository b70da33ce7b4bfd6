"""The folder of predictions: label maps, optional probabilities, and the record of which models made each.

The record, `predictions.json`, is not rewritten for every case: a line a case goes to a journal beside it, which is
folded into the record now and then, at the end, and by whoever opens the folder next after a process was killed. A
case's line is written before its label map appears, and a label map that is to be replaced goes first: so what is there
was made by what the record says, whenever the process ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.nifti import write_label_map, write_volume
from brats_seg.errors import OutputError, all_findings
from brats_seg.files import TEMPORARY_PREFIX, make_output_folder, read_json, write_json

__all__ = ["RECORD", "PredictionFolder", "Wanted"]

RECORD = "predictions.json"
PROBABILITIES = "probabilities"
JOURNAL = ".predictions.journal"
LOCK = ".predictions.lock"
RESEARCH_ONLY = "For research only; not a medical device, not for diagnosis or treatment."
_WARNINGS, _GEOMETRY = "warnings", "geometry"
"""Keys of a case's record that decide nothing."""
_LINES_TO_FOLD = 100
"""Fewest lines of the journal that are folded in; it takes more where the record is long, as that is written whole."""


@dataclass(frozen=True)
class Wanted:
    """A label map that is asked for: of which case, in whose labels, from which modalities."""

    case: str
    edition: str
    """Edition of the labels."""
    missing: tuple[str, ...] = ()
    """Modalities that the case lacks, in channel order."""


class PredictionFolder:
    """An output folder. A label map that is present is complete, and the record says what made it.

    Use it in a `with` block, at whose end the record is complete. Threads may write at the same time.

    Args:
        folder: made if it is not there.
        made_by: what decides the result: hashes of the models' weights, inference settings. A case is made again only
            when this differs.
        record: more for the record (provenance).
        is_shared: other processes write other cases into the folder at the same time; they take turns at the record.

    Raises:
        OutputError: no permission, the record of the folder cannot be read, or this system cannot share it.
    """

    def __init__(
        self, folder: Path, made_by: dict[str, Any], record: dict[str, Any], *, is_shared: bool = False
    ) -> None:
        self.folder = make_output_folder(folder)
        self._is_shared = is_shared
        self._made_by = made_by
        self._record = {"note": RESEARCH_ONLY, **record}
        self._lock = Lock()
        with self._turn():
            self._cases = self._known_cases()
        self._num_noted: int | None = None
        """Lines of this process since the record was written; None before the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Complete the record, if anything was written."""
        with self._lock:
            if self._num_noted:
                self._fold()

    def path(self, case: str) -> Path:
        """Return where a case's label map lies or will lie."""
        return self.folder / f"{case}.nii.gz"

    def is_made(self, wanted: Wanted) -> bool:
        """Return whether the label map is there, made by the same models and settings from the same modalities."""
        if not self.path(wanted.case).is_file() or wanted.case not in self._cases:
            return False
        known = {key: value for key, value in self._cases[wanted.case].items() if key not in (_WARNINGS, _GEOMETRY)}
        return bool(known == self._record_of(wanted))

    def warnings(self, case: str) -> list[str]:
        """Return what makes the label map of a case doubtful, as it was written."""
        return list(self._cases.get(case, {}).get(_WARNINGS, []))

    def require_replaceable(self, wanted: Sequence[Wanted], *, overwrite: bool) -> None:
        """Refuse to replace label maps that other models or settings made, unless `overwrite`.

        Args:
            wanted: every label map to be predicted.
            overwrite: they may be replaced.

        Raises:
            OutputError: names all of them; they are kept.
        """
        foreign = [self.path(one.case) for one in wanted if self.path(one.case).exists() and not self.is_made(one)]
        if foreign and not overwrite:
            why = "made by another model, with other settings or from other modalities"
            lines = [f"{path}: {why}; kept; choose another folder or --overwrite" for path in foreign]
            raise OutputError(all_findings("output exists", lines))

    def write(
        self,
        wanted: Wanted,
        label_map: NDArray[np.uint8],
        header_bytes: bytes,
        probabilities: Mapping[str, NDArray[Any]],
        warnings: Sequence[str] = (),
        geometry: str | None = None,
    ) -> None:
        """Write a case: probabilities (K, J, I), 0-1, as uint8 with slope 1/255; its line; the label map.

        `warnings` say what makes the label map doubtful, `geometry` how the image was brought to the model's space.

        Raises:
            OutputError: it cannot be written.
        """
        if probabilities:
            folder = make_output_folder(self.folder / PROBABILITIES)
            for region, values in probabilities.items():
                scaled = np.rint(values * 255).astype(np.uint8)
                write_volume(folder / f"{wanted.case}_{region}.nii.gz", scaled, header_bytes, slope=1 / 255)
        self.path(wanted.case).unlink(missing_ok=True)
        with self._lock:
            self._note(wanted.case, {**self._record_of(wanted), _WARNINGS: list(warnings), _GEOMETRY: geometry})
        try:
            write_label_map(self.path(wanted.case), label_map, header_bytes)
        except OutputError:
            with self._lock:
                self._note(wanted.case, None)
            raise

    def _record_of(self, wanted: Wanted) -> dict[str, Any]:
        return {"made_by": {**self._made_by, "edition": wanted.edition}, "missing": list(wanted.missing)}

    def _note(self, case: str, record: dict[str, Any] | None) -> None:
        """Append a case's line to the journal, None for a case that is not there; begin or fold the record in time."""
        if self._num_noted is None:
            self._begin()
        elif self._num_noted >= max(_LINES_TO_FOLD, len(self._cases) // 2):
            self._fold()
        _put(self._cases, {case: record})
        line = json.dumps({case: record}, ensure_ascii=False) + "\n"
        with self._turn(), _open_to_append(self.folder / JOURNAL) as journal:
            os.write(journal, line.encode())  # at once: lines of several processes do not mix
        self._num_noted = (self._num_noted or 0) + 1

    def _begin(self) -> None:
        if not self._is_shared:
            for folder in (self.folder, self.folder / PROBABILITIES):
                for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):  # of a process that was killed
                    leftover.unlink(missing_ok=True)
        self._fold()

    def _fold(self) -> None:
        """Write the record with what the journal holds, and empty the journal."""
        with self._turn():
            self._cases = self._known_cases()
            write_json(self.folder / RECORD, {**self._record, "cases": self._cases})
            (self.folder / JOURNAL).unlink(missing_ok=True)
        self._num_noted = 0

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other process reads and writes the record; the lock ends with the process that holds it."""
        if not self._is_shared:
            yield
            return
        try:
            import fcntl  # noqa: PLC0415 (not on Windows)
        except ImportError as error:
            raise OutputError(f"{self.folder}: processes cannot share a folder on this system; one OUT each") from error
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _known_cases(self) -> dict[str, Any]:
        """Return what record and journal say of each case."""
        path, journal = self.folder / RECORD, self.folder / JOURNAL
        try:
            cases = dict(read_json(path)["cases"]) if path.is_file() else {}
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: cannot be read ({error}); move it away, or choose another folder") from error
        lines = journal.read_bytes().splitlines() if journal.is_file() else []
        for line in lines:
            try:
                _put(cases, json.loads(line))
            except (ValueError, AttributeError):  # cut off with its process, before the label map was written
                continue
        return cases


def _put(cases: dict[str, Any], line: dict[str, Any]) -> None:
    for case, record in line.items():
        if record is None:
            cases.pop(case, None)
        else:
            cases[case] = record


@contextmanager
def _open_to_append(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        yield file
    finally:
        os.close(file)
