"""The one resampling of a sample: image, label map and the masks of the brain at new places, in one pass.

The image is interpolated linearly, with 0 outside the case. The label map and each modality's brain (where its voxels
are not exactly 0) are taken from the nearest voxel, packed into one number: what was background stays exactly 0, what
was brain stays brain. At the brain's rim the interpolated values lean towards 0, the brain's mean.

On a GPU `grid_sample` does it. On a CPU that takes three times as long as gathering the corners of those voxels that
lie in the brain, which is what is done there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["resample"]

_CHUNK_VOXELS = 65536
"""Voxels that are interpolated together on a CPU: few enough for its cache."""


def resample(
    image: Tensor, label_map: Tensor, is_brain: Tensor, places: Sequence[Tensor], slice_axis: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return image (modality, *patch), label map (*patch) uint8 and brain (modality, *patch) at new places.

    The volumes end with a layer of background where the case ends (`source_box`): places beyond it are background.
    The brain comes as int32, as `brain_bits` gives it.

    Args:
        image: (modality, K, J, I) float32, 0 in the background.
        label_map: (K, J, I) uint8, below 16.
        is_brain: (modality, K, J, I) bool.
        places: K, J and I of each voxel of the patch, three planes (*patch) float32, in voxels of `image`.
        slice_axis: of K, J, I (0, 1, 2), along which places are whole numbers; None = along none.
    """
    packed = _packed(label_map, is_brain)
    result, nearest = (_gather if image.device.type == "cpu" else _sample)(image, packed, places, slice_axis)
    new_brain = torch.stack(
        [((nearest >> (4 + modality)) & 1).to(torch.int32) for modality in range(len(image))]
    ).neg_()
    result.view(torch.int32).bitwise_and_(new_brain)
    return result, (nearest & 15).to(torch.uint8), new_brain


def _packed(label_map: Tensor, is_brain: Tensor) -> Tensor:
    """Return one number a voxel: the label in the four lowest bits, then a bit a modality, set in its brain."""
    dtype = torch.uint8 if len(is_brain) <= 4 else torch.int32
    packed = label_map.to(dtype, copy=True)
    for modality, of_modality in enumerate(is_brain):
        packed |= of_modality.to(dtype).mul_(16 << modality)
    return packed


def _sample(image: Tensor, packed: Tensor, places: Sequence[Tensor], slice_axis: int | None) -> tuple[Tensor, Tensor]:
    """Return the interpolated image and the nearest packed numbers, by `grid_sample` along all axes."""
    size = packed.shape
    shares = [(place + 0.5) * (2 / edge) - 1 for place, edge in zip(places, size, strict=True)]
    grid = torch.stack(shares[::-1], dim=-1)[None]
    result = grid_sample(image[None], grid, "bilinear", "zeros", align_corners=False)[0]
    nearest = grid_sample(packed[None, None].float(), grid, "nearest", "zeros", align_corners=False)[0, 0]
    return result, nearest.to(packed.dtype)


def _gather(image: Tensor, packed: Tensor, places: Sequence[Tensor], slice_axis: int | None) -> tuple[Tensor, Tensor]:
    """Return the same as `_sample`, the image where a nearest voxel is brain, and 0 elsewhere."""
    strides = packed.stride()
    index = torch.zeros((), dtype=torch.int32)
    for place, edge, stride in zip(places, packed.shape, strides, strict=True):
        index = index + place.round().clamp_(0, edge - 1).to(torch.int32) * stride
    nearest = packed.flatten().index_select(0, index.flatten())
    volumes = image.flatten(1)
    result = torch.zeros((len(image), nearest.numel()))
    planes = [place.flatten() for place in places]
    corners = list(itertools.product(*((0,) if axis == slice_axis else (0, 1) for axis in range(3))))
    for voxels in torch.split(torch.nonzero(nearest > 15).flatten(), _CHUNK_VOXELS):
        values = _interpolated(volumes, [plane.index_select(0, voxels) for plane in planes], strides, corners)
        for modality, of_modality in enumerate(values):
            result[modality].index_copy_(0, voxels, of_modality)
    shape = places[0].shape
    return result.reshape(len(image), *shape), nearest.reshape(shape)


def _interpolated(
    volumes: Tensor, points: Sequence[Tensor], strides: Sequence[int], corners: Sequence[tuple[int, ...]]
) -> Tensor:
    """Return (modality, N): volumes (modality, voxels) between the voxels at the corners around each of N points."""
    lows = [point.floor() for point in points]
    shares = [(1 - (point - low), point - low) for point, low in zip(points, lows, strict=True)]
    first = torch.zeros((), dtype=torch.int32)
    for low, stride in zip(lows, strides, strict=True):
        first = first + low.to(torch.int32) * stride
    values = torch.zeros((len(volumes), len(points[0])))
    for corner in corners:
        weight = shares[0][corner[0]] * shares[1][corner[1]] * shares[2][corner[2]]
        start = sum(step * stride for step, stride in zip(corner, strides, strict=True))
        for modality, volume in enumerate(volumes):
            values[modality].addcmul_(volume[start:].index_select(0, first), weight)
    return values
