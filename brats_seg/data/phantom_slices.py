"""Synthetic 2D sets: patients' slices in the layout of "LGG MRI Segmentation" (Kaggle), and plain images with masks.

They show nobody. The heads are those of `phantom`, cut into slices, 8 bits a channel: T1, FLAIR, T1 after contrast.
The mask is what the tumour does to FLAIR; caps, rims and rests of scalp are as bright, so that no threshold finds it.
Everything follows from (seed, index, size); numbers measured here say nothing about patients.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brats_seg.data.phantom_contrast import paint_modality
from brats_seg.data.phantom_shapes import Head, Tissue, make_head, smooth_noise
from brats_seg.data.phantom_tumor import Growth, Kind, add_lesions, plan_lesions, pushes_of
from brats_seg.editions import get_edition
from brats_seg.errors import UsageError
from brats_seg.files import atomic_file, make_output_folder, write_text

__all__ = ["SlicedPhantom", "make_sliced_phantom", "sliced_case_name", "write_images", "write_slices"]

_HEAD_MM = 205.0
"""Field of view; a head is up to 190 mm long."""
_SMALLEST = 32
_GROWTH = Growth(num_lesions=(1, 2), radius_mm=(20.0, 34.0))
_SCALP = {"t1": 620.0, "flair": 610.0, "t1c": 640.0}
"""Brightness of what was left of the scalp, in the units of `INTENSITIES`."""
_SITES = ("CS", "DU", "EZ", "FG", "HT")
_COLUMNS = (
    "Patient",
    "RNASeqCluster",
    "MethylationCluster",
    "miRNACluster",
    "CNCluster",
    "RPPACluster",
    "OncosignCluster",
    "COCCluster",
    "histological_type",
    "neoplasm_histologic_grade",
    "tumor_tissue_site",
    "laterality",
    "tumor_location",
    "gender",
    "age_at_initial_pathologic",
    "race",
    "ethnicity",
    "death01",
)


@dataclass(frozen=True)
class SlicedPhantom:
    """A synthetic patient as slices, from below to above."""

    image: NDArray[np.uint8]
    """(3, K, J, I): T1, FLAIR, T1 after contrast; exactly 0 outside of the head."""
    mask: NDArray[np.bool_]
    """(K, J, I)."""
    copied: str | None
    """Modality that is missing and has a copy of FLAIR in its place."""


def make_sliced_phantom(seed: int, index: int, *, size: int = 256, num_slices: int = 20) -> SlicedPhantom:
    """Return one synthetic patient.

    Args:
        seed: names a set of patients.
        index: number of the patient, from 1. Of eight, the second lacks T1 after contrast, the fifth T1 before it.
        size: pixels of an edge of a slice.
        num_slices: number of slices, evenly through the head.

    Raises:
        UsageError: slices too small for a head, or none.
    """
    if size < _SMALLEST or num_slices < 1:
        raise UsageError(f"{num_slices} slices of {size} pixels: expected at least 1, of at least {_SMALLEST} pixels")
    rng = np.random.default_rng([seed, index])
    scale = size / _HEAD_MM
    kind = Kind.USUAL if index % 4 == 0 else Kind.NO_ET  # most gliomas of low grade do not enhance
    lesions = plan_lesions(rng, _GROWTH, kind)
    shape = (int(160 * scale), size, size)
    head = make_head(rng, shape, scale, pushes_of(lesions))
    add_lesions(rng, head, lesions, kind, has_cavity=False)
    levels = _levels(head, num_slices)
    scalp = _scalp(rng, head)[levels]
    copied = {2: "t1c", 5: "t1"}.get(index % 8)
    images = {m: _eight_bits(rng, paint_modality(rng, head, m)[levels], scalp, _SCALP[m]) for m in _SCALP}
    if copied:
        images[copied] = images["flair"]
    whole: NDArray[np.uint8] = np.zeros((3, num_slices, size, size), np.uint8)
    mask = np.zeros((num_slices, size, size), bool)
    whole[(slice(None), slice(None), *head.box[1:])] = np.stack([images[m] for m in get_edition("lgg-mri").tokens])
    mask[(slice(None), *head.box[1:])] = head.tissue[levels] >= Tissue.FAINT_EDEMA
    return SlicedPhantom(whole, mask, copied)


def _levels(head: Head, num_slices: int) -> NDArray[np.int64]:
    """Return where along K the head is cut, evenly between 12 and 90 % of its height."""
    used = np.flatnonzero(head.tissue.any(axis=(1, 2)))
    low, high = used[0], used[-1]
    cuts = np.linspace(low + 0.12 * (high - low), low + 0.9 * (high - low), num_slices)
    return np.rint(cuts).astype(np.int64)


def _scalp(rng: np.random.Generator, head: Head) -> NDArray[np.bool_]:
    """Return where skull stripping has left scalp: patches of a shell outside of the brain."""
    patches = smooth_noise(rng, head.tissue.shape, 25 * head.voxels_per_mm)
    shell = (head.depth < -0.03) & (head.depth > -0.11)
    left: NDArray[np.bool_] = shell & (patches > rng.uniform(-0.2, 0.8))
    return left


def _eight_bits(
    rng: np.random.Generator, image: NDArray[np.int16], scalp: NDArray[np.bool_], brightness: float
) -> NDArray[np.uint8]:
    """Return slices (K, J, I) in 1 ... 255 where there is head, with scalp added; 0 elsewhere."""
    brain = image > 0
    values = image.astype(np.float32)
    if scalp.any():
        gain = float(np.median(values[brain])) / 350  # `paint_modality` draws a gain for each image
        values[scalp] = brightness * gain * rng.uniform(0.85, 1.15, int(scalp.sum()))
    there = brain | scalp
    top = float(np.percentile(values[there], 99.8))
    scaled = np.clip(np.rint(values * (254 / top)), 1, 255)
    return np.where(there, scaled, 0).astype(np.uint8)


# ---- on disk ----


def sliced_case_name(index: int) -> str:
    """Return the name of the folder of the patient of that index (1, 2, 3 ...): TCGA, site, number, date."""
    date = 19960101 + 10000 * (index % 8) + 100 * (index % 12) + index % 28
    return f"TCGA_{_SITES[index % len(_SITES)]}_{4900 + index:04d}_{date}"


def write_slices(
    root: Path,
    num_patients: int,
    *,
    seed: int = 0,
    size: int = 256,
    num_slices: int = 20,
    first: int = 1,
    is_labelled: bool = True,
    on_case: Callable[[], object] | None = None,
) -> list[Path]:
    """Write synthetic patients exactly as Kaggle's LGG MRI Segmentation: `kaggle_3m/`, TIFFs, `data.csv`.

    Args:
        root: where `kaggle_3m` is made.
        num_patients: how many.
        seed: names the set.
        size: pixels of an edge of a slice.
        num_slices: slices of a patient.
        first: index of the first patient.
        is_labelled: False leaves the masks out.
        on_case: called after each patient.

    Returns:
        The folder of each patient.

    Raises:
        UsageError: as `make_sliced_phantom`.
        OutputError: the folder cannot be written to.
    """
    parent = make_output_folder(root / "kaggle_3m")
    folders = []
    for index in range(first, first + num_patients):
        phantom = make_sliced_phantom(seed, index, size=size, num_slices=num_slices)
        name = sliced_case_name(index)
        folder = make_output_folder(parent / name)
        for number, (picture, mask) in enumerate(zip(np.moveaxis(phantom.image, 0, -1), phantom.mask, strict=True), 1):
            _save(folder / f"{name}_{number}.tif", picture)
            if is_labelled:
                _save(folder / f"{name}_{number}_mask.tif", mask.astype(np.uint8) * 255)
        folders.append(folder)
        if on_case is not None:
            on_case()
    _write_table(parent / "data.csv", [folder.name for folder in folders], seed)
    return folders


def write_images(
    root: Path, num_images: int, *, seed: int = 0, size: int = 128, suffix: str = ".png", first: int = 1
) -> list[Path]:
    """Write synthetic grey images and their masks, of a patient each: `images/` and `masks/`, equal names.

    Args:
        root: where both folders are made.
        num_images: how many; each fourth is a slice without tumour, where the patient has one.
        seed: names the set.
        size: pixels of an edge.
        suffix: kind of file: `.png`, `.tif`, `.jpg` or `.npy`.
        first: index of the first image.

    Returns:
        The images' files.

    Raises:
        UsageError: as `make_sliced_phantom`.
        OutputError: the folders cannot be written to.
    """
    images, masks = (make_output_folder(root / name) for name in ("images", "masks"))
    written = []
    for index in range(first, first + num_images):
        phantom = make_sliced_phantom(seed, index, size=size, num_slices=9)
        areas = phantom.mask.sum(axis=(1, 2))
        k = int(areas.argmin() if index % 4 == 0 else areas.argmax())
        written.append(images / f"{index:04d}{suffix}")
        _save(written[-1], phantom.image[1, k])
        _save(masks / f"{index:04d}{suffix}", phantom.mask[k].astype(np.uint8) * 255)
    return written


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    with atomic_file(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, picture)
        else:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary)


def _write_table(path: Path, cases: Sequence[str], seed: int) -> None:
    """Write `data.csv`: a row a patient, those that are there kept; its clusters and diagnoses are drawn at random."""
    edition, rows = get_edition("lgg-mri"), dict[str, list[Any]]()
    if path.is_file():
        rows = {row[0]: list(row) for row in csv.reader(path.read_text(encoding="utf-8").splitlines()[1:])}
    for case in cases:
        patient = edition.patient_of(case) or case
        rng = np.random.default_rng([seed, *patient.encode()])
        draws = [int(number) for number in rng.integers(1, (5, 6, 5, 4, 5, 4, 4, 4, 3, 2, 4, 7, 3, 2, 4, 3, 2))]
        draws[13], draws[16] = int(rng.integers(20, 75)), int(rng.integers(2))
        rows[patient] = [patient, *draws]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([_COLUMNS, *rows.values()])
    write_text(path, table.getvalue())
