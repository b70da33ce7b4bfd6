"""The folder of predictions: label maps, optional probabilities, and the record of which models made each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.nifti import write_label_map, write_volume
from brats_seg.errors import OutputError, all_findings
from brats_seg.files import make_output_folder, read_json, write_json

__all__ = ["RECORD", "PredictionFolder", "Wanted"]

RECORD = "predictions.json"
LOCK = ".predictions.lock"
RESEARCH_ONLY = "For research only; not a medical device, not for diagnosis or treatment."


@dataclass(frozen=True)
class Wanted:
    """A label map that is asked for: of which case, in whose labels, from which modalities."""

    case: str
    edition: str
    """Edition of the labels."""
    missing: tuple[str, ...] = ()
    """Modalities that the case lacks, in channel order."""


class PredictionFolder:
    """An output folder. A label map that is present is complete, and `predictions.json` says what made it.

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
        self._record = {"note": RESEARCH_ONLY, **record, "cases": self._known_cases()}

    def path(self, case: str) -> Path:
        """Return where a case's label map lies or will lie."""
        return self.folder / f"{case}.nii.gz"

    def is_made(self, wanted: Wanted) -> bool:
        """Return whether the label map is there, made by the same models and settings from the same modalities."""
        return self.path(wanted.case).is_file() and self._record["cases"].get(wanted.case) == self._record_of(wanted)

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
    ) -> None:
        """Write a case: probabilities (K, J, I), 0-1, as uint8 with slope 1/255; the label map; the record."""
        if probabilities:
            folder = make_output_folder(self.folder / "probabilities")
            for region, values in probabilities.items():
                scaled = np.rint(values * 255).astype(np.uint8)
                write_volume(folder / f"{wanted.case}_{region}.nii.gz", scaled, header_bytes, slope=1 / 255)
        write_label_map(self.path(wanted.case), label_map, header_bytes)
        with self._turn():
            if self._is_shared:
                self._record["cases"] = self._known_cases()
            self._record["cases"][wanted.case] = self._record_of(wanted)
            write_json(self.folder / RECORD, self._record)

    def _record_of(self, wanted: Wanted) -> dict[str, Any]:
        return {"made_by": {**self._made_by, "edition": wanted.edition}, "missing": list(wanted.missing)}

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
        path = self.folder / RECORD
        if not path.is_file():
            return {}
        try:
            return dict(read_json(path)["cases"])
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: cannot be read ({error}); move it away, or choose another folder") from error
