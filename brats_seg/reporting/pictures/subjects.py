"""A case as it is drawn: its images and label maps, turned to the body's axes, with what a picture needs to know.

In comes a `Case` with paths of label maps, or arrays; out comes a `Subject`, from which montages, slices and sweeps are
drawn. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case
from brats_seg.data.reading import Header, read_label_map, read_stack, same_geometry
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError, UsageError, did_you_mean
from brats_seg.evaluation.overlap import confusion, dice
from brats_seg.reporting.planes import Box, Orientation, box_of, orientation_of, plane_axis, slice_with_most

__all__ = ["MODALITY_TITLES", "LabelMap", "Subject", "main_modality", "make_subject", "read_subject"]

LabelMap = Path | NDArray[np.uint8]
"""A label map's file, or the map itself (K, J, I)."""

MODALITY_TITLES: Mapping[str, str] = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR", "grey": "grey"}

_PREFERRED = ("t1c", "flair", "t2", "t1")
"""Which modality stands for the case where one has to."""
_PERCENTILES = (0.5, 99.5)
"""Of the voxels that are not 0: shown black and white."""
_MARGIN_MM = 3.0
_ZOOM_MARGIN_MM = 18.0
"""Seen around the tumour where the picture shows no more."""
_FAR_AWAY = 0.005
"""Share of the tumour's voxels, at each end of each axis, that may lie outside such a picture."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A case to draw; all arrays are turned: (foot to head, front to back, right to left)."""

    name: str
    edition: Edition
    orientation: Orientation
    images: Mapping[str, NDArray[Any]]
    """Modality -> image, in the edition's order; at least one."""
    reference: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8] | None
    notes: tuple[str, ...] = ()
    """What is missing, in words, for the reader of the picture."""

    @property
    def main(self) -> str:
        """The modality on which label maps are shown: T1c where there is one."""
        return main_modality(self.images)

    @property
    def label_maps(self) -> dict[str, NDArray[np.uint8]]:
        """`reference` and `prediction`, as far as there are any."""
        both = {"reference": self.reference, "prediction": self.prediction}
        return {name: label_map for name, label_map in both.items() if label_map is not None}

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.orientation.spacing_mm)) / 1000

    @cached_property
    def windows(self) -> dict[str, tuple[float, float]]:
        """Modality -> the values shown black and white."""
        return {modality: _window(image) for modality, image in self.images.items()}

    @cached_property
    def box(self) -> Box:
        """The brain, which is all voxels that are not 0, with all that is labelled, and a little around it."""
        inside = self.images[self.main] != 0
        for label_map in self.label_maps.values():
            inside |= label_map > 0
        return box_of(inside, self._voxels(_MARGIN_MM))

    @cached_property
    def tumor_box(self) -> Box:
        """The tumour of both label maps, but for small parts far away, and what lies around; the brain without one."""
        masks = [label_map > 0 for label_map in self.label_maps.values()]
        tumor = np.logical_or.reduce(masks) if masks else np.zeros(1, bool)
        return box_of(tumor, self._voxels(_ZOOM_MARGIN_MM), outliers=_FAR_AWAY) if tumor.any() else self.box

    def volumes_ml(self, which: str) -> dict[str, float]:
        """Return the volume of each label of a label map, by the label's name."""
        counts = np.bincount(self.label_maps[which].ravel(), minlength=256)
        return {label.name: float(counts[label.value]) * self.voxel_ml for label in self.edition.labels}

    def dice(self) -> dict[str, float]:
        """Return region -> Dice of both label maps; nan where both are empty, nothing without both."""
        if self.reference is None or self.prediction is None:
            return {}
        counts = confusion(self.reference, self.prediction, self.edition)
        return {region: dice(counts[region]) for region in self.edition.regions}

    def index(self, plane: str, choice: str | int = "auto") -> int:
        """Return the slice to show, as an index of the turned volume.

        Args:
            plane: axial, coronal or sagittal.
            choice: `auto` (the largest tumour of the reference, or else of the prediction), `worst` (the most voxels in
                which both differ), or an index of the file.

        Raises:
            UsageError: another word, or an index outside the grid.
        """
        if isinstance(choice, int) or choice.lstrip("-").isdecimal():
            return self._index_of(plane, int(choice))
        if choice not in ("auto", "worst"):
            raise UsageError(f"slice {choice!r}: expected a number, auto or worst")
        if choice == "worst" and self.reference is not None and self.prediction is not None:
            found = slice_with_most(self.reference != self.prediction, plane)
        elif choice == "worst":
            raise UsageError("slice worst: needs a reference and a prediction to compare; give both, or slice auto")
        else:
            found = None
        for label_map in self.label_maps.values():
            found = slice_with_most(label_map > 0, plane) if found is None else found
        middle = self.box[plane_axis(plane)]
        return (middle.start + middle.stop) // 2 if found is None else found

    def slice_title(self, plane: str, index: int) -> str:
        """Return a slice in words: its plane, and its index in the file."""
        return f"{plane} {self.orientation.axis_name(plane)} = {self.orientation.file_index(plane, index)}"

    def _index_of(self, plane: str, number: int) -> int:
        size = self.orientation.shape[plane_axis(plane)]
        if not 0 <= number < size:
            raise UsageError(f"slice {number}: {plane} slices of case {self.name} go from 0 to {size - 1}")
        return self.orientation.file_index(plane, number)

    def _voxels(self, mm: float) -> tuple[int, int, int]:
        first, second, third = (round(mm / size) for size in self.orientation.spacing_mm)
        return first, second, third


def main_modality(there: Collection[str]) -> str:
    """Return the modality on which label maps are shown best, of those that are there: T1c, or else FLAIR, T2, T1."""
    return next(modality for modality in (*_PREFERRED, *there) if modality in there)


def make_subject(
    images: Mapping[str, NDArray[Any]],
    affine: NDArray[np.float64],
    edition: Edition,
    *,
    name: str = "",
    reference: NDArray[np.uint8] | None = None,
    prediction: NDArray[np.uint8] | None = None,
    notes: Sequence[str] = (),
) -> Subject:
    """Return a subject of arrays in file order.

    Args:
        images: modality -> (K, J, I), 0 outside the brain; at least one.
        affine: 4x4, (i, j, k) -> RAS+ mm.
        edition: of the label maps.
        name: of the case, for the heading.
        reference: label map of the same shape, or None.
        prediction: label map of the same shape, or None.
        notes: what the reader should be told.

    Raises:
        DataError: no image, another shape, or a label that the edition does not have.
    """
    of = f"case {name}: " if name else ""
    if not images:
        raise DataError(f"{of}no images; give at least one modality")
    shape = next(iter(images.values())).shape
    given = {**images, "reference": reference, "prediction": prediction}
    for what, volume in given.items():
        if volume is not None and (volume.shape != shape or volume.ndim != 3):
            raise DataError(f"{of}{what} has shape {volume.shape}, expected (K, J, I) = {shape} of the images")
    for what, label_map in (("reference", reference), ("prediction", prediction)):
        if label_map is not None:
            edition.check_labels(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)), f"{of}{what}")
    k, j, i = shape
    orientation = orientation_of(affine, (k, j, i))
    return Subject(
        name=name,
        edition=edition,
        orientation=orientation,
        images={modality: orientation.turned(image) for modality, image in images.items()},
        reference=None if reference is None else orientation.turned(reference),
        prediction=None if prediction is None else orientation.turned(prediction),
        notes=tuple(notes),
    )


def read_subject(
    case: Case,
    *,
    reference: LabelMap | None = None,
    prediction: LabelMap | None = None,
    modalities: Sequence[str] | None = None,
) -> Subject:
    """Read a case and its label maps.

    Modalities for which the case has no file are left out, and the subject's notes say so.

    Args:
        case: from `find_cases` or `case_from_files`.
        reference: label map, or None for no reference (the case's own is not taken by itself).
        prediction: label map, or None.
        modalities: which to read; None = all that are there.

    Raises:
        DataError: a file cannot be read, or lies on another grid than the others; no modality is left.
        UsageError: the edition has no such modality.
    """
    edition = get_edition(case.edition)
    wanted = edition.modalities if modalities is None else tuple(modalities)
    for modality in wanted:
        if modality not in edition.modalities:
            hint = did_you_mean(modality, edition.modalities)
            raise UsageError(f"modality {modality!r} is unknown in edition {edition.name}{hint}")
    there = [modality for modality in wanted if modality in case.images]
    if not there:
        raise DataError(f"case {case.name}: no {', '.join(wanted)} (found: {', '.join(case.images) or 'no image'})")
    files = [(case.images[modality].path, case.images[modality].channel) for modality in there]
    stack, headers = read_stack(files)
    first = (files[0][0], headers[0])
    label_maps = {"reference": reference, "prediction": prediction}
    return make_subject(
        dict(zip(there, stack, strict=True)),
        headers[0].affine,
        edition,
        name=case.name,
        notes=[f"no {', '.join(MODALITY_TITLES[one] for one in wanted if one not in there)}"] * (there != list(wanted)),
        **{what: _label_map(given, first, f"case {case.name}: {what}") for what, given in label_maps.items()},
    )


def _label_map(given: LabelMap | None, first: tuple[Path, Header], what: str) -> NDArray[np.uint8] | None:
    if given is None or isinstance(given, np.ndarray):
        return given
    label_map, header = read_label_map(given)
    if difference := same_geometry(first[1], header):
        raise DataError(f"{what} {given}: {difference}, against {first[0].name}; all files of a case share one grid")
    return label_map


def _window(image: NDArray[Any]) -> tuple[float, float]:
    inside = image[image != 0]
    inside = inside[np.isfinite(inside)] if inside.dtype.kind == "f" else inside
    if not inside.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(inside, _PERCENTILES))
    return (low, high) if high > low else (low - 1, low)
