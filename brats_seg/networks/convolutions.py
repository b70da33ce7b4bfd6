"""Convolutions that leave a processor's 16-bit kernels alone where these are wrong.

torch 2.13 (oneDNN) on a CPU with `avx512_bf16` and without AMX (AMD Zen 4) leaves part of the weights' gradient of a
convolution unwritten where a volume is at most two voxels thick, or a slice one pixel wide: whatever lay in memory goes
into the step, NaN among it. Patches of 64 behind a stem of 2 have a bottom of 2 x 2 x 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SafeConv2d", "SafeConv3d", "make_convolutions_safe"]

_THINNEST = 3
"""Edge in voxels from which the kernels are right: no wrong gradient was found among some 5,000 shapes."""


class _Safe(nn.modules.conv._ConvNd):
    """On a CPU, a convolution of thin input (any edge below 3) is computed in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what PyTorch's does, in the dtype that autocast asks for. Thin input is small: no time is lost."""
        if input.device.type != "cpu" or min(input.shape[2:]) >= _THINNEST or not torch.is_autocast_enabled("cpu"):
            plain: Tensor = super().forward(input)
            return plain
        with torch.autocast("cpu", enabled=False):
            result: Tensor = super().forward(input.float())
        return result.to(torch.get_autocast_dtype("cpu"))


class SafeConv2d(_Safe, nn.Conv2d):
    """Of slices."""


class SafeConv3d(_Safe, nn.Conv3d):
    """Of volumes."""


_KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: SafeConv2d, nn.Conv3d: SafeConv3d}


def make_convolutions_safe(network: nn.Module) -> int:
    """Turn every plain convolution of a network into the safe kind, in place; return how many.

    Names and weights stay what they are.
    """
    convolutions = [module for module in network.modules() if type(module) in _KINDS]
    for module in convolutions:
        module.__class__ = _KINDS[type(module)]
    return len(convolutions)
