"""The 348 bytes that begin a NIfTI-1 file: what they say of grid, type and place, checked; and making new ones.

Axes: I, J, K are the NIfTI voxel axes; shapes here are in file order, (K, J, I). Affines are nibabel's: from (i, j, k)
to RAS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike, NDArray

from brats_seg.errors import DataError

__all__ = [
    "FIRST_VOXEL",
    "HEADER_BYTES",
    "NIFTI_TYPES",
    "Header",
    "header_for",
    "header_from_bytes",
    "parse_header",
    "same_geometry",
    "sizes_in_words",
]

HEADER_BYTES = 348
"""Length of a NIfTI-1 header; four more bytes tell whether extensions follow."""

FIRST_VOXEL = 352
"""Byte at which voxels begin where no extensions lie between."""

NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI data type codes that hold one real number a voxel."""

_SHEAR_TOLERANCE = 1e-3
"""Largest |cosine| between two voxel axes that still counts as a right angle."""
_AFFINE_TOLERANCE_MM = 1e-3

_Nifti1Header: Any = nib.Nifti1Header  # nibabel's methods carry no types


@dataclass(frozen=True, eq=False)
class Header:
    """Everything known about a volume without reading its voxels."""

    shape: tuple[int, ...]
    """(K, J, I), or (T, K, J, I) of a file with several volumes."""
    dtype: np.dtype[Any]
    """Type on disk, byte order included."""
    vox_offset: int
    """Byte at which the voxels begin; header extensions lie before it and are passed over."""
    slope: float
    intercept: float
    """Value = stored number * slope + intercept; 1 and 0 where the file sets none."""
    qform_code: int
    sform_code: int
    affine: NDArray[np.float64]
    """4x4, (i, j, k) -> RAS+ mm, as nibabel resolves it: sform if its code > 0, else qform, else spacing alone."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along (K, J, I)."""
    raw: bytes
    """The 348 bytes of the header as they are on disk."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """(K, J, I), also of a 4-D file."""
        k, j, i = self.shape[-3:]
        return k, j, i


def header_from_bytes(raw: bytes, what: str = "header") -> Header:
    """Return what the 348 bytes of a NIfTI-1 header say; `what` names them in errors.

    Raises:
        DataError: they are no NIfTI-1 header, or one that cannot be used.
    """
    if len(raw) != HEADER_BYTES:
        raise DataError(f"{what}: {len(raw)} bytes, but a NIfTI-1 header has {HEADER_BYTES}")
    header = parse_header(raw)
    dtype = _dtype_of(header, what)
    slope, intercept = _scaling_of(header, what)
    affine = _affine_of(header, what)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return Header(
        shape=_shape_of(header, what),
        dtype=dtype.newbyteorder(header.endianness),
        vox_offset=_offset_of(header, what),
        slope=slope,
        intercept=intercept,
        qform_code=int(header["qform_code"]),
        sform_code=int(header["sform_code"]),
        affine=affine,
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        raw=raw,
    )


def parse_header(raw: bytes) -> Any:
    """Return nibabel's own header object of 348 bytes, unchecked, for whoever changes fields of it."""
    return _Nifti1Header(raw, check=False)


def header_for(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], affine: NDArray[Any], dtype: DTypeLike
) -> bytes:
    """Return a 348-byte header like those of BraTS files: qform and sform alike, both with code 1.

    Args:
        shape: (K, J, I).
        spacing_mm: voxel size along (K, J, I); must be the affine's.
        affine: 4x4, (i, j, k) -> RAS+ mm.
        dtype: type of the voxels.
    """
    header = _Nifti1Header()
    header.set_data_shape(shape[::-1])
    header.set_data_dtype(np.dtype(dtype))
    header.set_zooms(spacing_mm[::-1])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm", "sec")
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 1, 0, FIRST_VOXEL
    return bytes(header.binaryblock)


def same_geometry(first: Header, second: Header) -> str | None:
    """Return None where both have one grid at one place, else what differs in the second, in words."""
    if first.grid != second.grid:
        return f"shape {sizes_in_words(second.grid)} differs from {sizes_in_words(first.grid)}"
    distance = float(np.abs(_corners(first) - _corners(second)).max())
    if distance > _AFFINE_TOLERANCE_MM:
        return f"affine differs (corners up to {distance:.3g} mm apart)"
    return None


def _corners(header: Header) -> NDArray[np.float64]:
    """(3, 8) mm: the outermost voxels' positions, which is where two affines differ most."""
    last = np.array(header.grid[::-1], np.float64)[:, None] - 1
    indices = np.indices((2, 2, 2)).reshape(3, 8) * last
    positions: NDArray[np.float64] = header.affine[:3, :3] @ indices + header.affine[:3, 3:]
    return positions


def sizes_in_words(shape: Sequence[int]) -> str:
    """Return `155x240x240`."""
    return "x".join(map(str, shape))


def _dtype_of(header: Any, what: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in NIFTI_TYPES:
        raise DataError(f"{what}: data type code {code}, expected one real number a voxel ({sorted(NIFTI_TYPES)})")
    return np.dtype(NIFTI_TYPES[code])


def _shape_of(header: Any, what: str) -> tuple[int, ...]:
    """Return (K, J, I) or (T, K, J, I); dimensions of size 1 beyond the third are dropped."""
    num = int(header["dim"][0])
    sizes = [int(n) for n in header["dim"][1 : num + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if not 3 <= num <= 7 or len(sizes) > 4 or min(sizes) < 1:
        raise DataError(f"{what}: header has dimensions {sizes}, expected three (or four) that are at least 1")
    return tuple(reversed(sizes))


def _offset_of(header: Any, what: str) -> int:
    offset = float(header["vox_offset"])
    if offset == 0:  # some writers leave it unset; nibabel reads on after the header, too
        return FIRST_VOXEL
    if not (FIRST_VOXEL <= offset <= 1 << 33 and offset == int(offset)):
        raise DataError(f"{what}: voxels begin at byte {offset:g}, expected {FIRST_VOXEL} or more; header damaged")
    return int(offset)


def _scaling_of(header: Any, what: str) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise DataError(f"{what}: scaling cannot be used ({error})") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _affine_of(header: Any, what: str) -> NDArray[np.float64]:
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{what}: qform cannot be used ({error})") from error
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        raise DataError(f"{what}: affine {affine[:3].tolist()} has an axis without length; repair its sform or qform")
    cosines = (axes.T @ axes) / np.outer(lengths, lengths) - np.eye(3)
    if np.abs(cosines).max() > _SHEAR_TOLERANCE:
        angle = float(np.degrees(np.arccos(np.clip(np.abs(cosines).max(), 0, 1))))
        raise DataError(f"{what}: sform is sheared: axes meet at {angle:.1f} degrees, expected 90; resample the image")
    return affine
