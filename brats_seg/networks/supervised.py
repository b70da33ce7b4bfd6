"""MONAI's networks with deep supervision, with MONAI's weights and names, but cheaper.

DynUNet blows every head up to full size and stacks them, so that four heads cost four full-size losses; here each comes
at its own resolution. SegResNetDS computes its heads for prediction, too; here they rest then. BasicUNetPlusPlus gives
a list whatever it has, the best head last; here it comes first, and alone for prediction. FlexibleUNet's backbones
keep layers of the classifier that they were made for; here those learn nothing.
"""

from __future__ import annotations

from typing import Any, Self

from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.flexible_unet import FlexibleUNet
from monai.networks.nets.segresnet_ds import SegResNetDS
from torch import Tensor

__all__ = ["BackboneUNet", "SupervisedBasicUNetPlusPlus", "SupervisedDynUNet", "SupervisedSegResNetDS"]

_CLASSIFIER = ("_conv_head", "_bn1", "_fc", "fc")
"""Layers of MONAI's EfficientNet and ResNet that FlexibleUNet does not call."""


class BackboneUNet(FlexibleUNet):
    """MONAI's FlexibleUNet; weights that get no gradient, which would stop several processes, ask for none."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name in _CLASSIFIER:
            layer = getattr(self.encoder, name, None)
            if layer is not None:
                layer.requires_grad_(requires_grad=False)


class SupervisedBasicUNetPlusPlus(BasicUNetPlusPlus):
    """MONAI's BasicUNetPlusPlus whose deepest head comes first, with the others behind it in training alone."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not self.deep_supervision:  # their logits go nowhere; weights without gradient would stop several processes
            for head in (self.final_conv_0_1, self.final_conv_0_2, self.final_conv_0_3):
                head.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (B, modality, K, J, I) to logits of the same size; in training with heads, a list of logits."""
        deepest, *others = reversed(super().forward(x))
        return [deepest, *others] if others and self.training else deepest


class SupervisedDynUNet(DynUNet):
    """MONAI's DynUNet whose heads come at their own resolution, as a list, full resolution first, in training only."""

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Map (B, modality, K, J, I) to logits of the same size; in training with heads, a list of logits."""
        skips = []
        for down in (self.input_block, *self.downsamples):
            volume = down(volume)
            skips.append(volume)
        volume = self.bottleneck(volume)
        heads = []
        for level, up in zip(reversed(range(len(skips))), self.upsamples, strict=True):
            volume = up(volume, skips[level])
            if self.training and self.deep_supervision and 0 < level <= self.deep_supr_num:
                heads.append(self.deep_supervision_heads[level - 1](volume))
        logits: Tensor = self.output_block(volume)
        return [logits, *reversed(heads)] if heads else logits


class SupervisedSegResNetDS(SegResNetDS):
    """MONAI's SegResNetDS that computes its coarser heads in training only."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._num_heads = self.dsdepth

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or (False) to prediction, where one head is enough."""
        self.dsdepth = self._num_heads if mode else 1
        return super().train(mode)
