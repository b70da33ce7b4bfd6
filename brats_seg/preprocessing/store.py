"""The training store: one folder a case, plain `.npy` files that anything can memory-map, and a description of all.

    store.json        settings, their hash, editions, modality order, regions, package versions
    <case>/image.npy       (modality, K, J, I), cropped to the brain: int16 where the source's numbers fit, else float32
    <case>/label.npy       (K, J, I) uint8 label map in the case's own edition; absent where the case has none
    <case>/foreground.npy  (N, 4) int32: region index, k, j, i within the crop; up to 10,000 voxels a region
    <case>/case.json       what belongs to the case: moments, crop box, T1's header, hashes of the source files

`prepare.py` and `filling.py` write it, `open_store` reads it. It takes numpy and nibabel alone, so a bare GPU node can
train from it.
Values are the source's own; `transforms.normalize_brain` makes z-scores of them on the training device. They may be
negative (resampled sources): `minimum` in case.json tells whoever would normalise by a table of non-negative integers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.header import header_from_bytes
from brats_seg.errors import DataError, all_findings
from brats_seg.files import TEMPORARY_PREFIX, hash_of_json, read_json

__all__ = [
    "CASE_FILE",
    "FOREGROUND_FILE",
    "FOREGROUND_LIMIT",
    "IMAGE_FILE",
    "LABEL_FILE",
    "STORE_FILE",
    "Store",
    "StoredCase",
    "case_folders",
    "open_store",
    "read_record",
    "store_settings",
]

STORE_FILE, CASE_FILE = "store.json", "case.json"
IMAGE_FILE, LABEL_FILE, FOREGROUND_FILE = "image.npy", "label.npy", "foreground.npy"

FOREGROUND_LIMIT = 10_000
"""Voxels a region that are kept for oversampling."""

_FORMAT = 1
"""Raise it whenever the same sources would give other files: stores of other formats are never mixed with new cases."""


def store_settings(modalities: Sequence[str], regions: Sequence[str]) -> dict[str, Any]:
    """Return all that decides how a source file becomes a stored case; its hash tells stores apart."""
    return {
        "format": _FORMAT,
        "axes": "modality, K, J, I (file order)",
        "modalities": list(modalities),
        "regions": list(regions),
        "crop": "box of voxels where any modality is not 0",
        "moments": "mean and population sd over the nonzero voxels of each modality",
        "foreground_voxels": FOREGROUND_LIMIT,
    }


@dataclass(frozen=True)
class StoredCase:
    """A case of a store; arrays are opened when asked for, and memory-mapped."""

    name: str
    folder: Path
    edition: str
    patient: str
    site: str | None
    has_et: bool | None
    """Whether the label map has enhancing tumour; None without label map, or in an edition without ET."""
    mean: tuple[float, ...]
    """Per modality, over its nonzero voxels; 0 for an empty modality."""
    sd: tuple[float, ...]
    """Per modality, over its nonzero voxels; 1 where it would be 0."""
    crop_start: tuple[int, int, int]
    """First voxel (K, J, I) of the crop in the original volume."""
    shape: tuple[int, int, int]
    """Of the original volume, (K, J, I)."""
    header_bytes: bytes
    """The 348 bytes of the first modality's (T1's) NIfTI header."""
    slices: tuple[int, ...] | None = None
    """Of a patient's slices (2D): their numbers, one a K of the original volume; None where the source is a volume."""

    @property
    def has_label(self) -> bool:
        """Whether the case has a label map."""
        return (self.folder / LABEL_FILE).is_file()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (K, J, I)."""
        return header_from_bytes(self.header_bytes, f"{self.folder / CASE_FILE}: header").spacing_mm

    def image(self) -> NDArray[Any]:
        """Return the memory-mapped crop, (modality, K, J, I), int16 or float32, as in the source files."""
        return self._load(IMAGE_FILE, 4)

    def label_map(self) -> NDArray[np.uint8]:
        """Return the memory-mapped crop of the label map, (K, J, I) uint8, in the case's own edition.

        Raises:
            DataError: the case has no label map (see `has_label`).
        """
        return self._load(LABEL_FILE, 3)

    def foreground(self) -> NDArray[np.int32]:
        """Return (N, 4) int32: region index, then k, j, i within the crop; up to 10,000 voxels a region."""
        return self._load(FOREGROUND_FILE, 2)

    def _load(self, name: str, ndim: int) -> NDArray[Any]:
        path = self.folder / name
        if name != IMAGE_FILE and not path.is_file():
            raise DataError(f"case {self.name}: has no {name}: it was prepared without a segmentation ({self.folder})")
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({error}); {_again(self.folder)}") from error
        if array.ndim != ndim:
            raise DataError(f"{path}: {array.ndim} axes, expected {ndim}; {_again(self.folder)}")
        return array


@dataclass(frozen=True)
class Store:
    """An opened store; all of its cases were made with the same settings."""

    folder: Path
    modalities: tuple[str, ...]
    """Order of channels in every image."""
    regions: tuple[str, ...]
    """Order of regions that `foreground` counts."""
    editions: tuple[str, ...]
    """Editions of the cases, which share modalities and regions, sorted."""
    settings_hash: str
    cases: tuple[StoredCase, ...]
    """Sorted by name."""


def open_store(folder: Path) -> Store:
    """Return the store in a folder, with all its complete cases; no array is read.

    Raises:
        DataError: the folder is no store, was made with other settings than this version's, holds cases made with other
            settings or damaged ones (names all of them), or holds no case.
    """
    record = read_record(folder)
    cases, findings = [], []
    for path in case_folders(folder):
        try:
            cases.append(_open_case(path, record["settings_hash"]))
        except DataError as error:
            findings.append(str(error))
    if findings:
        raise DataError(all_findings(str(folder), findings))
    if not cases:
        raise DataError(f"{folder}: a store without any complete case; run brats-seg prepare DATA {folder}")
    settings = record["settings"]
    return Store(
        folder=folder,
        modalities=tuple(settings["modalities"]),
        regions=tuple(settings["regions"]),
        editions=tuple(sorted({case.edition for case in cases})),
        settings_hash=record["settings_hash"],
        cases=tuple(cases),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of `store.json`, checked to be of this version's format.

    Raises:
        DataError: there is none, it cannot be read, or it tells of other settings.
    """
    path = folder / STORE_FILE
    if not path.is_file():
        what = "no such folder" if not folder.is_dir() else f"not a store: no {STORE_FILE} in it"
        raise DataError(f"{folder}: {what}; make one with brats-seg prepare DATA {folder}")
    try:
        record = _json_object(path)
        settings = record["settings"]
        expected = store_settings(settings["modalities"], settings["regions"])
        is_ours = settings == expected and record["settings_hash"] == hash_of_json(expected)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not what prepare writes (no {error}); prepare into a new folder") from error
    if not is_ours:
        found = str(record["settings_hash"])[:12]
        raise DataError(
            f"{folder}: made with other settings ({found}) than this version makes ({hash_of_json(expected)[:12]}); "
            "prepare into a new folder"
        )
    return record


def case_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of complete cases, sorted by name."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(TEMPORARY_PREFIX) and (path / CASE_FILE).is_file():
            yield path


def _open_case(folder: Path, settings_hash: str) -> StoredCase:
    path = folder / CASE_FILE
    record = _json_object(path)
    if record.get("settings_hash") != settings_hash:
        found = str(record.get("settings_hash"))[:12]
        raise DataError(
            f"case {folder.name}: made with other settings ({found}) than its store ({settings_hash[:12]}); "
            f"prepare it again, or remove {folder}"
        )
    try:
        return StoredCase(
            name=str(record["name"]),
            folder=folder,
            edition=str(record["edition"]),
            patient=str(record["patient"]),
            site=record["site"],
            has_et=record["has_et"],
            mean=tuple(map(float, record["mean"])),
            sd=tuple(map(float, record["sd"])),
            crop_start=_three(record["crop_start"]),
            shape=_three(record["shape"]),
            header_bytes=bytes.fromhex(record["header_hex"]),
            slices=None if record.get("slices") is None else tuple(map(int, record["slices"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not what prepare writes ({error}); {_again(folder)}") from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_again(path.parent)}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: not what prepare writes; {_again(path.parent)}")
    return record


def _again(folder: Path) -> str:
    return f"remove {folder} and prepare again"


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    k, j, i = map(int, values)
    return k, j, i
