"""A case as pictures need it: three planes through the worst place, the patient's right on the left.

In: a case's files. Out: `CaseSlices`: for each plane a window of grey values a modality, region masks of the reference
and of every prediction, and where the plane lies. Arrays of planes are (rows, columns), the first row at the top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.reading import Header, read_label_map, read_volume, same_geometry
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError
from brats_seg.reporting.planes import (
    PLANES,
    Box,
    Orientation,
    box_of,
    cut,
    orientation_of,
    plane_axis,
    slice_with_most,
)

__all__ = ["CaseFiles", "CaseSlices", "Plane", "cut_case"]

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
    orientation = orientation_of(header.affine, header.grid)
    reference = edition.regions_from_label_map(label_map)
    predictions = [_read_prediction(path, header, edition) for path in files.predictions]
    row = edition.region_names.index(files.region)
    _check_counts(files, reference[row], [own[row] for own in predictions])
    images, notes = _read_images(files, header)
    box = _brain_box(images.values(), np.any([reference, *predictions], axis=(0, 1)), orientation)
    wrong = np.zeros(label_map.shape, np.uint8)
    for own in predictions:
        wrong += own[row] != reference[row]
    counted = wrong if wrong.any() else reference[row].astype(np.uint8)
    grey = {name: _grey(volume) for name, volume in images.items()}
    voxel_ml = float(np.prod(header.spacing_mm)) / 1000
    sizes = [[(reference[n] & ~own[n]).sum() for n in range(len(own))] for own in predictions]
    false = [[(own[n] & ~reference[n]).sum() for n in range(len(own))] for own in predictions]
    through = _Cut(orientation, box, counted)
    return CaseSlices(
        case=files.case,
        regions=edition.region_names,
        modalities=edition.modalities,
        planes=tuple(through.plane(name, grey, reference, predictions, wrong) for name in PLANES),
        missed_ml=np.array(sizes, float).reshape(len(predictions), -1) * voxel_ml,
        false_ml=np.array(false, float).reshape(len(predictions), -1) * voxel_ml,
        notes=tuple(notes),
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    """How planes are cut out of arrays (..., K, J, I)."""

    orientation: Orientation
    box: Box
    """Of the turned volume: the brain."""
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
        orientation, axis = self.orientation, plane_axis(name)
        index = slice_with_most(orientation.turned(self.counted), name)
        index = orientation.shape[axis] // 2 if index is None else index
        part = tuple(slice(None) if one == axis else side for one, side in enumerate(self.box))

        def flat(volume: NDArray[Any]) -> NDArray[Any]:
            return np.ascontiguousarray(cut(orientation.turned(volume)[part], name, index))

        return Plane(
            name=name,
            grey={modality: flat(volume) for modality, volume in grey.items()},
            reference=np.stack([flat(mask) for mask in reference]),
            predictions=tuple(np.stack([flat(mask) for mask in own_masks]) for own_masks in predictions),
            pixel_mm=orientation.plane_spacing_mm(name),
            number=orientation.file_index(name, index) + 1,
            num_slices=orientation.shape[axis],
            place_mm=orientation.position_mm(name, index),
            num_wrong=int(np.count_nonzero(flat(wrong))),
        )


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


def _brain_box(images: Iterable[NDArray[Any]], labelled: NDArray[np.bool_], orientation: Orientation) -> Box:
    """Return the box of all voxels of an image that are not 0, and of all that is labelled, with a margin."""
    inside = labelled
    for volume in images:
        inside = inside | (volume != 0)
    first, second, third = (round(_MARGIN_MM / size) for size in orientation.spacing_mm)
    return box_of(orientation.turned(inside), (first, second, third))


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
