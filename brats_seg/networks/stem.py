"""The space-to-depth stem: a network at a fraction of the resolution that still predicts every voxel.

Blocks of p x p x p voxels become channels before the network and voxels again behind it (p x p pixels of slices). With
p = 2 a plain U-Net of volumes with the same number of weights trains about five times faster.
"""

from __future__ import annotations

from torch import Tensor, nn

from brats_seg.networks.heads import heads_of

__all__ = ["SpaceToDepth", "depth_to_space", "space_to_depth"]


def space_to_depth(volume: Tensor, edge: int) -> Tensor:
    """Return (B, C, K, J, I) as (B, C edge^3, K/edge, J/edge, I/edge), of two axes likewise; nothing is lost."""
    b, c, *sizes = volume.shape
    blocks = volume.reshape(b, c, *(part for size in sizes for part in (size // edge, edge)))
    within, between = range(3, blocks.ndim, 2), range(2, blocks.ndim, 2)
    return blocks.permute(0, 1, *within, *between).reshape(b, c * edge ** len(sizes), *(n // edge for n in sizes))


def depth_to_space(volume: Tensor, edge: int) -> Tensor:
    """Return (B, C edge^3, K, J, I) as (B, C, K edge, J edge, I edge): the exact inverse of `space_to_depth`."""
    b, channels, *sizes = volume.shape
    num = len(sizes)
    c = channels // edge**num
    blocks = volume.reshape(b, c, *[edge] * num, *sizes)
    order = (axis for within in range(2, 2 + num) for axis in (within + num, within))
    return blocks.permute(0, 1, *order).reshape(b, c, *(size * edge for size in sizes))


class SpaceToDepth(nn.Module):
    """A network between the two functions: voxels in, logits for every voxel out."""

    def __init__(self, body: nn.Module, edge: int) -> None:
        super().__init__()
        self.body = body
        self.edge = edge

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C, K, J, I) to logits (B, region, K, J, I); K, J, I are multiples of edge x the body's stride.

        Slices (B, C, rows, columns) likewise. A body that predicts at coarser levels, too, gives a list of logits: each
        is brought up by the edge.
        """
        output = self.body(space_to_depth(volume, self.edge))
        if isinstance(output, Tensor) and output.ndim == volume.ndim:
            return depth_to_space(output, self.edge)
        return [depth_to_space(head, self.edge) for head in heads_of(output)]
