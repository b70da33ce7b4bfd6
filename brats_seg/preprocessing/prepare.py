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
from brats_seg.editions import Edition, get_edition, modality_of_token
from brats_seg.errors import BratsSegError, DataError, UsageError, did_you_mean
from brats_seg.files import TEMPORARY_PREFIX, atomic_folder, write_json
from brats_seg.preprocessing.geometry import Placement
from brats_seg.preprocessing.missing import FillMissingd
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
from brats_seg.preprocessing.volumes import as_stored, brain_box, intensity_statistics, require_finite

__all__ = ["PreparedCase", "case_transforms", "prepare_arrays", "prepare_case", "write_case"]


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
    missing: tuple[str, ...] = ()
    """Modalities that were not there, in channel order; they are 0 everywhere."""
    placement: Placement | None = None
    """How the image was brought to a model's space, where it had to be; `shape` and `crop_start` are of that space."""
    warnings: tuple[str, ...] = ()
    """What makes a prediction of the case doubtful, in words."""


@lru_cache
def case_transforms(edition_name: str, *, with_label: bool = True) -> Compose:
    """Return the transforms from `{"name", "image": [ImageFile ...], "channels", "label": path}` to what a store holds.

    `channels` are those of the files, ascending; the others are filled with 0.
    """
    edition = get_edition(edition_name)
    native: dict[str, Any] = {"dtype": None, "expanduser": False}
    label_keys = ["label"] if with_label else []
    return Compose(
        [
            LoadImaged("image", reader=NiftiReader, ensure_channel_first=True, **native),
            *(LoadImaged(key, reader=LabelMapReader, **native) for key in label_keys),
            FillMissingd("image", len(edition.modalities)),
            CheckCased("image", edition),
            CropToBraind(["image", *label_keys], source_key="image"),
            CastIntensitiesd("image"),
            IntensityStatisticsd("image"),
            *(ForegroundVoxelsd(key, edition) for key in label_keys),
        ]
    )


def prepare_case(case: Case, *, with_label: bool = True, allow_missing: bool = False) -> PreparedCase:
    """Return a case's arrays, read from its files.

    Args:
        case: where the files lie; only read.
        with_label: read the label map, too, if the case has one.
        allow_missing: modalities may be missing, but not all; they are 0 everywhere, and the header is that of the
            first one that is there.

    Raises:
        DataError: a modality is missing, a file cannot be read, files do not fit together, or labels are foreign; the
            message names the case.
    """
    edition = get_edition(case.edition)
    missing = case.missing
    if missing and not (allow_missing and case.images):
        found = ", ".join(case.images) or "none"
        raise DataError(f"case {case.name}: no {', '.join(missing)} (found: {found}); all modalities are needed")
    has_label = with_label and case.label is not None
    channels = [n for n, modality in enumerate(edition.modalities) if modality not in missing]
    images = [case.images[edition.modalities[n]] for n in channels]
    files: dict[str, Any] = {"name": case.name, "image": images, "channels": channels}
    files["sources"] = {n: image.path.name for n, image in zip(channels, images, strict=True)}
    if has_label:
        files["label"] = [case.label]
    try:
        values = case_transforms(edition.name, with_label=has_label)(files)
    except (RuntimeError, DataError) as error:
        raise DataError(f"case {case.name}: {_own_error(error)}") from error
    return _prepared(case, edition, values)


def prepare_arrays(
    images: Mapping[str, NDArray[Any]], edition: str, *, name: str = "arrays", allow_missing: bool = False
) -> PreparedCase:
    """Return a case of arrays, as `prepare_case` does of files; without label map and header.

    Args:
        images: modality (by any of its names) -> (K, J, I), raw intensities with background 0; not changed.
        edition: name of the edition whose modalities these are.
        name: what messages call the case.
        allow_missing: modalities may be missing, but not all; they are 0 everywhere.

    Raises:
        DataError: a modality is missing; shapes differ or are not 3-D; no numbers, NaN, or nothing but 0.
        UsageError: a modality is unknown or given twice.
    """
    names = get_edition(edition).modalities
    volumes = _by_modality(images, edition)
    missing = tuple(modality for modality in names if modality not in volumes)
    if missing and not (allow_missing and volumes):
        raise DataError(f"case {name}: no {', '.join(missing)} (found: {', '.join(volumes) or 'none'})")
    shapes = {volume.shape for volume in volumes.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise DataError(f"case {name}: shapes {sorted(shapes)}, expected one shape (K, J, I) for all modalities")
    empty = np.zeros_like(next(iter(volumes.values())))
    stack = np.stack([volumes.get(modality, empty) for modality in names])
    if stack.dtype.kind not in "iuf":
        raise DataError(f"case {name}: voxels of type {stack.dtype}, expected integers or floats")
    try:
        require_finite(stack, names)
        box = brain_box(stack)
    except DataError as error:
        raise DataError(f"case {name}: {error}") from error
    image = as_stored(np.ascontiguousarray(stack[(slice(None), *box)]))
    mean, sd = intensity_statistics(image)
    k, j, i = (part.start for part in box)
    return PreparedCase(
        name=name,
        patient=name,
        site=None,
        edition=edition,
        image=image,
        label_map=None,
        foreground=None,
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        crop_start=(k, j, i),
        shape=stack.shape[1:],
        header_bytes=b"",
        has_et=None,
        notes=(),
        missing=missing,
    )


def _by_modality(images: Mapping[str, NDArray[Any]], edition: str) -> dict[str, NDArray[Any]]:
    known, volumes = get_edition(edition).modalities, dict[str, NDArray[Any]]()
    for token, values in images.items():
        modality = modality_of_token(token)
        if modality is None or modality not in known or modality in volumes:
            why = "given twice" if modality in volumes else f"unknown in edition {edition}{did_you_mean(token, known)}"
            raise UsageError(f"modality {token!r} is {why}")
        volumes[modality] = np.asarray(values)
    return volumes


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
        missing=case.missing,
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
