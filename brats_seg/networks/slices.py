"""Networks of two axes on volumes: slices in, logits of slices out, in the arrays that volumes have.

A patch of slices is one voxel thick along one axis, its slice axis. With `neighbours` (2.5D) the network sees so many
slices on either side as further channels, and predicts the middle one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from brats_seg.networks.heads import heads_of

__all__ = ["SliceWise", "middle_slice", "slice_axis", "thickened"]

Shape = tuple[int, int, int]


def slice_axis(patch: Sequence[int]) -> int | None:
    """Return the axis (0, 1, 2 for K, J, I) along which a patch is one voxel thick; None for a volume."""
    return list(patch).index(1) if 1 in patch else None


def thickened(patch: Shape, neighbours: int) -> Shape:
    """Return the block (K, J, I) that a network sees of a patch: with neighbours on both sides of its slice."""
    axis = slice_axis(patch)
    k, j, i = (edge + 2 * neighbours * (number == axis) for number, edge in enumerate(patch))
    return k, j, i


class SliceWise(nn.Module):
    """A network of two axes that takes volumes one slice thick, or as thick as a slice with its neighbours."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C, K, J, I) to logits (B, region, K, J, I) one voxel thick along the thinnest axis of the input.

        The slices along that axis become channels, slice by slice. A body that predicts at coarser levels, too, gives a
        list of logits.
        """
        sizes = volume.shape[2:]
        axis = 2 + sizes.index(min(sizes))
        slices = volume.unbind(axis)
        output = self.body(slices[0] if len(slices) == 1 else torch.cat(slices, dim=1))
        heads = [head.unsqueeze(axis) for head in heads_of(output)]
        return heads[0] if isinstance(output, Tensor) else heads


def middle_slice(volume: Tensor, axis: int | None) -> Tensor:
    """Return the middle of (K, J, I) along an axis, one voxel thick; the volume itself where `axis` is None."""
    return volume if axis is None else volume.narrow(axis, volume.shape[axis] // 2, 1)
