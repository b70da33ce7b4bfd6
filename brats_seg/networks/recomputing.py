"""Activation checkpointing: a network's blocks keep their input alone, and compute the rest again on the way back."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from brats_seg.errors import ConfigError

__all__ = ["recompute_blocks"]

_BLOCKS = frozenset(
    {
        "Convolution",
        "ResBlock",
        "ResidualUnit",
        "SegResBlock",
        "UnetBasicBlock",
        "UnetResBlock",
        "UnetUpBlock",
        "UnetrBasicBlock",
        "UnetrUpBlock",
    }
)
"""MONAI's classes of what a network repeats at each level; SwinUNETR's transformers have an argument of their own,
`use_checkpoint`."""


def recompute_blocks(network: nn.Module) -> int:
    """Make each block of a network recompute its activations in the backward pass; return the number of blocks.

    The network is changed in place: names, weights, results and gradients stay what they were, to the last bit where
    the device's kernels are deterministic. A training step takes about a third longer. Without gradients nothing
    changes.

    Raises:
        ConfigError: a block has batch normalisation, whose running statistics a second pass would move twice; or the
            network has no block that is known.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise ConfigError(
            "train.checkpoint_activations=true: the network has batch normalisation, whose running statistics would be "
            "moved twice a step; use instance or group normalisation, or train.accumulate"
        )
    blocks = _outermost(network)
    if not blocks:
        raise ConfigError(
            "train.checkpoint_activations=true: found no block to recompute in this network; use train.accumulate"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(blocks)


def _outermost(module: nn.Module) -> list[nn.Module]:
    if type(module).__name__ in _BLOCKS:
        return [module]
    return [block for child in module.children() for block in _outermost(child)]
