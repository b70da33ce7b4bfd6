"""Networks of two axes in the arrays of volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from brats_seg.networks.slices import SliceWise, middle_slice, slice_axis, thickened


class Remembering(nn.Module):
    """A body that keeps its input and gives the first channels back, as heads at full and at half size."""

    def __init__(self, num_heads: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.seen = torch.zeros(0)

    def forward(self, slices: Tensor) -> Tensor | list[Tensor]:
        self.seen = slices
        return slices[:, :1] if self.num_heads == 1 else [slices[:, :1], slices[:, :1, ::2, ::2]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_body_sees_the_slice_and_its_logits_lie_where_the_slice_lay(axis: int) -> None:
    slices = torch.randn(2, 3, 8, 12)
    body = Remembering()
    logits = SliceWise(body)(slices.unsqueeze(2 + axis))
    assert isinstance(logits, Tensor)
    assert torch.equal(body.seen, slices)
    assert torch.equal(logits, slices[:, :1].unsqueeze(2 + axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_become_channels_slice_by_slice(axis: int) -> None:
    below, own, above = torch.randn(3, 2, 4, 8, 8)
    body = Remembering()
    logits = SliceWise(body)(torch.stack([below, own, above], dim=2 + axis))
    assert torch.equal(body.seen, torch.cat([below, own, above], dim=1))
    assert isinstance(logits, Tensor)
    assert logits.shape[2 + axis] == 1


def test_heads_of_deep_supervision_come_one_voxel_thick() -> None:
    full, half = SliceWise(Remembering(2))(torch.randn(1, 2, 1, 8, 12))
    assert (full.shape, half.shape) == ((1, 1, 1, 8, 12), (1, 1, 1, 4, 6))


def test_layout_with_channels_last_passes_through_without_a_copy() -> None:
    body = Remembering()
    volume = torch.randn(2, 3, 1, 8, 12).contiguous(memory_format=torch.channels_last_3d)
    SliceWise(body)(volume)
    assert body.seen.is_contiguous(memory_format=torch.channels_last)
    assert body.seen.data_ptr() == volume.data_ptr()


def test_slice_axis_is_where_a_patch_is_one_voxel_thick() -> None:
    patches = [(1, 8, 8), (8, 1, 8), (8, 8, 1), (8, 8, 8)]
    assert [slice_axis(patch) for patch in patches] == [0, 1, 2, None]
    assert [thickened(patch, 2) for patch in patches] == [(5, 8, 8), (8, 5, 8), (8, 8, 5), (8, 8, 8)]


def test_middle_of_a_block_is_the_slice_that_is_predicted() -> None:
    block = torch.arange(5 * 2 * 3).reshape(5, 2, 3)
    assert torch.equal(middle_slice(block, 0), block[2:3])
    assert middle_slice(block, None) is block
