"""From one case's files to a case of the training store: read, check, crop, measure, write.

`prepare_case` returns arrays and touches no store (`predict` uses it, too); `write_case` makes a folder of them that
appears when it is complete. `filling.py` does both for many cases.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms.compose import Compose
from monai.transforms.io.dictionary import LoadImaged
from numpy.typing import NDArray

from brats_seg.data.cases import Case
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import BratsSegError, DataError
from brats_seg.files import TEMPORARY_PREFIX, atomic_folder, write_json
from brats_seg.preprocessing.store import CASE_FILE, FOREGROUND_FILE, IMAGE_FILE, LABEL_FILE
from brats_seg.preprocessing.transforms import (
    HEADER_KEY,
    CastIntensitiesd,
    CheckCased,
    CropToBraind,
    ForegroundVoxelsd,
    IntensityStatisticsd,
    LabelMapReader,
    NiftiReader,
)

__all__ = ["PreparedCase", "case_transforms", "prepare_case", "write_case"]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as the store holds it; arrays are cropped to the brain, axes (K, J, I)."""

    name: str
    patient: str
    site: str | None
    edition: str
    image: NDArray[Any]
    """(modality, K, J, I), int16 or float32."""
    label_map: NDArray[np.uint8] | None
    """(K, J, I), or None where there is none or it was not asked for."""
    foreground: NDArray[np.int32] | None
    """(N, 4): region index, k, j, i; None without label map."""
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    crop_start: tuple[int, int, int]
    shape: tuple[int, int, int]
    """Of the original volume."""
    header_bytes: bytes
    """The first modality's (T1's) NIfTI header."""
    has_et: bool | None
    notes: tuple[str, ...]
    """What is odd about the case, in words."""


@lru_cache
def case_transforms(edition_name: str, *, with_label: bool = True) -> Compose:
    """Return the transforms from `{"name", "image": [ImageFile, ...], "label": path}` to what the store holds."""
    edition = get_edition(edition_name)
    native: dict[str, Any] = {"dtype": None, "expanduser": False}
    label_keys = ["label"] if with_label else []
    return Compose(
        [
            LoadImaged("image", reader=NiftiReader, ensure_channel_first=True, **native),
            *(LoadImaged(key, reader=LabelMapReader, **native) for key in label_keys),
            CheckCased("image", edition),
            CropToBraind(["image", *label_keys], source_key="image"),
            CastIntensitiesd("image"),
            IntensityStatisticsd("image"),
            *(ForegroundVoxelsd(key, edition) for key in label_keys),
        ]
    )


def prepare_case(case: Case, *, with_label: bool = True) -> PreparedCase:
    """Return a case's arrays, read from its files.

    Args:
        case: where the files lie; only read.
        with_label: read the label map, too, if the case has one.

    Raises:
        DataError: a modality is missing, a file cannot be read, files do not fit together, or labels are foreign; the
            message names the case.
    """
    edition = get_edition(case.edition)
    missing = [modality for modality in edition.modalities if modality not in case.images]
    if missing:
        found = ", ".join(case.images) or "none"
        raise DataError(f"case {case.name}: no {', '.join(missing)} (found: {found}); all modalities are needed")
    has_label = with_label and case.label is not None
    files: dict[str, Any] = {"name": case.name, "image": [case.images[m] for m in edition.modalities]}
    if has_label:
        files["label"] = [case.label]
    try:
        values = case_transforms(edition.name, with_label=has_label)(files)
    except (RuntimeError, DataError) as error:
        raise DataError(f"case {case.name}: {_own_error(error)}") from error
    return _prepared(case, edition, values)


def _own_error(error: BaseException) -> BratsSegError:
    """Return the error of ours that MONAI's Compose has wrapped in its own; anything else goes on as it is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BratsSegError):
            return cause
        cause = cause.__cause__
    raise error


def _prepared(case: Case, edition: Edition, values: Mapping[str, Any]) -> PreparedCase:
    label = values.get("label")
    label_map = None if label is None else np.asarray(label.as_tensor())
    foreground = values.get("foreground")
    has_et = None
    if foreground is not None and "ET" in edition.region_names:
        has_et = bool((foreground[:, 0] == edition.region_names.index("ET")).any())
    return PreparedCase(
        name=case.name,
        patient=case.patient,
        site=case.site,
        edition=edition.name,
        image=np.asarray(values["image"].as_tensor()),
        label_map=label_map,
        foreground=foreground,
        mean=values["mean"],
        sd=values["sd"],
        crop_start=values["crop_start"],
        shape=values["shape"],
        header_bytes=bytes.fromhex(values["image"].meta[HEADER_KEY]),
        has_et=has_et,
        notes=tuple(_notes(case, edition, values, label_map)),
    )


def _notes(
    case: Case, edition: Edition, values: Mapping[str, Any], label_map: NDArray[np.uint8] | None
) -> Iterator[str]:
    for modality, volume in zip(edition.modalities, values["image"], strict=True):
        if not volume.any():
            yield f"case {case.name}: {modality} is 0 everywhere"
    lost = 0 if label_map is None else values["num_labelled"] - int(np.count_nonzero(label_map))
    if lost:
        yield f"case {case.name}: {lost:,} labelled voxels lie outside the brain's box and are cropped away"


def write_case(
    folder: Path, prepared: PreparedCase, *, settings_hash: str, sources: Mapping[str, Mapping[str, str]] | None = None
) -> Path:
    """Write a case into the store `folder`, complete or not at all, and return its folder.

    Args:
        folder: the store's.
        prepared: the case.
        settings_hash: of the store.
        sources: file name and sha256 of each source; without them a later `prepare` makes the case anew.

    Raises:
        OutputError: it cannot be written.
    """
    target = folder / prepared.name
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*-{prepared.name}"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with atomic_folder(target) as temporary:
        np.save(temporary / IMAGE_FILE, prepared.image)
        if prepared.label_map is not None and prepared.foreground is not None:
            np.save(temporary / LABEL_FILE, prepared.label_map)
            np.save(temporary / FOREGROUND_FILE, prepared.foreground)
        write_json(temporary / CASE_FILE, _case_record(prepared, settings_hash, sources))
    return target


def _case_record(
    prepared: PreparedCase, settings_hash: str, sources: Mapping[str, Mapping[str, str]] | None
) -> dict[str, Any]:
    return {
        "name": prepared.name,
        "edition": prepared.edition,
        "patient": prepared.patient,
        "site": prepared.site,
        "has_et": prepared.has_et,
        "mean": list(prepared.mean),
        "sd": list(prepared.sd),
        "minimum": [float(volume.min()) for volume in prepared.image],
        "crop_start": list(prepared.crop_start),
        "crop_shape": list(prepared.image.shape[1:]),
        "shape": list(prepared.shape),
        "header_hex": prepared.header_bytes.hex(),
        "notes": list(prepared.notes),
        "sources": None if sources is None else {role: dict(source) for role, source in sources.items()},
        "settings_hash": settings_hash,
    }
