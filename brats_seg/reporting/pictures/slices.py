"""Pictures of one slice of a case with the outlines of reference and prediction, as arrays, while a network trains.

Needs no matplotlib, which a bare GPU node may lack; figures of cases are drawn by `montage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.editions import Edition
from brats_seg.reporting.pictures.overlay import LINE_COLORS
from brats_seg.reporting.planes import slice_with_most

__all__ = ["PREDICTION_COLOR", "REFERENCE_COLOR", "largest_slice", "outlined_slice"]

REFERENCE_COLOR, PREDICTION_COLOR = (
    tuple(round(255 * part) for part in LINE_COLORS[what]) for what in ("reference", "prediction")
)
"""Those of all pictures, as 0-255: blue and orange."""

_SHOWN = ("t1c", "flair")
_EDGE = 320
"""Pixels that the longer edge of a panel has at least, where whole voxels allow it."""
_WIDTH = 2
"""Pixels of an outline's width."""
_DASH = 6
"""Pixels of a dash of the prediction's outline, and of the gap behind it."""
_GAP = 6
"""Pixels of black between panels."""
_BRIGHTEST = 99.5
"""Percentile of the slice's nonzero voxels that is shown white."""


def largest_slice(label_map: NDArray[np.uint8]) -> int:
    """Return the index along K of the slice with the most tumour in a label map (K, J, I); the middle if none has."""
    found = slice_with_most(np.asarray(label_map) > 0, "axial")
    return len(label_map) // 2 if found is None else found


def outlined_slice(
    image: NDArray[Any],
    modalities: Sequence[str],
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    edition: Edition,
) -> NDArray[np.uint8]:
    """Return the slice with the largest reference tumour as a picture, (rows, columns, 3) of 0-255.

    A row of panels for each region, outermost first; beside each other T1c and FLAIR (or the first modality, where
    the set has neither). The reference's outline is a solid blue line just outside its mask, the prediction's a dashed
    orange one just inside, so that both are seen where they agree. Rows are J, columns I, in file order.

    Args:
        image: (modality, K, J, I), the source's own values, 0 outside the brain.
        modalities: of the image's channels.
        reference: label map (K, J, I).
        prediction: label map of the same shape.
        edition: of both label maps.
    """
    k = largest_slice(reference)
    scale = max(1, round(_EDGE / max(reference.shape[1:])))
    shown = [modalities.index(name) for name in _SHOWN if name in modalities] or [0]
    grey = [_enlarged(_grey(np.asarray(image[channel, k])), scale) for channel in shown]
    slices = (np.ascontiguousarray(label_map[k]) for label_map in (reference, prediction))
    own, predicted = (edition.regions_from_label_map(one) for one in slices)
    rows = []
    for region in reversed(range(len(own))):
        masks = (_enlarged(own[region], scale), _enlarged(predicted[region], scale))
        rows.append(_beside([_outlined(panel, *masks) for panel in grey], axis=1))
    return _beside(rows, axis=0)


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a slice as 0-255, from its least value to the brightest but outliers."""
    inside = values[values != 0]
    if not inside.size:
        return np.zeros(values.shape, np.uint8)
    low, high = min(0.0, float(inside.min())), float(np.percentile(inside, _BRIGHTEST))
    shares = (values.astype(np.float32) - low) / max(high - low, 1e-6)
    levels: NDArray[np.uint8] = (shares.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _enlarged(pixels: NDArray[Any], scale: int) -> NDArray[Any]:
    return pixels.repeat(scale, 0).repeat(scale, 1)


def _outlined(
    grey: NDArray[np.uint8], reference: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[ndimage.binary_dilation(reference, iterations=_WIDTH) & ~reference] = REFERENCE_COLOR
    inner = prediction & ~ndimage.binary_erosion(prediction, iterations=_WIDTH)
    row, column = np.indices(inner.shape)
    picture[inner & ((row + column) // _DASH % 2 == 0)] = PREDICTION_COLOR
    return picture


def _beside(panels: Sequence[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Return panels along an axis with black between them."""
    shape = list(panels[0].shape)
    shape[axis] = _GAP
    gap = np.zeros(shape, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=axis)
