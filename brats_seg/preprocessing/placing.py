"""One case's files as a network sees them: in the model's space, each modality with voxels, every voxel a number.

A case that lies in the model's space already is read exactly as for the training store; nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from brats_seg.data.cases import Case
from brats_seg.data.header import Header, sizes_in_words
from brats_seg.data.nifti import read_header, read_stack
from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.preprocessing.geometry import (
    Matrix,
    Space,
    affine_in,
    is_in_space,
    orientation_of,
    place_image,
    spacing_of,
)
from brats_seg.preprocessing.prepare import PreparedCase, prepare_arrays, prepare_case
from brats_seg.preprocessing.volumes import brain_box, require_finite

__all__ = ["geometry_in_words", "prepare_in_space", "require_filled"]


def prepare_in_space(case: Case, space: Space | None, *, allow_missing: bool = False) -> PreparedCase:
    """Return a case's arrays, without label map, in a model's space.

    Args:
        case: where the files lie; only read.
        space: the model's; None = whatever the case has.
        allow_missing: modalities may be missing, but not all.

    Raises:
        DataError: as `prepare_case`; or a modality that is there is 0 everywhere, or the image is longer than any head.
    """
    header = None if space is None or not case.images else _first_header(case)
    if space is None or header is None or is_in_space(header.grid, _affine_of(header, space), space):
        prepared = prepare_case(case, with_label=False, allow_missing=allow_missing)
    else:
        prepared = _placed(case, header, space, allow_missing)
    require_filled(prepared, {modality: image.path for modality, image in case.images.items()})
    if space is None or header is None or _has_orientation(header):
        return prepared
    doubt = f"the header tells no orientation (qform and sform codes 0): taken for {space.orientation}, the model's own"
    return replace(prepared, warnings=(doubt,))


def require_filled(prepared: PreparedCase, files: Mapping[str, Path] | None = None) -> None:
    """Refuse a modality that was given and is 0 everywhere: the network would take it for an image.

    Raises:
        DataError: names it, and its file if there is one.
    """
    for modality, volume in zip(get_edition(prepared.edition).modalities, prepared.image, strict=True):
        if modality not in prepared.missing and not volume.any():
            where = f" ({files[modality].name})" if files and modality in files else ""
            raise DataError(
                f"case {prepared.name}: {modality}{where} is 0 everywhere, expected an image; "
                "give the right file, or leave it out with --allow-missing"
            )


def geometry_in_words(shape: tuple[int, int, int], affine: Matrix) -> str:
    """Return such as `240x240x155 voxels of 1x1x3 mm, axes RAS` (all along I, J, K) for a shape (K, J, I)."""
    spacing = "x".join(f"{mm:.3g}" for mm in reversed(spacing_of(affine)))
    return f"{sizes_in_words(shape[::-1])} voxels of {spacing} mm, axes {orientation_of(affine)}"


def _has_orientation(header: Header) -> bool:
    return header.qform_code > 0 or header.sform_code > 0


def _affine_of(header: Header, space: Space) -> Matrix:
    """Return the header's affine, or that of the model's orientation where the header tells none: nothing is turned."""
    return header.affine if _has_orientation(header) else affine_in(space, header.spacing_mm)


def _first_header(case: Case) -> Header | None:
    """Return the header of the first modality; None where it cannot be read, which whoever reads the case will tell."""
    try:
        return read_header(next(iter(case.images.values())).path)
    except DataError:
        return None


def _placed(case: Case, header: Header, space: Space, allow_missing: bool) -> PreparedCase:
    names = get_edition(case.edition).modalities
    there = [modality for modality in names if modality in case.images]
    files = [case.images[modality] for modality in there]
    try:
        stack, _ = read_stack([(file.path, file.channel) for file in files])
        require_finite(stack, [f"{m} ({file.path.name})" for m, file in zip(there, files, strict=True)])
        placement = place_image(header.grid, _affine_of(header, space), space, brain_box(stack))
    except DataError as error:
        raise DataError(f"case {case.name}: {error}") from error
    volumes = dict(zip(there, placement.to_model(stack), strict=True))
    prepared = prepare_arrays(volumes, case.edition, name=case.name, allow_missing=allow_missing)
    wanted = "their own size" if space.spacing_mm is None else "x".join(f"{mm:.3g}" for mm in space.spacing_mm[::-1])
    how = f"resampled to {wanted} mm" if placement.is_resampled else "turned"
    found = geometry_in_words(header.grid, _affine_of(header, space))
    note = f"{found}: {how}, axes {space.orientation}"
    return replace(
        prepared,
        patient=case.patient,
        site=case.site,
        header_bytes=header.raw,
        placement=placement,
        notes=(note,),
    )
