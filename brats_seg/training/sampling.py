"""Which patch of which case: a pure function of (seed, step, sample).

Philox is a counter-based generator: the numbers of one sample are found without drawing those before it. So the
stream of patches does not depend on workers, prefetching or a restart. Drawing comes first; only the voxels drawn are
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.config import SamplingConfig

if TYPE_CHECKING:
    from brats_seg.preprocessing.store import StoredCase

__all__ = ["Batch", "CasePool", "PatchPlace", "generator", "read_batch"]

_CASE_ORDER, _PLACE = 0, 1
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


@dataclass(frozen=True)
class Batch:
    """Raw patches as they come from the store, and what is needed to normalise them."""

    step: int
    image: NDArray[Any]
    """(B, modality, K, J, I), int16, or float32 if any case's store is."""
    label_map: NDArray[np.uint8]
    """(B, K, J, I), in each case's own edition."""
    mean: NDArray[np.float32]
    """(B, modality)."""
    sd: NDArray[np.float32]
    """(B, modality)."""
    editions: tuple[str, ...]
    cases: tuple[str, ...]


class CasePool:
    """The training cases, with the voxels of their regions, from which patches are drawn."""

    def __init__(
        self, cases: Sequence[StoredCase], regions: Sequence[str], patch: Shape, config: SamplingConfig
    ) -> None:
        self.cases = tuple(cases)
        self.patch = patch
        self.config = config
        self._weights = np.array([config.region_weights.get(region, 1.0) for region in regions])
        self._voxels = [_by_region(case.foreground(), len(regions)) for case in cases]
        self._shapes = [case.image().shape[1:] for case in cases]

    def place(self, seed: int, step: int, sample: int, batch: int) -> PatchPlace:
        """Return the patch of a sample (0 ... batch - 1) of a step (from 1)."""
        position = (step - 1) * batch + sample
        lap, turn = divmod(position, len(self.cases))
        case = int(generator(seed, _CASE_ORDER, lap, 0).permutation(len(self.cases))[turn])
        random = generator(seed, _PLACE, step, sample)
        centre = self._foreground_centre(case, random) if random.random() < self.config.foreground else None
        start = [
            self._start(size, edge, None if centre is None else centre[axis], random)
            for axis, (size, edge) in enumerate(zip(self._shapes[case], self.patch, strict=True))
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


def read_batch(pool: CasePool, seed: int, step: int, batch: int) -> Batch:
    """Read the patches of a step from the memory-mapped store; what lies outside a crop is background."""
    places = [pool.place(seed, step, sample, batch) for sample in range(batch)]
    cases = [pool.cases[place.case] for place in places]
    images = [_read(case.image(), place.start, pool.patch) for case, place in zip(cases, places, strict=True)]
    label_maps = [
        _read(case.label_map()[None], place.start, pool.patch)[0] for case, place in zip(cases, places, strict=True)
    ]
    return Batch(
        step=step,
        image=np.stack(images),
        label_map=np.stack(label_maps),
        mean=np.array([case.mean for case in cases], np.float32),
        sd=np.array([case.sd for case in cases], np.float32),
        editions=tuple(case.edition for case in cases),
        cases=tuple(case.name for case in cases),
    )


def _read(volume: NDArray[Any], start: Shape, patch: Shape) -> NDArray[Any]:
    """Return volume[:, start:start+patch], zero where that lies outside."""
    low = [max(0, s) for s in start]
    high = [min(n, s + p) for s, p, n in zip(start, patch, volume.shape[1:], strict=True)]
    inside = volume[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    if inside.shape[1:] == patch:
        return np.ascontiguousarray(inside)
    padded = np.zeros((volume.shape[0], *patch), volume.dtype)
    k, j, i = (slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    padded[:, k, j, i] = inside
    return padded


def _by_region(foreground: NDArray[np.int32], num_regions: int) -> list[NDArray[np.int32]]:
    return [np.ascontiguousarray(foreground[foreground[:, 0] == region, 1:]) for region in range(num_regions)]
