"""Sliding windows: probabilities of a whole volume from a network that sees a window at a time.

Windows have the training patch's size by default, since normalisation layers see the statistics of their window. They
tile the volume evenly, overlap at least as much as asked, and are blended with Gaussian weights as in MONAI's
`SlidingWindowInferer`; but probabilities are blended, not logits, and windows without brain are skipped. Windows and
their mirrorings share batches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

__all__ = ["num_passes", "plan_windows", "predict_probabilities"]

Shape = tuple[int, int, int]
Place = tuple[slice, slice, slice]
_AXES = {"K": 1, "J": 2, "I": 3}
"""Name of an axis of the volume -> its number in (modality, K, J, I)."""


def plan_windows(shape: Sequence[int], window: Sequence[int], overlap: float) -> list[Shape]:
    """Return the starts (K, J, I) of windows that cover a volume evenly.

    Along each axis the fewest windows are taken whose neighbours share at least `overlap` (0 <= overlap < 1) of a
    window; the first begins at 0, the last ends at the volume's end. `shape` is at least `window` on every axis.
    """
    axes = [_starts(size, edge, overlap) for size, edge in zip(shape, window, strict=True)]
    return [(k, j, i) for k, j, i in itertools.product(*axes)]


def num_passes(shape: Sequence[int], window: Sequence[int], overlap: float, tta: str | Sequence[str]) -> int:
    """Return how many windows, mirrorings counted, a volume of `shape` (K, J, I) takes if all of it is brain."""
    padded = [max(size, edge) for size, edge in zip(shape, window, strict=True)]
    return len(plan_windows(padded, window, overlap)) * len(_flips(tta))


def _starts(size: int, edge: int, overlap: float) -> list[int]:
    room = size - edge
    if room == 0:
        return [0]
    step = max(1, math.floor(edge * (1 - overlap) + 1e-9))
    count = math.ceil(room / step) + 1
    return [round(n * room / (count - 1)) for n in range(count)]


def predict_probabilities(
    logits_of: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    window: Shape,
    num_regions: int,
    overlap: float = 0.5,
    batch: int = 1,
    tta: str | Sequence[str] = "none",
    is_batch_fixed: bool = False,
) -> Tensor:
    """Return the probabilities (region, K, J, I), float32, of a normalised image (modality, K, J, I), float32.

    An axis shorter than the window is padded with zeros (background) on both sides. A voxel that lies only in windows
    without brain has probability 0.

    Args:
        logits_of: maps (B, modality, *window) to logits (B, region, *window).
        image: normalised, background 0.
        window: (K, J, I) in voxels.
        num_regions: channels of the logits.
        overlap: smallest share of a window that its neighbour covers again, 0 to below 1.
        batch: windows and their mirrorings that go through the network together; without effect on the result.
        tta: "flips" averages the probabilities of all eight mirrorings of each window, ("J", "I") those of the four
            along these axes.
        is_batch_fixed: fill the last batch with zeros, so that the network sees one shape only (compiled code is made
            for a shape).
    """
    padded, start = _pad(image, window)
    inner = tuple(slice(s, s + n) for s, n in zip(start, image.shape[1:], strict=True))
    total = torch.zeros((num_regions, *padded.shape[1:]), device=image.device)
    weight = torch.zeros(padded.shape[1:], device=image.device)
    importance = _importance(window, image.device)
    passes = itertools.product(_with_brain(padded, window, overlap), _flips(tta))
    while chunk := list(itertools.islice(passes, batch)):
        patches = [_flipped(padded[(slice(None), *place)], axes) for place, axes in chunk]
        if is_batch_fixed:
            patches += [torch.zeros_like(patches[0])] * (batch - len(patches))
        probabilities = torch.sigmoid(logits_of(torch.stack(patches)).float())
        for (place, axes), of_window in zip(chunk, probabilities, strict=False):
            total[(slice(None), *place)] += _flipped(of_window, axes) * importance
            weight[place] += importance
    return (total / weight.clamp_min(torch.finfo(torch.float32).tiny))[(slice(None), *inner)]


def _with_brain(image: Tensor, window: Shape, overlap: float) -> list[Place]:
    """Return the windows that hold brain, in one question to the device: asked window by window, a GPU would idle."""
    places = [
        (slice(k, k + window[0]), slice(j, j + window[1]), slice(i, i + window[2]))
        for k, j, i in plan_windows(image.shape[1:], window, overlap)
    ]
    is_brain = (image != 0).any(dim=0)
    has_brain = torch.stack([is_brain[place].any() for place in places]).tolist()
    return [place for place, has in zip(places, has_brain, strict=True) if has]


def _flipped(window: Tensor, axes: tuple[int, ...]) -> Tensor:
    return window.flip(axes) if axes else window


def _flips(tta: str | Sequence[str]) -> list[tuple[int, ...]]:
    """Return the axes of (channel, K, J, I) of each mirroring, none first."""
    names = {"none": (), "flips": tuple(_AXES)}[tta] if isinstance(tta, str) else tta
    axes = [_AXES[name] for name in names]
    return [some for n in range(len(axes) + 1) for some in itertools.combinations(axes, n)]


def _pad(image: Tensor, window: Shape) -> tuple[Tensor, Shape]:
    missing = [max(0, edge - size) for edge, size in zip(window, image.shape[1:], strict=True)]
    k, j, i = (m // 2 for m in missing)
    if not any(missing):
        return image, (0, 0, 0)
    before_after = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
    return torch.nn.functional.pad(image, before_after), (k, j, i)


@lru_cache(maxsize=8)
def _importance(window: Shape, device: torch.device) -> Tensor:
    """Return MONAI's Gaussian weights of a window's voxels, never 0, so that every covered voxel has a weight."""
    weights = compute_importance_map(window, mode="gaussian", sigma_scale=0.125, device=device, dtype=torch.float32)
    smallest = weights[weights > 0].min().clamp_min(1e-3)
    return torch.as_tensor(weights).clamp_min(float(smallest))
