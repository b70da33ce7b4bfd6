"""From probabilities to region masks: named steps, off by default, in a fixed order.

1. `threshold`: a voxel belongs to a region from this probability on.
2. Hierarchy, always: a voxel of an inner region belongs to those around it, too (ET in TC in WT).
3. `fill_holes`: innermost region first; what is filled belongs to the regions around it, too.
4. `min_component_voxels`: outermost region first; what lies in a component goes with it. So specks of oedema take their
   core along, and a core that is dropped stays oedema.
5. `min_et_voxels`: ET of fewer voxels in the whole case is taken for NCR (Isensee et al., nnU-Net for BraTS 2020).

Only filling adds voxels. Applied twice, the steps give what they give once. Regions come in channel order, outermost
last, and are told by name. Validation and `predict` go through the same function.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brats_seg.config import InferenceConfig, PostprocessingConfig
from brats_seg.errors import ConfigError, all_findings, did_you_mean

__all__ = ["check_postprocessing", "clean_masks", "region_masks", "scaled_to_voxels", "thresholded"]

Masks = NDArray[np.bool_]
"""(region, K, J, I) bool."""

_ET = "ET"


def check_postprocessing(settings: PostprocessingConfig, regions: Sequence[str]) -> None:
    """Refuse settings of regions that a model does not have.

    Raises:
        ConfigError: names each of them, and the nearest that there is.
    """
    findings = [
        f"inference.postprocessing.{step}.{region}: the model has no such region{did_you_mean(region, regions)}"
        for step, named in settings
        if isinstance(named, dict)
        for region in named
        if region not in regions
    ]
    if settings.min_et_voxels and _ET not in regions:
        findings.append(
            f"inference.postprocessing.min_et_voxels={settings.min_et_voxels}: "
            f"the model has no region ET (known: {', '.join(regions)}); leave it at 0"
        )
    if findings:
        raise ConfigError(all_findings("inference.postprocessing", findings))


def scaled_to_voxels(inference: InferenceConfig, voxels_per_model_voxel: float) -> InferenceConfig:
    """Return the settings for an image of other voxels: sizes that are counted in the model's keep their volume."""
    if voxels_per_model_voxel == 1:
        return inference
    own = inference.postprocessing
    components = {r: round(n * voxels_per_model_voxel) for r, n in own.min_component_voxels.items()}
    et = round(own.min_et_voxels * voxels_per_model_voxel)
    steps = own.model_copy(update={"min_component_voxels": components, "min_et_voxels": et})
    return inference.model_copy(update={"postprocessing": steps})


def region_masks(probabilities: NDArray[np.floating], regions: Sequence[str], inference: InferenceConfig) -> Masks:
    """Return the region masks (region, K, J, I) of probabilities of the same shape, 0-1, after all steps.

    Args:
        probabilities: of each region, float; not changed.
        regions: their names, outermost last.
        inference: its `threshold` and `postprocessing`.
    """
    return clean_masks(thresholded(probabilities, regions, inference), regions, inference.postprocessing)


def thresholded(probabilities: NDArray[np.floating], regions: Sequence[str], inference: InferenceConfig) -> Masks:
    """Return the voxels (region, K, J, I) that each region's own threshold lets in, before any other step."""
    own = inference.postprocessing.threshold
    thresholds = [own.get(region, inference.threshold) for region in regions]
    return np.stack([values >= limit for values, limit in zip(probabilities, thresholds, strict=True)])


def clean_masks(masks: Masks, regions: Sequence[str], settings: PostprocessingConfig) -> Masks:
    """Return region masks (region, K, J, I) after the steps that follow the threshold, as a new array."""
    nested = masks.copy()
    for inner, outer in itertools.pairwise(nested):
        outer |= inner
    for index, region in enumerate(regions):
        if settings.fill_holes.get(region):
            nested[index:] |= _holes(nested[index])
    for index in reversed(range(len(regions))):
        smallest = settings.min_component_voxels.get(regions[index], 0)
        if smallest > 1:
            nested[: index + 1] &= ~_small_components(nested[index], smallest)
    if settings.min_et_voxels and _ET in regions:
        et = nested[regions.index(_ET)]
        if np.count_nonzero(et) < settings.min_et_voxels:
            et[:] = False
    return nested


def _holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels outside a mask (K, J, I) from which no path over voxels' faces leads to the volume's rim."""
    import cc3d  # noqa: PLC0415 (training without these steps does not need it)

    holes = np.zeros_like(mask)
    box = _box(mask)
    outside = np.pad(~mask[box], 1, constant_values=True)
    parts = cc3d.connected_components(outside, connectivity=6)
    holes[box] = (outside & (parts != parts[0, 0, 0]))[1:-1, 1:-1, 1:-1]
    return holes


def _small_components(mask: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """Return the voxels of a mask's (K, J, I) 26-connected components of fewer than `smallest` voxels."""
    import cc3d  # noqa: PLC0415

    small = np.zeros_like(mask)
    box = _box(mask)
    # cc3d 4.1.1 fails on arrays of a single row or so, so there is background around.
    parts = cc3d.connected_components(np.pad(mask[box], 1), connectivity=26)
    is_small = np.bincount(parts.ravel()) < smallest
    is_small[0] = False
    small[box] = is_small[parts][1:-1, 1:-1, 1:-1]
    return small


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box with all voxels of a mask; an empty mask's holds one voxel."""
    return tuple(_extent(np.asarray(mask.any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))


def _extent(is_used: NDArray[np.bool_]) -> slice:
    used = np.flatnonzero(is_used)
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
