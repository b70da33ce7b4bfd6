"""A case on its way into the network and its probabilities on their way back: space, doubts, the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case
from brats_seg.inference.likeness import Reference
from brats_seg.preprocessing.placing import prepare_in_space
from brats_seg.preprocessing.prepare import PreparedCase

__all__ = ["on_image_grid", "read_case", "with_warnings"]


def read_case(case: Case, reference: Reference | None, *, allow_missing: bool = False) -> PreparedCase:
    """Return a case's arrays in a model's space, with what makes a prediction of it doubtful.

    Args:
        case: where the files lie; only read.
        reference: of the model's training cases; None = unknown: the case is taken as it lies.
        allow_missing: modalities may be missing, but not all.

    Raises:
        DataError: as `prepare_in_space`.
    """
    space = None if reference is None else reference.space
    return with_warnings(prepare_in_space(case, space, allow_missing=allow_missing), reference)


def with_warnings(case: PreparedCase, reference: Reference | None) -> PreparedCase:
    """Return a prepared case with what else makes a prediction of it doubtful; no more if the reference is unknown."""
    return case if reference is None else replace(case, warnings=(*case.warnings, *reference.warnings(case)))


def on_image_grid(
    case: PreparedCase, probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Sequence[int], Sequence[int]]:
    """Return probabilities (region, K, J, I) of a case's crop on a part of its image's grid.

    Returns:
        The probabilities; where that part begins in the image (K, J, I); the shape of the image. Those of a case that
        lies in the model's space are returned as they are.
    """
    if case.placement is None:
        return probabilities, case.crop_start, case.shape
    return case.placement.to_image(probabilities, case.crop_start), case.placement.start, case.placement.image_shape
