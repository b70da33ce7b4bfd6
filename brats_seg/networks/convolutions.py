"""Convolutions of volumes that leave a processor's 16-bit kernels alone where these are wrong.

torch 2.13 (oneDNN) on a CPU with `avx512_bf16` and without AMX (AMD Zen 4) leaves part of the weights' gradient of a
3 x 3 x 3 convolution unwritten where the volume is two voxels thick or thinner: whatever lay in memory goes into the
step, NaN among it. Patches of 64 behind a stem of 2 have a bottom of 2 x 2 x 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SafeConv3d", "make_convolutions_safe"]

_THINNEST = 3
"""Edge in voxels from which the kernels are right: no wrong gradient was found among some 5,000 shapes."""


class SafeConv3d(nn.Conv3d):
    """PyTorch's convolution of volumes; on a CPU, thin ones (any edge below 3 voxels) are computed in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what `Conv3d` does, in the dtype that autocast asks for. Thin volumes are small: nothing is lost."""
        if input.device.type != "cpu" or min(input.shape[2:]) >= _THINNEST or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(torch.get_autocast_dtype("cpu"))


def make_convolutions_safe(network: nn.Module) -> int:
    """Turn every plain convolution of volumes of a network into the safe kind, in place; return how many.

    Names and weights stay what they are.
    """
    convolutions = [module for module in network.modules() if type(module) is nn.Conv3d]
    for module in convolutions:
        module.__class__ = SafeConv3d
    return len(convolutions)
