"""The stem: blocks of voxels become channels and voxels again."""

from __future__ import annotations

import torch
from torch import nn

from brats_seg.networks.stem import SpaceToDepth, depth_to_space, space_to_depth


def test_depth_to_space_is_the_exact_inverse() -> None:
    volume = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(depth_to_space(space_to_depth(volume, 2), 2), volume)


def test_the_eight_voxels_of_a_block_become_channels_of_one_place() -> None:
    volume = torch.arange(4 * 4 * 4.0).reshape(1, 1, 4, 4, 4)
    deep = space_to_depth(volume, 2)
    assert deep.shape == (1, 8, 2, 2, 2)
    # block (0, 1, 0) covers j = 2..3: voxel (k, j, i) has the value 16 k + 4 j + i
    assert deep[0, :, 0, 1, 0].tolist() == [8, 9, 12, 13, 24, 25, 28, 29]


def test_the_four_pixels_of_a_slices_block_become_channels_of_one_place() -> None:
    slices = torch.arange(4 * 6.0).reshape(1, 1, 4, 6)
    deep = space_to_depth(slices, 2)
    assert deep.shape == (1, 4, 2, 3)
    # block (1, 2) covers rows 2..3, columns 4..5: pixel (j, i) has the value 6 j + i
    assert deep[0, :, 1, 2].tolist() == [16, 17, 22, 23]
    assert torch.equal(depth_to_space(deep, 2), slices)


def test_network_behind_the_stem_sees_half_the_resolution() -> None:
    seen = []

    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return x[:, :24]

    assert SpaceToDepth(Body(), 2)(torch.zeros(1, 4, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    assert seen == [(1, 32, 4, 4, 4)]


def test_every_head_of_the_body_is_brought_up_by_the_edge() -> None:
    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x[:, :24], x[:, :24, ::2, ::2, ::2]]

    volume = torch.randn(1, 4, 8, 8, 8)
    full, half = SpaceToDepth(Body(), 2)(volume)
    assert torch.equal(full, volume[:, :3])  # channels of a voxel's block stay together
    assert half.shape == (1, 3, 4, 4, 4)
