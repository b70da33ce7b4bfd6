"""What preparing computes on a case's volumes: checks, the brain's box, the type kept, moments, voxels of regions.

Arrays in, arrays out; (modality, K, J, I) in file order. `transforms.py` makes MONAI transforms of these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import Edition
from brats_seg.errors import DataError
from brats_seg.preprocessing.store import FOREGROUND_LIMIT

__all__ = ["Box", "as_stored", "brain_box", "foreground_voxels", "intensity_statistics", "require_finite"]

Box = tuple[slice, slice, slice]
"""Slices along (K, J, I)."""

_CHUNK = 1 << 15
"""Voxels at a time, so that their float64 copies stay in the processor's cache."""


def require_finite(image: NDArray[Any], modalities: Sequence[str]) -> None:
    """Refuse NaN and infinite voxels of (modality, K, J, I).

    Raises:
        DataError: names the modality, their number and the first place.
    """
    if image.dtype.kind != "f":
        return
    for modality, volume in zip(modalities, image, strict=False):
        if num := int(volume.size - np.isfinite(volume).sum()):
            place = tuple(int(n) for n in np.argwhere(~np.isfinite(volume))[0])
            raise DataError(f"{modality}: {num:,} voxels are NaN or infinite, the first at (k, j, i) = {place}")


def brain_box(image: NDArray[Any]) -> Box:
    """Return the smallest box (K, J, I) outside of which every modality of (modality, K, J, I) is 0.

    To be asked of raw data: after z-scoring, 0 is no longer background, and a box of `> 0` loses brain.

    Raises:
        DataError: all modalities are 0 everywhere.
    """
    num = image.shape[1]
    first = next((k for k in range(num) if image[:, k].any()), None)
    if first is None:
        raise DataError("all modalities are 0 everywhere: there is no brain to crop to")
    last = next(k for k in reversed(range(num)) if image[:, k].any())
    slab = image[:, first : last + 1]
    # One pass at the speed of memory: integers that are OR-ed are 0 only where all of them are (-0.0 has a bit set).
    plane = np.bitwise_or.reduce(slab, axis=(0, 1)) if image.dtype.kind in "iu" else (slab != 0).any(axis=(0, 1))
    return slice(first, last + 1), _extent(plane.any(axis=1)), _extent(plane.any(axis=0))


def _extent(is_used: NDArray[np.bool_]) -> slice:
    used = np.flatnonzero(is_used)
    return slice(int(used[0]), int(used[-1]) + 1)


def as_stored(image: NDArray[Any]) -> NDArray[Any]:
    """Return the image as int16 if that holds every value exactly, else as float32."""
    if image.dtype == np.int16:
        return image
    low, high = image.min(), image.max()
    if low >= -(2**15) and high < 2**15:
        as_int16 = image.astype(np.int16)
        if image.dtype.kind in "iu" or np.array_equal(as_int16, image):
            return as_int16
    return image.astype(np.float32)


def intensity_statistics(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and population sd of each modality of (modality, K, J, I) over its own nonzero voxels, in float64.

    These are the numbers of MONAI's `NormalizeIntensityd(nonzero=True, channel_wise=True)`: an empty modality has mean
    0 and sd 1, a constant one sd 1. The sums of 8- and 16-bit integers are exact, whatever the number of voxels.
    """
    moments = _moments_of_integers if image.dtype.kind in "iu" and image.dtype.itemsize <= 2 else _moments_of_floats
    mean, sd = np.array([moments(volume) for volume in image], np.float64).T
    return mean, np.where(sd > 0, sd, 1.0)


def _moments_of_integers(volume: NDArray[Any]) -> tuple[float, float]:
    """Sums of x and of its square pass over zeros by themselves; a chunk's are exact in float64, all of them in int.

    No scalar product: BLAS would share each chunk between threads, which wait for one another where cores are busy.
    """
    values = volume.reshape(-1)
    num, total, squares = int(np.count_nonzero(values)), 0, 0
    for start in range(0, values.size, _CHUNK):
        chunk = values[start : start + _CHUNK].astype(np.float64)
        total += int(chunk.sum())
        squares += int(np.square(chunk, out=chunk).sum())
    if num == 0:
        return 0.0, 0.0
    return total / num, float(np.sqrt((num * squares - total * total) / (num * num)))


def _moments_of_floats(volume: NDArray[Any]) -> tuple[float, float]:
    values = volume[volume != 0].astype(np.float64)
    return (float(values.mean()), float(values.std())) if values.size else (0.0, 0.0)


def foreground_voxels(
    label_map: NDArray[np.uint8], edition: Edition, case: str, limit: int = FOREGROUND_LIMIT
) -> NDArray[np.int32]:
    """Return up to `limit` voxels of each region, (N, 4) int32: region index, k, j, i; ascending.

    Of a larger region one voxel is drawn from each of `limit` equal stretches of its voxels in file order, so that the
    choice is even over the region; the draw depends on the case's name alone.
    """
    inside = np.flatnonzero(label_map != 0)
    labels = label_map.reshape(-1)[inside]
    seed = int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "little")
    rows = []
    for region, is_label in enumerate(edition.region_table):
        voxels = inside[is_label[labels]]
        if len(voxels) > limit:
            edges = np.arange(limit + 1) * len(voxels) // limit
            voxels = voxels[np.random.default_rng([seed, region]).integers(edges[:-1], edges[1:])]
        rows.append(np.stack([np.full(len(voxels), region), *np.unravel_index(voxels, label_map.shape)], axis=1))
    return np.concatenate(rows).astype(np.int32)
