"""Memory that ran out in prediction: which smaller setting fits, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from brats_seg.config import InferenceConfig
from brats_seg.errors import ConfigError, WorkError
from brats_seg.networks.build import check_patch, nearest_patch
from brats_seg.networks.compute import Compute
from brats_seg.networks.memory import is_out_of_memory, memory_of
from brats_seg.networks.weights import Description

__all__ = ["OutOfMemoryError", "explain_out_of_memory"]

Shape = tuple[int, int, int]
_SHARES = (3 / 4, 1 / 2, 3 / 8, 1 / 4)
"""Edges of windows that are tried, as shares of the one that did not fit."""


class OutOfMemoryError(WorkError):
    """Memory ran out; the message names a setting that fits, where there is one."""


def explain_out_of_memory(
    logits_of: Callable[[Tensor], Tensor],
    description: Description,
    inference: InferenceConfig,
    window: Shape,
    compute: Compute,
    text: str,
) -> OutOfMemoryError:
    """Return the error to raise after memory ran out.

    Args:
        logits_of: the network; windows of zeros go through it to see what fits.
        description: its channels and strides.
        inference: the settings that did not fit.
        window: (K, J, I) in voxels, that did not fit.
        compute: where.
        text: what the library said.
    """
    sizes = " x ".join(map(str, window))
    detail = " ".join(text.split())[:120]
    remedy = _setting_that_fits(logits_of, description, inference.batch, window, compute)
    return OutOfMemoryError(
        f"out of memory: {inference.batch} windows of {sizes}, {compute.precision}, on {compute.device} "
        f"({memory_of(compute)}); {remedy} ({detail})"
    )


def _setting_that_fits(
    logits_of: Callable[[Tensor], Tensor], description: Description, batch: int, window: Shape, compute: Compute
) -> str:
    for is_smaller, size, edge in _candidates(description, batch, window):
        if compute.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            zeros = torch.zeros((size, len(description.modalities), *edge), device=compute.device)
            with torch.inference_mode():
                logits_of(zeros)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return f"inference.window={list(edge)} fits" if is_smaller else f"inference.batch={size} fits"
    return "no smaller window fits either: free memory, or take another --device"


def _candidates(description: Description, batch: int, window: Shape) -> Iterator[tuple[bool, int, Shape]]:
    """Yield (whether the window is smaller, batch, window), the least change first."""
    size = batch
    while size > 1:
        size //= 2
        yield False, size, window
    network = description.network_config()
    edges = [window, *(nearest_patch(network, _scaled(window, share)) for share in _SHARES)]
    for larger, edge in pairwise(edges):
        try:
            check_patch(network, edge)
        except ConfigError:  # too small to be normalised
            return
        if edge != larger:
            yield True, batch, edge


def _scaled(window: Shape, share: float) -> Shape:
    k, j, i = (int(edge * share) for edge in window)
    return k, j, i
