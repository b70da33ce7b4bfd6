"""Synthetic cases that look like a BraTS download: brains, tumours, four contrasts. They show nobody.

A phantom is fully determined by (seed, case index, shape, edition) and independent of thread count. What makes real
FLAIR hard is in it: bright caps, rims and spots that are no tumour, a bias field, oedema that fades, cases of low
contrast. Numbers measured on phantoms say nothing about patients.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from brats_seg.data.nifti import header_for, write_volume
from brats_seg.data.phantom_contrast import INTENSITIES, paint_modality
from brats_seg.data.phantom_shapes import Head, Tissue, make_head
from brats_seg.data.phantom_tumor import Kind, add_lesions, growth_of_task, plan_lesions, pushes_of
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import UsageError
from brats_seg.files import make_output_folder, write_json, write_text

__all__ = ["Phantom", "case_name", "kind_of", "make_phantom", "write_download"]

_T = TypeVar("_T", bound=np.generic)

_FULL_SHAPE = (155, 240, 240)
_HEAD_EXTENT = (155, 190, 150)
"""Voxels of 1 mm that a head needs along K, J, I; on smaller grids the voxels are larger."""
_SMALLEST = 16

_KINDS = (
    Kind.USUAL,
    Kind.MULTIFOCAL,
    Kind.NO_ET,
    Kind.USUAL,
    Kind.TINY_NECROSIS,
    Kind.TINY_ET,
    Kind.USUAL,
    Kind.AT_EDGE,
    Kind.USUAL,
    Kind.MULTIFOCAL,
)
"""Kinds of cases 1, 2, 3 ...; then again from the first."""

_LABEL_NAMES: Mapping[Tissue, tuple[str, ...]] = {
    Tissue.FAINT_EDEMA: ("ED", "SNFH"),
    Tissue.EDEMA: ("ED", "SNFH"),
    Tissue.NON_ENHANCING: ("NCR", "NETC", "NC", "NET", "GTV"),
    Tissue.NECROSIS: ("NCR", "NETC", "NC", "NET", "GTV"),
    Tissue.CYST: ("CC", "NCR", "NETC", "NC", "NET", "GTV"),
    Tissue.CAVITY: ("RC",),
    Tissue.ENHANCING: ("ET", "GTV"),
}
"""Tumour tissue -> names of `editions.Label`; the first that an edition has counts, background where it has none."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic case; arrays are (K, J, I) in file order."""

    edition: Edition
    images: Mapping[str, NDArray[np.int16]]
    """Modality -> image, in the edition's canonical order; exactly 0 outside the brain, at least 1 inside."""
    label_map: NDArray[np.uint8]
    spacing_mm: float
    """Edge of a voxel, the same along all axes."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """(K, J, I)."""
        k, j, i = self.label_map.shape
        return k, j, i

    @property
    def has_et(self) -> bool:
        """Whether the label map has enhancing tumour."""
        return bool(np.isin(self.label_map, list(self.edition.regions.get("ET", ()))).any())

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 RAS+ affine of the I, J, K indices: that of BraTS, for larger voxels over the same field of view."""
        return _affine_of(self.spacing_mm, self.grid)


def kind_of(index: int) -> Kind:
    """Return what is special about the tumour of the case of that index (1, 2, 3 ...)."""
    return _KINDS[(index - 1) % len(_KINDS)]


def make_phantom(
    seed: int, index: int, *, shape: tuple[int, int, int] | None = None, edition: str = "brats2020"
) -> Phantom:
    """Return one synthetic case.

    The same (seed, index, shape) shows the same patient in every edition of a task; only label values and names differ.

    Args:
        seed: names a set of cases.
        index: number of the case in its set; `kind_of` tells what is special about it.
        shape: grid (K, J, I); None = the edition's own. The head is fitted into it.
        edition: name of an edition.

    Raises:
        UsageError: an unknown edition, or a grid too small for a head.
    """
    edition_ = get_edition(edition)
    if edition_.is_two_dimensional:
        raise UsageError(f"phantom of edition {edition}: a 2D set; phantom_slices makes those")
    shape = shape or edition_.shape or _FULL_SHAPE
    if min(shape) < _SMALLEST:
        raise UsageError(f"phantom of shape {shape}: every axis must have at least {_SMALLEST} voxels")
    spacing_mm = _spacing_for(shape)
    rng = np.random.default_rng([seed, index])
    kind = kind_of(index)
    lesions = plan_lesions(rng, growth_of_task(edition_.task), kind)
    head = make_head(rng, shape, 1 / spacing_mm, pushes_of(lesions))
    add_lesions(rng, head, lesions, kind, has_cavity=any(label.name == "RC" for label in edition_.labels))
    images = {m: _place(paint_modality(rng, head, m), head, shape) for m in INTENSITIES}
    return Phantom(
        edition=edition_,
        images={m: images[m] for m in edition_.modalities},
        label_map=_place(_label_table(edition_)[head.tissue], head, shape),
        spacing_mm=spacing_mm,
    )


def _affine_of(spacing_mm: float, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine of BraTS for voxels of `spacing_mm`: the centre of its grid of 1 mm stays where it is."""
    middle = [(n * spacing_mm - full) / 2 + (1 - spacing_mm) / 2 for n, full in zip(shape, _FULL_SHAPE, strict=True)]
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = middle[2], 239 + middle[1], 0.0 - middle[0]
    return affine


def _spacing_for(shape: tuple[int, int, int]) -> float:
    """Return the voxels' edge in mm at which a head fits the grid, rounded to a tenth, at least 1."""
    return max(1.0, round(max(extent / n for extent, n in zip(_HEAD_EXTENT, shape, strict=True)), 1))


def _label_table(edition: Edition) -> NDArray[np.uint8]:
    """Return the edition's label value of every tissue code; 0 for those that it does not label."""
    values = {label.name: label.value for label in edition.labels}
    table = np.zeros(len(Tissue), np.uint8)
    for tissue, names in _LABEL_NAMES.items():
        table[tissue] = next((values[name] for name in names if name in values), 0)
    return table


def _place(values: NDArray[_T], head: Head, shape: tuple[int, int, int]) -> NDArray[_T]:
    """Return values of the head's box in the whole grid, 0 around it."""
    whole = np.zeros(shape, values.dtype)
    whole[head.box] = values
    return whole


# ---- on disk ----

_SITES = ("CBICA", "TCIA01", "2013", "TMC")
_MAPPING_COLUMNS = (
    "Grade",
    "BraTS_2017_subject_ID",
    "BraTS_2018_subject_ID",
    "TCGA_TCIA_subject_ID",
    "BraTS_2019_subject_ID",
    "BraTS_2020_subject_ID",
)


def case_name(edition: str, index: int, *, is_labelled: bool = True) -> str:
    """Return the official name that the case of that index (1, 2, 3 ...) has in an edition."""
    task = get_edition(edition).task
    site = _SITES[index % len(_SITES)]
    old = {"brats2017": "Brats17", "brats2018": "Brats18", "brats2019": "BraTS19"}
    if edition in old:
        return f"{old[edition]}_{site}_{index:03d}_1"
    if edition == "brats2020":
        return f"BraTS20_{'Training' if is_labelled else 'Validation'}_{index:03d}"
    if edition == "brats2021":
        return f"BraTS2021_{index - 1:05d}"
    if task == "MEN-RT":
        return f"BraTS-MEN-RT-{index:04d}-1"
    if edition == "msd-task01":
        return f"BRATS_{index:03d}"
    return f"BraTS-{task}-{index - 1:05d}-{100 if edition == 'brats2024-gli' else 0:03d}"


def write_download(
    root: Path,
    num_cases: int,
    *,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
    edition: str = "brats2020",
    first: int = 1,
    suffix: str = ".nii.gz",
    is_labelled: bool = True,
    image_dtype: DTypeLike = np.int16,
    label_dtype: DTypeLike = np.uint8,
    sform_code: int = 1,
    on_case: Callable[[], object] | None = None,
) -> list[Path]:
    """Write synthetic cases exactly as a download of an edition: folders, names, tables, geometry.

    Args:
        root: folder of the download; made where it is missing.
        num_cases: how many cases.
        seed: names the set of cases.
        shape: grid (K, J, I); None = the edition's own.
        edition: name of the edition.
        first: index of the first case; two calls with different indices add up to one download.
        suffix: `.nii.gz`, or `.nii` as in Kaggle's copy.
        is_labelled: False leaves the label maps out, as in validation data.
        image_dtype: type of the images on disk.
        label_dtype: type of the label maps on disk.
        sform_code: 0 leaves the geometry to the qform alone.
        on_case: called after each case.

    Returns:
        The folder of each case, or its 4-D file in an edition that has those.

    Raises:
        UsageError: as `make_phantom`.
        OutputError: the folder cannot be written to.
    """
    wanted = get_edition(edition)
    make_output_folder(root)
    paths: list[Path] = []
    grades: dict[int, str] = {}
    for index in range(first, first + num_cases):
        phantom = make_phantom(seed, index, shape=shape, edition=edition)
        grades[index] = "HGG" if phantom.has_et else "LGG"
        name = case_name(edition, index, is_labelled=is_labelled)
        folder = _cases_folder(root, wanted, grades[index], is_labelled=is_labelled)
        images = {m: image.astype(image_dtype) for m, image in phantom.images.items()}
        label_map = phantom.label_map.astype(label_dtype) if is_labelled else None
        header = _header(phantom, sform_code)
        if wanted.is_four_dimensional:
            paths.append(_write_stacked(folder, name + suffix, wanted, images, label_map, header))
        else:
            paths.append(_write_case(folder / name, wanted, images, label_map, header, suffix))
        if on_case is not None:
            on_case()
    _write_tables(root, wanted, grades, is_labelled=is_labelled)
    return paths


def _cases_folder(root: Path, edition: Edition, grade: str, *, is_labelled: bool) -> Path:
    """Return the folder in a download in which the folder of a case of that grade lies."""
    part = "Training" if is_labelled else "Validation"
    if edition.name == "brats2020":
        return root / f"MICCAI_BraTS2020_{part}Data"
    if edition.name in ("brats2017", "brats2018", "brats2019"):
        return root / grade if is_labelled else root
    if edition.name.startswith("brats2023"):
        return root / f"ASNR-MICCAI-BraTS2023-{edition.task}-Challenge-{part}Data"
    if edition.name.startswith("brats2024"):
        return root / f"BraTS2024-{edition.task}-{part}Data"
    if edition.is_four_dimensional:
        return root / "Task01_BrainTumour" / ("imagesTr" if is_labelled else "imagesTs")
    return root


def _header(phantom: Phantom, sform_code: int) -> bytes:
    header = header_for(phantom.grid, (phantom.spacing_mm,) * 3, phantom.affine, np.int16)
    raw = np.frombuffer(header, np.uint8).copy()
    if sform_code == 0:
        raw[254:256] = 0  # sform_code, a short
        raw[280:328] = 0  # srow_x, srow_y, srow_z
    return raw.tobytes()


def _write_case(
    folder: Path,
    edition: Edition,
    images: Mapping[str, NDArray[Any]],
    label_map: NDArray[Any] | None,
    header: bytes,
    suffix: str,
) -> Path:
    """Write a file a modality and one for the label map into the case's own folder, and return that."""
    make_output_folder(folder)
    for modality, image in images.items():
        write_volume(folder / edition.file_name(folder.name, modality, suffix), image, header)
    if label_map is not None:
        write_volume(folder / edition.file_name(folder.name, None, suffix), label_map, header)
    return folder


def _write_stacked(
    folder: Path,
    file_name: str,
    edition: Edition,
    images: Mapping[str, NDArray[Any]],
    label_map: NDArray[Any] | None,
    header: bytes,
) -> Path:
    """Write all modalities as one 4-D file, its label map beside under the same name, and return the file."""
    target = make_output_folder(folder) / file_name
    write_volume(target, np.stack([images[m] for m in edition.tokens]), header)
    if label_map is not None:
        write_volume(make_output_folder(folder.parent / "labelsTr") / file_name, label_map, header)
    return target


def _write_tables(root: Path, edition: Edition, grades: Mapping[int, str], *, is_labelled: bool) -> None:
    """Write the tables that come with a download: names through the years (2019, 2020), or MSD's description."""
    if edition.is_four_dimensional:
        _write_description(root / "Task01_BrainTumour", edition)
    if edition.name not in ("brats2019", "brats2020") or not is_labelled:
        return
    folder = root if edition.name == "brats2019" else _cases_folder(root, edition, "", is_labelled=True)
    path = folder / "name_mapping.csv"
    rows: dict[str, list[str]] = {}
    if path.is_file():
        rows = {row[4]: row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()[1:])}
    for index, grade in grades.items():
        old = case_name("brats2019", index)
        rows[old] = [grade, "NA", "NA", "NA", old, case_name("brats2020", index)]
    num_columns = len(_MAPPING_COLUMNS) - (edition.name == "brats2019")
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(row[:num_columns] for row in (_MAPPING_COLUMNS, *rows.values()))
    write_text(path, table.getvalue())


def _write_description(folder: Path, edition: Edition) -> None:
    """Write MSD's `dataset.json`: the order of the channels, the labels, the cases."""
    training, test = (sorted(path.name for path in (folder / part).glob("*.nii*")) for part in ("imagesTr", "imagesTs"))
    description = {
        "name": "BRATS",
        "description": "Synthetic cases in the form of the Medical Segmentation Decathlon; they show nobody",
        "tensorImageSize": "4D",
        "modality": {str(channel): token for channel, token in enumerate(edition.tokens.values())},
        "labels": {"0": "background"} | {str(label.value): label.title for label in edition.labels},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in training],
        "test": [f"./imagesTs/{name}" for name in test],
    }
    write_json(folder / "dataset.json", description)
