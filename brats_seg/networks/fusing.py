"""Instance normalisation that a compiler can fuse with what stands around it, in any layout of memory.

PyTorch's own wants its input channel by channel; between convolutions that compute with channels innermost, as all of
a GPU's bf16 kernels do, every block would be rearranged twice. Written as plain arithmetic it is fused with the
activation behind it, and nothing is rearranged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FusibleInstanceNorm", "make_norms_fusible"]


class FusibleInstanceNorm(nn.InstanceNorm3d):
    """PyTorch's instance normalisation without running statistics: same weights, same result up to rounding."""

    def forward(self, volume: Tensor) -> Tensor:
        """Return (B, C, K, J, I) with mean 0 and variance 1 over K, J, I, times weight plus bias."""
        values = volume.float() if volume.dtype in (torch.float16, torch.bfloat16) else volume
        variance, mean = torch.var_mean(values, dim=(2, 3, 4), correction=0, keepdim=True)
        scale = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return ((values - mean) * scale).to(volume.dtype)
        weight, bias = (parameter.view(1, -1, 1, 1, 1) for parameter in (self.weight, self.bias))
        return ((values - mean) * (scale * weight) + bias).to(volume.dtype)


def make_norms_fusible(network: nn.Module) -> int:
    """Turn every plain instance normalisation of a network into the fusible kind, in place; return how many.

    Names and weights stay what they are. Those that keep running statistics, and those in two dimensions, are left.
    """
    norms = [
        module for module in network.modules() if type(module) is nn.InstanceNorm3d and not module.track_running_stats
    ]
    for module in norms:
        module.__class__ = FusibleInstanceNorm
    return len(norms)
