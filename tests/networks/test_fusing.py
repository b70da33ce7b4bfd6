"""Instance normalisation as plain arithmetic against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brats_seg.networks.fusing import FusibleInstanceNorm, make_norms_fusible


def filled(norm: nn.InstanceNorm3d) -> nn.InstanceNorm3d:
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1.0, 0.5)
    return norm


@pytest.mark.parametrize("is_affine", [True, False])
def test_fusible_norm_and_its_gradients_are_those_of_pytorch(is_affine: bool) -> None:
    torch.manual_seed(0)
    plain = filled(nn.InstanceNorm3d(5, affine=is_affine)).double()
    fusible = FusibleInstanceNorm(5, affine=is_affine).double()
    fusible.load_state_dict(plain.state_dict())
    volume = (3 + 2 * torch.randn(2, 5, 4, 6, 7)).double().requires_grad_()
    weights = torch.randn(2, 5, 4, 6, 7).double()
    found = []
    for norm in (plain, fusible):
        result = norm(volume)
        found.append((result, *torch.autograd.grad((result * weights).sum(), [volume, *norm.parameters()])))
    for expected, own in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_statistics_of_16_bit_values_are_those_of_32_bits() -> None:
    volume = (100 + torch.randn(1, 1, 32, 32, 32)).to(torch.bfloat16)
    result = FusibleInstanceNorm(1)(volume)
    assert result.dtype == torch.bfloat16
    values = volume.double()
    expected = (values - values.mean()) / values.std(correction=0)
    torch.testing.assert_close(result.double(), expected, rtol=0.01, atol=0.005)


def test_only_plain_instance_norms_are_changed_and_names_stay() -> None:
    network = nn.Sequential(
        nn.Conv3d(1, 4, 1),
        filled(nn.InstanceNorm3d(4, affine=True)),
        nn.InstanceNorm3d(4, track_running_stats=True),
        nn.GroupNorm(2, 4),
        nn.Sequential(nn.InstanceNorm3d(4)),
    )
    names = list(network.state_dict())
    assert make_norms_fusible(network) == 2
    assert list(network.state_dict()) == names
    assert [type(module).__name__ for module in network[1:4]] == ["FusibleInstanceNorm", "InstanceNorm3d", "GroupNorm"]
    assert make_norms_fusible(network) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_network_in_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU(), nn.Conv3d(8, 3, 1)
    )
    volume = torch.randn(1, 2, 8, 8, 8)
    expected = network(volume)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert make_norms_fusible(network) == 1
    found = torch.compile(network, dynamic=False)(volume.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
