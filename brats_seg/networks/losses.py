"""Losses by name. To add a loss, write a module that takes (logits, target) and add a row to `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn

from brats_seg.config import LossConfig
from brats_seg.errors import ConfigError, did_you_mean

__all__ = ["LOSSES", "DiceCELoss", "build_loss"]


class DiceCELoss(nn.Module):
    """Soft Dice plus binary cross-entropy of every region, in float32.

    Regions overlap (ET in TC in WT), so each has its own sigmoid. MONAI 1.6's `DiceCELoss(sigmoid=True)` takes a
    softmax cross-entropy over several channels instead, in which background has no target at all; hence this
    composition. Dice is taken over the whole batch, with `smooth` in numerator and denominator: an absent region
    gives 1 - smooth / (predicted sum + smooth), which still has a gradient.
    """

    def __init__(self, dice_weight: float = 1.0, ce_weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)
        self.cross_entropy = nn.BCEWithLogitsLoss()
        self.dice_weight, self.ce_weight = dice_weight, ce_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), target.float()
            dice: Tensor = self.dice(logits, target)
            cross_entropy: Tensor = self.cross_entropy(logits, target)
            return self.dice_weight * dice + self.ce_weight * cross_entropy


LOSSES: Mapping[str, Callable[..., nn.Module]] = {"dice_ce": DiceCELoss}
"""All losses by name."""


def build_loss(loss: LossConfig) -> nn.Module:
    """Return the loss of the configuration.

    Raises:
        ConfigError: unknown loss or argument.
    """
    if loss.name not in LOSSES:
        raise ConfigError(f"train.loss.name={loss.name}: unknown loss{did_you_mean(loss.name, LOSSES)}")
    try:
        return LOSSES[loss.name](**loss.arguments)
    except TypeError as error:
        raise ConfigError(f"train.loss.arguments: {loss.name} refuses them: {error}") from error
