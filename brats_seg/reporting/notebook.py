"""Pictures of cases for notebooks: `brats_seg.reporting.show(case, prediction=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case, case_from_files, find_cases
from brats_seg.editions import edition_of_files, get_edition, modality_of_token
from brats_seg.errors import DataError, UsageError
from brats_seg.reporting.pictures.montage import Look, draw_case
from brats_seg.reporting.pictures.subjects import LabelMap, Subject, make_subject, read_subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BRATS_AFFINE", "HasLabelMap", "show"]

Place = str | PathLike[str]

BRATS_AFFINE: NDArray[np.float64] = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
"""(i, j, k) -> RAS+ mm of nearly all BraTS cases."""


@runtime_checkable
class HasLabelMap(Protocol):
    """What `Model.predict` returns."""

    @property
    def label_map(self) -> NDArray[np.uint8]:
        """(K, J, I)."""


def show(
    case: Place | Case | Mapping[str, Any],
    *,
    prediction: Place | NDArray[np.uint8] | HasLabelMap | None = None,
    reference: Place | NDArray[np.uint8] | HasLabelMap | None = None,
    kind: str = "montage",
    plane: str | None = None,
    modality: str | None = None,
    slice: str | int = "auto",
    edition: str | None = None,
    affine: NDArray[np.float64] | None = None,
    look: Look | None = None,
) -> Figure:
    """Return a picture of a case as a matplotlib figure, which a notebook shows; `figure.savefig(...)` keeps it.

    Args:
        case: a case's folder; or a `Case`; or modality -> file; or modality -> array (K, J, I), 0 outside the brain.
        prediction: a label map's file or array, or what `Model.predict` returned.
        reference: the same; None = the case's own segmentation, where it has one.
        kind: montage, slice (outlines) or overlay (fills).
        plane: axial, coronal or sagittal; None = all three in a montage, else axial.
        modality: of slice and overlay; None = T1c.
        slice: `auto` (the largest tumour), `worst` (most wrong voxels), or an index of the file.
        edition: whose labels these are; None = what names and labels tell.
        affine: of arrays, (i, j, k) -> RAS+ mm; None = that of BraTS.
        look: colours and size.

    Raises:
        DataError: a file cannot be read or lies on another grid.
        UsageError: an unknown name.
    """
    subject = _subject(case, _label_map(prediction), _label_map(reference), edition, affine)
    return draw_case(subject, kind=kind, plane=plane, modality=modality, choice=slice, look=look)


def _label_map(given: Place | NDArray[Any] | HasLabelMap | None) -> LabelMap | None:
    """Return a file, or labels as uint8, whatever whole numbers they came as."""
    if given is None or not isinstance(given, np.ndarray | HasLabelMap):
        return None if given is None else Path(given)
    labels = given if isinstance(given, np.ndarray) else given.label_map
    small = labels.astype(np.uint8)
    if not np.array_equal(small, labels):
        raise DataError("label map: has values that are no whole numbers from 0 to 255; give labels, not probabilities")
    return small


def _subject(
    case: Place | Case | Mapping[str, Any],
    prediction: LabelMap | None,
    reference: LabelMap | None,
    edition: str | None,
    affine: NDArray[np.float64] | None,
) -> Subject:
    if isinstance(case, Mapping) and any(isinstance(value, np.ndarray) for value in case.values()):
        return _subject_of_arrays(case, prediction, reference, edition, affine)
    found = _find(case, edition)
    return read_subject(found, reference=found.label if reference is None else reference, prediction=prediction)


def _find(case: Place | Case | Mapping[str, Any], edition: str | None) -> Case:
    if isinstance(case, Case):
        return case
    if isinstance(case, Mapping):
        files = {modality: Path(path) for modality, path in case.items()}
        return case_from_files(files, edition=edition or edition_of_files(tuple(files)), allow_missing=True)
    cases = find_cases(Path(case), edition=edition, allow_missing=True).cases
    if len(cases) != 1:
        names = ", ".join(one.name for one in cases[:3])
        raise DataError(f"{case}: {len(cases)} cases in it ({names} ...), expected one; give one case's folder")
    return cases[0]


def _subject_of_arrays(
    arrays: Mapping[str, Any],
    prediction: LabelMap | None,
    reference: LabelMap | None,
    edition: str | None,
    affine: NDArray[np.float64] | None,
) -> Subject:
    images = {modality_of_token(token) or token: np.asarray(array) for token, array in arrays.items()}
    for what, label_map in (("prediction", prediction), ("reference", reference)):
        if isinstance(label_map, Path):
            raise UsageError(f"{what} {label_map}: is a file, but the images are arrays; give its array")
    own = get_edition(edition or edition_of_files(tuple(images)))
    ordered = {modality: images[modality] for modality in own.modalities if modality in images}
    if strangers := set(images) - set(ordered):
        raise UsageError(f"modality {min(strangers)!r} is unknown in edition {own.name} ({', '.join(own.modalities)})")
    return make_subject(
        ordered,
        BRATS_AFFINE if affine is None else affine,
        own,
        reference=reference,  # type: ignore[arg-type]  # no Path: see above
        prediction=prediction,  # type: ignore[arg-type]
    )
