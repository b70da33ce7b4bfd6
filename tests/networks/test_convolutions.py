"""Thin volumes and slices on a CPU in bf16: the gradients are those of float32, whatever lies in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from brats_seg.config import load_config
from brats_seg.networks.build import build_network
from brats_seg.networks.convolutions import SafeConv2d, SafeConv3d, make_convolutions_safe


def fill_memory_with_nan() -> None:
    """Leave NaN in the memory that the next tensors of some sizes are given."""
    junk = [torch.full((1 << power,), float("nan")) for power in (10, 14, 18, 20, 22) for _ in range(4)]
    del junk


def gradients(layer: nn.Module, volume: Tensor, *, is_bf16: bool) -> list[Tensor]:
    fill_memory_with_nan()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        result = layer(volume)
    assert result.dtype == (torch.bfloat16 if is_bf16 else torch.float32)
    return list(torch.autograd.grad(result.float().square().sum(), [volume, *layer.parameters()]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("edges", [(1, 1, 1), (2, 2, 2), (2, 6, 6), (6, 1, 6), (4, 4, 1), (3, 3, 3), (4, 1), (3, 3)])
def test_gradients_in_bf16_are_those_of_float32(edges: tuple[int, ...], stride: int) -> None:
    torch.manual_seed(0)
    kind = nn.Conv3d if len(edges) == 3 else nn.Conv2d
    layer = kind(32, 32, 3, padding=1, stride=stride)
    make_convolutions_safe(layer)
    volume = torch.randn(2, 32, *edges, requires_grad=True)
    expected = gradients(layer, volume, is_bf16=False)
    for _ in range(5):
        for own, reference in zip(gradients(layer, volume, is_bf16=True), expected, strict=True):
            assert torch.isfinite(own).all()
            assert (own - reference).abs().max() < 0.05 * reference.abs().max()


def test_thicker_volumes_and_float32_are_computed_as_pytorch_does() -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 4, 3, padding=1)
    safe = SafeConv3d(4, 4, 3, padding=1)
    safe.load_state_dict(plain.state_dict())
    thick, thin = torch.randn(1, 4, 3, 4, 5), torch.randn(1, 4, 2, 4, 5)
    assert torch.equal(safe(thin), plain(thin))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(safe(thick), plain(thick))
        assert torch.equal(safe(thin).float(), safe(thin).bfloat16().float())


@pytest.mark.parametrize("recipe", ["demo", "brats2020_segresnet", "brats2020_unet2d", "images_unet2d_128"])
def test_networks_have_safe_convolutions_alone(recipe: str) -> None:
    network = build_network(load_config(recipe).network, in_channels=4, out_channels=3)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    assert convolutions
    assert all(type(module) in (SafeConv2d, SafeConv3d) for module in convolutions)
