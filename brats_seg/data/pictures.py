"""Picture files (PNG, JPEG, TIFF, NPY) as arrays: images in their own numbers, masks as 0 and 1.

Axes: (J, I), row 0 on top, which is the order of the file; (C, J, I) where a picture has three channels. Pillow reads
all but TIFF of 16 bits a channel, of which it keeps eight; those SimpleITK reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PICTURE_SUFFIXES", "count_in_between", "has_color", "is_lossy", "picture_size", "read_mask", "read_picture"]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy"})
"""Lower-case ends of the names of picture files."""

_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Shares of red, green, blue in grey: ITU-R 601, what Pillow and OpenCV use."""

_BITS_A_CHANNEL, _CHANNELS = 258, 277
"""TIFF tags."""


def read_picture(path: Path, *, num_channels: int) -> NDArray[Any]:
    """Return a picture as (C, J, I), in its own numbers and type.

    Args:
        path: the file; a grey one, or one with red, green and blue, with or without an alpha channel, which is dropped.
        num_channels: 1 makes grey of colours (ITU-R 601; exactly the channel where all three are equal); 3 needs three.

    Raises:
        DataError: the file cannot be read, has several pages, or has not that many channels.
    """
    values = _channels_first(_values_of(path), path)
    if len(values) == num_channels:
        return values
    if num_channels == 1:
        return _grey(values)[None]
    raise DataError(f"{path}: {_in_words(len(values))}, expected {num_channels} channels; is it of another set?")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Return a mask as (J, I) uint8 of 0 and 1.

    A file holds 0 and 1, or 0 and 255 (65535 in 16 bits). Of a JPEG, whose compression blurs edges, values of 128 and
    more are 1.

    Raises:
        DataError: as `read_picture`; or other values, which are named.
    """
    grey = _grey_mask(path)
    if is_lossy(path):
        highest = int(grey.max(initial=0))
        if 0 < highest < 128:
            raise DataError(f"{path}: JPEG mask with values of 0 to {highest}, expected 0 and 255; save it as PNG")
        mask: NDArray[np.uint8] = (grey >= 128).astype(np.uint8)
        return mask
    found = np.unique(grey)
    others = found[found != 0]
    if others.size > 1 or (others.size and others[0] not in (1, 255, 65535)):
        some = ", ".join(f"{value:g}" for value in found[:6]) + (" ..." if found.size > 6 else "")
        raise DataError(f"{path}: mask with values {some}; expected 0 and 255 (or 0 and 1): is it an image?")
    mask = (grey != 0).astype(np.uint8)
    return mask


def count_in_between(path: Path) -> int:
    """Return how many pixels of a lossy mask are neither 0 nor 255.

    Raises:
        DataError: as `read_picture`.
    """
    grey = _grey_mask(path)
    return int(np.count_nonzero((grey != 0) & (grey != 255)))


def is_lossy(path: Path) -> bool:
    """Return whether a file's name says that its compression changes values (JPEG)."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def has_color(path: Path) -> bool:
    """Return whether a picture has three channels (or a palette), from its first bytes.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() == ".npy":
        return len(_channels_first(_load_array(path), path)) == 3
    with _opened(path) as picture:
        return picture.mode not in ("1", "L", "LA", "F") and not picture.mode.startswith("I")


def picture_size(path: Path) -> tuple[int, int]:
    """Return (J, I), from the file's first bytes.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() == ".npy":
        j, i = _channels_first(_load_array(path), path).shape[1:]
        return j, i
    with _opened(path) as picture:
        return picture.height, picture.width


def _grey_mask(path: Path) -> NDArray[Any]:
    values = _channels_first(_values_of(path), path)
    return _grey(values)


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    """Return (J, I) of three channels: the channel itself where all are equal, else their luminance, rounded."""
    if (values == values[:1]).all():
        channel: NDArray[Any] = values[0]
        return channel
    mixed = np.tensordot(_LUMINANCE, values.astype(np.float64), axes=1)
    return mixed.astype(values.dtype) if values.dtype.kind == "f" else np.rint(mixed).astype(values.dtype)


def _channels_first(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return (1, J, I) or (3, J, I) of (J, I), (J, I, 1), (J, I, 2), (J, I, 3) or (J, I, 4)."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path}: values of type {values.dtype}, expected numbers")
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or values.shape[2] > 4:
        shape = " x ".join(map(str, values.shape))
        raise DataError(f"{path}: an array of {shape}, expected one picture: rows x columns, or rows x columns x 3")
    num_colors = 1 if values.shape[2] < 3 else 3  # what is more is alpha
    return np.ascontiguousarray(np.moveaxis(values[..., :num_colors], 2, 0))


def _values_of(path: Path) -> NDArray[Any]:
    """Return the array of a file: (J, I) or (J, I, channel)."""
    if path.suffix.lower() == ".npy":
        return _load_array(path)
    with _opened(path) as picture:
        if (num_pages := int(getattr(picture, "n_frames", 1))) > 1:
            raise DataError(f"{path}: {num_pages} pages in one file, expected one; save each as a file of its own")
        if _has_deep_colors(picture):
            return _read_deep_colors(path)
        if picture.mode == "1":
            return np.asarray(picture.convert("L"))
        if picture.mode == "CMYK" or picture.mode.startswith("P"):
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yield an opened picture; whatever reading it raises becomes a DataError that names the file."""
    from PIL import Image  # noqa: PLC0415 (a node that trains from a store has no pictures to read)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except DataError:
        raise
    except Image.DecompressionBombWarning as error:
        raise DataError(f"{path}: {error}; no slice is so large") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace(str(path), "it") or type(error).__name__
        raise DataError(f"{path}: cannot be read as a picture ({reason})") from error


def _load_array(path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error})") from error
    return values


def _has_deep_colors(picture: Image.Image) -> bool:
    tags = getattr(picture, "tag_v2", {})
    return int(tags.get(_CHANNELS, 1)) >= 3 and max(tags.get(_BITS_A_CHANNEL, (8,))) > 8


def _read_deep_colors(path: Path) -> NDArray[Any]:
    import SimpleITK  # noqa: PLC0415 (half a second, and few sets have such files)

    try:
        values: NDArray[Any] = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as error:
        raise DataError(f"{path}: a TIFF of more than 8 bits a channel that cannot be read; save it as .npy") from error
    return values.reshape(values.shape[-3:])


def _in_words(num_channels: int) -> str:
    return "a grey picture" if num_channels == 1 else f"{num_channels} channels"
