"""Which patch of which case: a pure function of (seed, step, sample).

Philox is a counter-based generator: the numbers of one sample are found without drawing those before it. So the
stream of patches does not depend on workers, prefetching or a restart. Drawing comes first; only the voxels drawn are
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brats_seg.config import SamplingConfig
from brats_seg.errors import ConfigError, did_you_mean
from brats_seg.networks.slices import slice_axis

if TYPE_CHECKING:
    from brats_seg.preprocessing.store import StoredCase

__all__ = ["INTENSITY_STREAM", "SPATIAL_STREAM", "CasePool", "PatchPlace", "generator"]

_CASE_ORDER, _PLACE, SPATIAL_STREAM, INTENSITY_STREAM = range(4)
"""Streams: each use of randomness has its own, so that a new use changes no old one."""

Shape = tuple[int, int, int]


def generator(seed: int, stream: int, step: int, sample: int) -> np.random.Generator:
    """Return the random generator of one sample of one step for one use of randomness."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, sample, step]))


@dataclass(frozen=True)
class PatchPlace:
    """A patch before it is read: the case and the start (K, J, I) in its crop, below 0 where the crop is smaller."""

    case: int
    start: Shape


class CasePool:
    """The training cases, with the voxels of their regions, from which patches are drawn."""

    def __init__(
        self, cases: Sequence[StoredCase], regions: Sequence[str], patch: Shape, config: SamplingConfig
    ) -> None:
        self.cases = tuple(cases)
        self.patch = patch
        self.config = config
        self._weights = _weights(config, regions)
        self._voxels = [_by_region(case.foreground(), len(regions)) for case in cases]
        self.shapes: list[Shape] = [_three(case.image().shape[1:]) for case in cases]

    @property
    def epoch_patches(self) -> int:
        """Patches that an epoch is worth: one a case; where patches are slices, one a slice of each case's crop."""
        axis = slice_axis(self.patch)
        return len(self.cases) if axis is None else sum(shape[axis] for shape in self.shapes)

    def place(self, seed: int, step: int, sample: int, batch: int) -> PatchPlace:
        """Return the patch of a sample (0 ... batch - 1) of a step (from 1)."""
        position = (step - 1) * batch + sample
        lap, turn = divmod(position, len(self.cases))
        case = int(generator(seed, _CASE_ORDER, lap, 0).permutation(len(self.cases))[turn])
        random = generator(seed, _PLACE, step, sample)
        centre = self._foreground_centre(case, random) if random.random() < self.config.foreground else None
        start = [
            self._start(size, edge, None if centre is None else centre[axis], random)
            for axis, (size, edge) in enumerate(zip(self.shapes[case], self.patch, strict=True))
        ]
        return PatchPlace(case, (start[0], start[1], start[2]))

    def _foreground_centre(self, case: int, random: np.random.Generator) -> NDArray[np.int32] | None:
        """Return a voxel of a random present region, or None in a case without tumour."""
        voxels = self._voxels[case]
        weights = self._weights * [len(v) > 0 for v in voxels]
        if weights.sum() == 0:
            return None
        of_region: NDArray[np.int32] = voxels[int(random.choice(len(voxels), p=weights / weights.sum()))]
        voxel: NDArray[np.int32] = of_region[int(random.integers(len(of_region)))]
        return voxel

    def _start(self, size: int, edge: int, centre: int | None, random: np.random.Generator) -> int:
        if size <= edge:
            return -((edge - size) // 2)
        if centre is None:
            return int(random.integers(size - edge + 1))
        reach = int(self.config.jitter * edge)
        start = int(centre) - edge // 2 + int(random.integers(-reach, reach + 1))
        return min(max(start, 0), size - edge)


def _weights(config: SamplingConfig, regions: Sequence[str]) -> NDArray[np.float64]:
    """Return the weight of each region of the store.

    Raises:
        ConfigError: a weight of a region that the store does not have, or a negative one.
    """
    for region, weight in config.region_weights.items():
        key = f"train.sampling.region_weights.{region}"
        if region not in regions:
            raise ConfigError(f"{key}: the store has no such region{did_you_mean(region, regions)}")
        if not weight >= 0:
            raise ConfigError(f"{key}={weight}: expected at least 0")
    return np.array([config.region_weights.get(region, 1.0) for region in regions])


def _by_region(foreground: NDArray[np.int32], num_regions: int) -> list[NDArray[np.int32]]:
    return [np.ascontiguousarray(foreground[foreground[:, 0] == region, 1:]) for region in range(num_regions)]


def _three(values: Sequence[int]) -> Shape:
    k, j, i = values
    return k, j, i
