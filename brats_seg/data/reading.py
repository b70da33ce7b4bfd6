"""A case's files as volumes, whatever they are: NIfTI, one picture, or the slices of a patient, a picture each.

A path whose name has a `*` stands for slices: `TCGA_CS_4941_19960909_*.tif` for all files of that name with a number in
the star's place, in the order of the numbers. Arrays are (K, J, I), a picture's K is 1. Pictures tell neither place nor
voxel size: theirs is 1 mm along all axes from the origin, rows towards the back and columns to the left (as BraTS).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data import nifti
from brats_seg.data.header import Header, header_for, header_from_bytes, same_geometry, sizes_in_words
from brats_seg.data.pictures import (
    PICTURE_SUFFIXES,
    count_in_between,
    has_color,
    is_lossy,
    picture_size,
    read_mask,
    read_picture,
)
from brats_seg.data.stems import ImageFile
from brats_seg.errors import DataError

__all__ = [
    "Header",
    "count_colored",
    "count_lossy",
    "files_of",
    "is_picture",
    "picture_header",
    "read_header",
    "read_label_map",
    "read_stack",
    "read_volume",
    "same_geometry",
    "slice_numbers",
]

_STAR = "*"


def is_picture(path: Path) -> bool:
    """Return whether a path is that of a picture, or stands for slices."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def files_of(path: Path) -> list[Path]:
    """Return the files that a path stands for, slices in their order; the path itself where it is a file's own.

    Raises:
        DataError: the folder cannot be listed, or two files have one number.
    """
    return list(_slice_files(path).values()) if _STAR in path.name else [path]


def slice_numbers(path: Path) -> tuple[int, ...] | None:
    """Return the numbers in the names of the slices that a path stands for, ascending; None where it has no star.

    Raises:
        DataError: as `files_of`.
    """
    return tuple(_slice_files(path)) if _STAR in path.name else None


def read_header(path: Path) -> Header:
    """Return the header of a file, or of slices, without reading voxels.

    Raises:
        DataError: it cannot be read.
    """
    if not is_picture(path):
        return nifti.read_header(path)
    files = _some_files(path)
    return picture_header((len(files), *picture_size(files[0])), np.uint8)


def read_volume(path: Path, *, channel: int | None = None) -> tuple[NDArray[Any], Header]:
    """Return the voxels (K, J, I) and the header of a NIfTI file (as `nifti.read_volume`), of a picture or of slices.

    Args:
        path: the file, or the name with a star.
        channel: of pictures with three; None makes grey of colours.

    Raises:
        DataError: a file cannot be read, or the slices differ in size.
    """
    if not is_picture(path):
        return nifti.read_volume(path, channel=channel)
    channels = _read_channels(path, 1 if channel is None else 3)
    volume = channels[channel or 0]
    return volume, picture_header(volume.shape, volume.dtype)


def read_stack(files: Sequence[tuple[Path, int | None]]) -> tuple[NDArray[Any], tuple[Header, ...]]:
    """Return several volumes of one grid as one array (volume, K, J, I), and their headers, as `nifti.read_stack`.

    Raises:
        DataError: as `read_volume`; or the volumes differ in shape or affine.
    """
    path, channel = files[0]
    if not is_picture(path):
        return nifti.read_stack(files)
    if any(other != path for other, _ in files):
        raise DataError(f"{path}: all channels of a picture lie in one file; found others beside it")
    channels = _read_channels(path, 1 if channel is None else 3)
    stack = np.stack([channels[number or 0] for _, number in files])
    return stack, (picture_header(stack.shape[1:], stack.dtype),) * len(files)


def read_label_map(path: Path) -> tuple[NDArray[np.uint8], Header]:
    """Return a label map as uint8 (K, J, I) and its header; a mask's 0 and 255 become 0 and 1.

    Raises:
        DataError: as `nifti.read_label_map`, or as `pictures.read_mask`; slices that differ in size.
    """
    if not is_picture(path):
        return nifti.read_label_map(path)
    masks = _read_all(path, read_mask)
    label_map: NDArray[np.uint8] = np.stack(masks)
    return label_map, picture_header(label_map.shape, np.uint8)


def count_colored(images: Mapping[str, ImageFile]) -> int:
    """Return how many of a case's pictures are in colours though grey is due, which are made grey (ITU-R 601).

    Raises:
        DataError: a picture cannot be read.
    """
    paths = {image.path for image in images.values() if image.channel is None and is_picture(image.path)}
    return sum(has_color(file) for path in paths for file in files_of(path))


def count_lossy(label: Path) -> tuple[int, int]:
    """Return how many masks of a case are JPEGs, and how many of their values are neither 0 nor 255.

    Raises:
        DataError: a mask cannot be read.
    """
    files = files_of(label) if is_lossy(label) else []
    return len(files), sum(map(count_in_between, files))


def picture_header(shape: Sequence[int], dtype: Any) -> Header:
    """Return the header that pictures of a shape (K, J, I) have: 1 mm from the origin."""
    k, j, i = shape
    raw = header_for((k, j, i), (1.0, 1.0, 1.0), np.diag([-1.0, -1.0, 1.0, 1.0]), _nifti_type(np.dtype(dtype)))
    return header_from_bytes(raw)


def _nifti_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def _read_channels(path: Path, num_channels: int) -> NDArray[Any]:
    """Return (C, K, J, I)."""
    return np.stack(_read_all(path, lambda file: read_picture(file, num_channels=num_channels)), axis=1)


def _read_all(path: Path, read: Callable[[Path], NDArray[Any]]) -> list[NDArray[Any]]:
    files = _some_files(path)
    pictures = [read(file) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            found, expected = sizes_in_words(picture.shape[-2:]), sizes_in_words(pictures[0].shape[-2:])
            raise DataError(f"{file}: {found} pixels (rows x columns), but {files[0].name} has {expected}")
    return pictures


def _some_files(path: Path) -> list[Path]:
    files = files_of(path)
    if not files:
        raise DataError(f"{path}: no such slices")
    return files


def _slice_files(path: Path) -> dict[int, Path]:
    """Return slice number -> file, ascending."""
    before, _, behind = path.name.partition(_STAR)
    pattern = re.compile(rf"{re.escape(before)}(\d+){re.escape(behind)}", re.IGNORECASE)
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be listed ({error.strerror}); change its permissions") from error
    found: dict[int, Path] = {}
    for name in sorted(names):
        if match := pattern.fullmatch(name):
            number = int(match.group(1))
            if number in found:
                raise DataError(f"{path.parent}: {found[number].name} and {name} are both slice {number}; keep one")
            found[number] = path.parent / name
    return dict(sorted(found.items()))
