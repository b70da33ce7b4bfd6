"""A case as pictures need it: three planes through the worst place, the patient's right on the left.

In: a case's files. Out: `CaseSlices`: for each plane a window of grey values a modality, region masks of the reference
and of every prediction, and where the plane lies. Arrays of planes are (rows, columns), the first row at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations as _orientations
from numpy.typing import NDArray

from brats_seg.data.reading import Header, read_label_map, read_volume, same_geometry
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError

orientations: Any = _orientations  # nibabel has no types here

__all__ = ["PLANES", "CaseFiles", "CaseSlices", "Plane", "cut_case"]

PLANES = ("axial", "coronal", "sagittal")
_AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Plane -> the axis of a (right, anterior, superior) array that it is cut across."""

_DARKEST, _BRIGHTEST = 0.5, 99.5
"""Percentiles of a modality's nonzero voxels that are shown black and white."""
_ENOUGH = 200_000
"""Voxels that tell the percentiles well enough."""
_MARGIN_MM = 4.0
"""Around the brain."""


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's files lie; plain values, since it goes to other processes."""

    case: str
    edition: str
    images: Mapping[str, tuple[Path, int | None]]
    """Modality -> file, and its channel where one file holds all."""
    reference: Path
    predictions: tuple[Path | None, ...]
    """A label map an evaluation; None = there was none."""
    region: str
    """The region that the planes are chosen by."""
    voxels: tuple[tuple[int, int], ...] = ()
    """Reference's and prediction's voxels of the region as the evaluations counted them; () = not known."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane through a case, cropped to the brain."""

    name: str
    grey: Mapping[str, NDArray[np.uint8]]
    """Modality -> (rows, columns)."""
    reference: NDArray[np.bool_]
    """(region, rows, columns)."""
    predictions: tuple[NDArray[np.bool_], ...]
    """The same of every prediction; all False where there is none."""
    pixel_mm: tuple[float, float]
    """Height and width of a pixel."""
    number: int
    """Of the slice in the file's own order, counted from 1, as ITK-SNAP does."""
    num_slices: int
    place_mm: float
    """Along the axis that points right, to the front, or up."""
    num_wrong: int
    """Wrong pixels of the chosen region in this plane, in all predictions together."""

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        rows, columns = self.reference.shape[1:]
        return columns * self.pixel_mm[1], rows * self.pixel_mm[0]


@dataclass(frozen=True, eq=False)
class CaseSlices:
    """A case's three planes, and how much is wrong in the whole volume."""

    case: str
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    """Of the edition, in its order, whether they are there or not."""
    planes: tuple[Plane, ...]
    missed_ml: NDArray[np.float64]
    """(prediction, region): reference voxels that the prediction does not have."""
    false_ml: NDArray[np.float64]
    """(prediction, region): predicted voxels that the reference does not have."""
    notes: tuple[str, ...] = ()
    """What is not there or does not fit, in words."""


def cut_case(files: CaseFiles) -> CaseSlices:
    """Read a case and return the planes with the most wrong voxels of a region.

    Where none is wrong they are those with the most of the region in the reference. A modality that is missing or does
    not fit is left out and noted.

    Raises:
        DataError: the reference or a prediction cannot be read, lies on another grid, has labels of another edition, or
            is not what the evaluation saw.
    """
    edition = get_edition(files.edition)
    label_map, header = read_label_map(files.reference)
    ornt = orientations.io_orientation(header.affine)
    reference = edition.regions_from_label_map(label_map)
    predictions = [_read_prediction(path, header, edition) for path in files.predictions]
    row = edition.region_names.index(files.region)
    _check_counts(files, reference[row], [own[row] for own in predictions])
    images, notes = _read_images(files, header)
    box = _brain_box(list(images.values()), reference, header)
    wrong = np.zeros(label_map.shape, np.uint8)
    for own in predictions:
        wrong += own[row] != reference[row]
    counted = wrong if wrong.any() else reference[row].astype(np.uint8)
    grey = {name: _grey(volume) for name, volume in images.items()}
    voxel_ml = float(np.prod(header.spacing_mm)) / 1000
    sizes = [[(reference[n] & ~own[n]).sum() for n in range(len(own))] for own in predictions]
    false = [[(own[n] & ~reference[n]).sum() for n in range(len(own))] for own in predictions]
    cut = _Cut(header, ornt, box, counted)
    return CaseSlices(
        case=files.case,
        regions=edition.region_names,
        modalities=edition.modalities,
        planes=tuple(cut.plane(name, grey, reference, predictions, wrong) for name in PLANES),
        missed_ml=np.array(sizes, float).reshape(len(predictions), -1) * voxel_ml,
        false_ml=np.array(false, float).reshape(len(predictions), -1) * voxel_ml,
        notes=tuple(notes),
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    """How planes are cut out of arrays (..., K, J, I)."""

    header: Header
    ornt: NDArray[np.float64]
    box: tuple[slice, slice, slice]
    """Of the (right, anterior, superior) array: the brain."""
    counted: NDArray[np.uint8]
    """(K, J, I): what a plane should have the most of."""

    def plane(
        self,
        name: str,
        grey: Mapping[str, NDArray[np.uint8]],
        reference: NDArray[np.bool_],
        predictions: Sequence[NDArray[np.bool_]],
        wrong: NDArray[np.uint8],
    ) -> Plane:
        axis = _AXIS[name]
        counted = self._oriented(self.counted)
        others = tuple(one for one in range(3) if one != axis)
        sums = counted.sum(axis=others, dtype=np.int64)
        index = int(sums.argmax()) if sums.any() else counted.shape[axis] // 2
        pick = [slice(None)] * 3
        pick[axis] = slice(index, index + 1)
        own = tuple(self.box[one] if one != axis else pick[axis] for one in range(3))

        def cut(volume: NDArray[Any]) -> NDArray[Any]:
            flat = self._oriented(volume)[own].squeeze(axis)
            return np.ascontiguousarray(flat.T[::-1, ::-1])  # up at the top; the patient's right, or front, on the left

        file_axis = int(np.flatnonzero(self.ornt[:, 0] == axis)[0])
        num = counted.shape[axis]
        affine = self.header.affine @ orientations.inv_ornt_aff(self.ornt, self.header.grid[::-1])
        size = [float(np.linalg.norm(affine[:3, one])) for one in others]
        return Plane(
            name=name,
            grey={modality: cut(volume) for modality, volume in grey.items()},
            reference=np.stack([cut(mask) for mask in reference]),
            predictions=tuple(np.stack([cut(mask) for mask in own_masks]) for own_masks in predictions),
            pixel_mm=(size[1], size[0]),
            number=(index if self.ornt[file_axis, 1] > 0 else num - 1 - index) + 1,
            num_slices=num,
            place_mm=float(affine[axis, 3] + affine[axis, axis] * index),
            num_wrong=int(np.count_nonzero(cut(wrong))),
        )

    def _oriented(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a view of (K, J, I) as (right, anterior, superior)."""
        turned: NDArray[Any] = orientations.apply_orientation(volume.transpose(2, 1, 0), self.ornt)
        return turned


def _read_prediction(path: Path | None, header: Header, edition: Edition) -> NDArray[np.bool_]:
    if path is None:
        return np.zeros((len(edition.regions), *header.grid), bool)
    label_map, own = read_label_map(path)
    if difference := same_geometry(header, own):
        raise DataError(f"{path}: {difference}, against the reference; it cannot be drawn over the images")
    return edition.regions_from_label_map(label_map)


def _check_counts(files: CaseFiles, reference: NDArray[np.bool_], predictions: Sequence[NDArray[np.bool_]]) -> None:
    """Refuse label maps with other numbers of voxels than those that were scored.

    Raises:
        DataError: a file changed since the evaluation.
    """
    for path, own, (expected, predicted) in zip(files.predictions, predictions, files.voxels, strict=False):
        for what, file, mask, counted in (
            ("reference", files.reference, reference, expected),
            ("prediction", path, own, predicted),
        ):
            if (found := int(mask.sum())) != counted:
                raise DataError(
                    f"{file}: {what} has {found} voxels of {files.region}, but {counted} when it was evaluated; "
                    "evaluate again"
                )


def _read_images(files: CaseFiles, header: Header) -> tuple[dict[str, NDArray[Any]], list[str]]:
    images, notes = {}, []
    for modality in get_edition(files.edition).modalities:
        if modality not in files.images:
            notes.append(f"no {modality} image")
            continue
        path, channel = files.images[modality]
        try:
            volume, own = read_volume(path, channel=channel)
            difference = same_geometry(header, own) if volume.ndim == 3 else "several volumes in one file"
        except DataError as error:
            notes.append(str(error))
            continue
        if difference:
            notes.append(f"{modality}: {difference}, against the reference; not shown")
        else:
            images[modality] = volume
    return images, notes


def _brain_box(
    images: Sequence[NDArray[Any]], reference: NDArray[np.bool_], header: Header
) -> tuple[slice, slice, slice]:
    """Return the box, in (right, anterior, superior), of all voxels of an image that are not 0, with a margin."""
    inside: NDArray[np.bool_] = np.any(reference, axis=0)
    for volume in images:
        inside = inside | (volume != 0)
    if not images or not inside.any():
        inside = np.ones(header.grid, bool)
    ornt = orientations.io_orientation(header.affine)
    turned = orientations.apply_orientation(inside.transpose(2, 1, 0), ornt)
    spacing = [header.spacing_mm[::-1][int(np.flatnonzero(ornt[:, 0] == axis)[0])] for axis in range(3)]
    slices = []
    for axis in range(3):
        places = np.flatnonzero(turned.any(axis=tuple(one for one in range(3) if one != axis)))
        margin = round(_MARGIN_MM / spacing[axis])
        slices.append(slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin))
    return slices[0], slices[1], slices[2]


def _grey(volume: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a modality as 0-255, its nonzero voxels' outliers cut; 0 stays 0."""
    inside = volume[(volume != 0) & np.isfinite(volume)]
    if not inside.size:
        return np.zeros(volume.shape, np.uint8)
    sample = inside[:: max(1, inside.size // _ENOUGH)]
    low, high = (float(value) for value in np.percentile(sample, [_DARKEST, _BRIGHTEST]))
    shares = (np.nan_to_num(volume.astype(np.float32)) - low) * (255 / max(high - low, 1e-6))
    levels: NDArray[np.uint8] = np.where(volume == 0, 0, shares.clip(0, 255)).astype(np.uint8)
    return levels
