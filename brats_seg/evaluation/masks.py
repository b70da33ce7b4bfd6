"""A region's two masks, and the distances between their surfaces: computed once, when first asked for, and shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from brats_seg.evaluation.overlap import Counts
from brats_seg.evaluation.surface import Spacing, SurfaceDistances, surface_distances
from brats_seg.evaluation.surfels import SurfelDistances, hd95_by_area, surfel_distances

__all__ = ["MaskPair"]

_VOXEL: Spacing = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class MaskPair:
    """Reference and prediction of one region, bool (K, J, I) of one shape, which may be a crop that holds all of both.

    `counts` are those of the whole grid; `spacing_mm` is the voxel size along (K, J, I).
    """

    reference: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    counts: Counts
    spacing_mm: Spacing

    @classmethod
    def of_crop(
        cls,
        reference: NDArray[np.bool_],
        prediction: NDArray[np.bool_],
        spacing_mm: Spacing,
        *,
        num_outside: int = 0,
    ) -> MaskPair:
        """Return the pair of two masks cropped from a grid that has `num_outside` more voxels, in neither mask."""
        tp = int(np.count_nonzero(reference & prediction))
        fp, fn = int(np.count_nonzero(prediction)) - tp, int(np.count_nonzero(reference)) - tp
        counts = Counts(tp, fp, fn, reference.size + num_outside - tp - fp - fn)
        return cls(reference, prediction, counts, spacing_mm)

    def with_prediction(self, prediction: NDArray[np.bool_]) -> MaskPair:
        """Return the pair of the same reference with another prediction, counted anew."""
        num_outside = sum((self.counts.tp, self.counts.fp, self.counts.fn, self.counts.tn)) - self.reference.size
        return self.of_crop(self.reference, prediction, self.spacing_mm, num_outside=num_outside)

    @cached_property
    def borders_mm(self) -> SurfaceDistances:
        """Distances between border voxels, in mm."""
        return surface_distances(self.reference, self.prediction, self.spacing_mm)

    @cached_property
    def borders_voxels(self) -> SurfaceDistances:
        """Distances between border voxels, in voxels whatever their size."""
        if self.spacing_mm == _VOXEL:
            return self.borders_mm
        return replace(self, spacing_mm=_VOXEL).borders_mm

    @cached_property
    def surfels(self) -> SurfelDistances:
        """Distances between surface points with their areas, in mm."""
        return surfel_distances(self.reference, self.prediction, self.spacing_mm)

    @cached_property
    def hd95_by_area_mm(self) -> float:
        """HD95 by area (definition B); inf where a mask is empty."""
        return hd95_by_area(self.surfels)
