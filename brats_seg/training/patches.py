"""The samples of a step: drawn first, then just the voxels they need are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.config import AugmentationConfig
from brats_seg.networks.slices import slice_axis, thickened
from brats_seg.training.intensity import IntensityDraw, draw_intensity
from brats_seg.training.sampling import INTENSITY_STREAM, SPATIAL_STREAM, CasePool, generator
from brats_seg.training.spatial import Shape, SpatialDraw, draw_spatial, source_box
from brats_seg.training.volumes import CaseVolumes

__all__ = ["PatchReader", "Sample"]

Flip = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Sample:
    """Raw voxels as they come from the store, and all that makes a patch of them."""

    case: str
    edition: str
    image: Tensor
    """(modality, K, J, I), int16 or float32 as in the store: the patch, mirrored, or the box to resample it from."""
    label_map: Tensor
    """(K, J, I) uint8, in the case's own edition."""
    moments: Tensor
    """(2, modality) float32: mean and standard deviation of the case's brain."""
    centre: NDArray[np.float64]
    """Of the patch (K, J, I), in voxels from the first voxel of `image`; may lie between voxels."""
    patch: Shape
    spatial: SpatialDraw
    intensity: IntensityDraw


class PatchReader:
    """Gives the samples of any step: a pure function of (seed, step, sample), whoever asks, and when.

    Args:
        pool: the cases and where patches lie in them.
        volumes: their voxels.
        augmentation: what is drawn.
        seed: of the run.
        neighbours: slices that come along on either side of a slice; beyond the case they are 0.
        is_pinned: whether tensors lie in pinned memory, from which a GPU copies without waiting.
    """

    def __init__(
        self,
        pool: CasePool,
        volumes: CaseVolumes,
        augmentation: AugmentationConfig,
        seed: int,
        *,
        neighbours: int = 0,
        is_pinned: bool,
    ) -> None:
        self.pool, self.volumes, self.augmentation, self.seed = pool, volumes, augmentation, seed
        self.is_pinned = is_pinned
        self._slice_axis = slice_axis(pool.patch)
        self._block = thickened(pool.patch, neighbours)

    def read(self, step: int, batch: int) -> list[Sample]:
        """Return all samples of a step (from 1)."""
        return [self.sample(step, number, batch) for number in range(batch)]

    def sample(self, step: int, number: int, batch: int) -> Sample:
        """Return one sample (0 ... batch - 1) of a step."""
        pool, block, axis = self.pool, self._block, self._slice_axis
        place = pool.place(self.seed, step, number, batch)
        case = pool.cases[place.case]
        spatial_random, intensity_random = (
            generator(self.seed, stream, step, number) for stream in (SPATIAL_STREAM, INTENSITY_STREAM)
        )
        spatial = draw_spatial(self.augmentation, block, spatial_random, axis)
        centre = np.array(place.start) + (np.array(pool.patch) - 1) / 2
        flip: Flip = (False, False, False)
        if spatial.is_resampled:
            start, end = source_box(spatial, centre, block, pool.shapes[place.case])
            size = (end[0] - start[0], end[1] - start[1], end[2] - start[2])
        else:
            k, j, i = (s - (b - p) // 2 for s, b, p in zip(place.start, block, pool.patch, strict=True))
            start, size, flip = (k, j, i), block, spatial.flip
        image, label_map = self.volumes.of_case(place.case)
        return Sample(
            case=case.name,
            edition=case.edition,
            image=self._cut(image, start, size, flip),
            label_map=self._cut(label_map[None], start, size, flip)[0],
            moments=self._pinned(torch.tensor([case.mean, case.sd], dtype=torch.float32)),
            centre=centre - start,
            patch=block,
            spatial=spatial,
            intensity=draw_intensity(self.augmentation, len(case.mean), intensity_random, axis),
        )

    def _cut(self, volume: Any, start: Shape, size: Shape, flip: Flip) -> Tensor:
        """Return a copy of volume[:, start:start+size], 0 where that lies outside, mirrored where `flip` says so."""
        low = [max(0, s) for s in start]
        high = [min(n, s + p) for s, p, n in zip(start, size, volume.shape[1:], strict=True)]
        inside = volume[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        k, j, i = (slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        make = torch.empty if tuple(inside.shape[1:]) == size else torch.zeros
        shape = (volume.shape[0], *size)
        if isinstance(volume, Tensor):
            cut = make(shape, dtype=volume.dtype, device=volume.device)
            cut[:, k, j, i] = inside
            return cut.flip([axis + 1 for axis in range(3) if flip[axis]]) if any(flip) else cut
        cut = make(shape, dtype=getattr(torch, volume.dtype.name), pin_memory=self.is_pinned)
        mirrored = cut.numpy()[:, *(slice(None, None, -1) if is_flipped else slice(None) for is_flipped in flip)]
        mirrored[:, k, j, i] = inside
        return cut

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.is_pinned else tensor
