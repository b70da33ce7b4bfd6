"""Losses by name. To add a loss, write a module that takes (logits, target) and add a row to `LOSSES`.

Regions overlap (ET in TC in WT), so each has its own sigmoid; every loss is computed in float32, outside autocast.
Argument names are MONAI's where the meaning is MONAI's. Overlap losses (Dice, Tversky, generalised Dice) take their
sums over the whole batch, also where it is spread over several processes: `build_loss` is given the function that adds
such sums up. `smooth_nr` and `smooth_dr`, in voxels, keep them finite for an absent region, with a gradient.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from monai.losses.focal_loss import sigmoid_focal_loss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from brats_seg.config import LossConfig
from brats_seg.errors import ConfigError, did_you_mean
from brats_seg.networks.heads import DeepSupervision

__all__ = [
    "LOSSES",
    "BCELoss",
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "GeneralizedDiceLoss",
    "OverlapLoss",
    "TverskyLoss",
    "build_loss",
]


def _alone(sums: Tensor) -> Tensor:
    return sums


class OverlapLoss(nn.Module, ABC):
    """What the losses have in common that are made of sums over voxels.

    Args:
        batch: sums over all samples of a step (True), or of each sample, averaged.
        smooth_nr: added to the numerator, in voxels.
        smooth_dr: added to the denominator, in voxels.
    """

    def __init__(self, batch: bool = True, smooth_nr: float = 1.0, smooth_dr: float = 1.0) -> None:
        super().__init__()
        if not isinstance(batch, bool):
            raise ValueError(f"batch={batch!r}: expected true or false")
        _check_range(0, None, smooth_nr=smooth_nr)
        _check_range(1e-12, None, smooth_dr=smooth_dr)
        self.batch, self.smooth_nr, self.smooth_dr = batch, smooth_nr, smooth_dr
        self.over_processes: Callable[[Tensor], Tensor] = _alone
        """Adds sums over all processes of a run; the identity for one."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        with torch.autocast(logits.device.type, enabled=False):
            probabilities, target = logits.float().sigmoid(), target.float()
            axes = (0, 2, 3, 4) if self.batch else (2, 3, 4)
            parts = (probabilities * target, probabilities, target)
            sums = torch.stack([part.sum(axes) for part in parts])
            overlap, predicted, reference = self.over_processes(sums) if self.batch else sums
            return self.from_sums(overlap, predicted - overlap, reference - overlap).mean()

    @abstractmethod
    def from_sums(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Return losses from the soft counts of true positives, false positives and false negatives.

        The counts are (region,), or (B, region) without `batch`.
        """


class DiceLoss(OverlapLoss):
    """Soft Dice per region: 1 - (2 TP + smooth_nr) / (2 TP + FP + FN + smooth_dr), averaged over regions."""

    def from_sums(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Return the loss of each region (and sample)."""
        return 1 - (2 * tp + self.smooth_nr) / (2 * tp + fp + fn + self.smooth_dr)


class TverskyLoss(OverlapLoss):
    """Tversky loss per region: 1 - (TP + smooth_nr) / (TP + alpha FP + beta FN + smooth_dr), averaged over regions.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives; above alpha it favours sensitivity. Both 0.5 give Dice (smoothed twice).
        batch: sums over all samples of a step, or of each sample.
        smooth_nr: added to the numerator, in voxels.
        smooth_dr: added to the denominator, in voxels.

    Source: Salehi et al. 2017, arXiv:1706.05721.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        *,
        batch: bool = True,
        smooth_nr: float = 1.0,
        smooth_dr: float = 1.0,
    ) -> None:
        super().__init__(batch, smooth_nr, smooth_dr)
        _check_range(0, None, alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta

    def from_sums(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Return the loss of each region (and sample)."""
        return 1 - (tp + self.smooth_nr) / (tp + self.alpha * fp + self.beta * fn + self.smooth_dr)


class GeneralizedDiceLoss(OverlapLoss):
    """Generalised Dice: one Dice over all regions, each weighted by its inverse size in the reference.

    An absent region has the largest weight of those present, as in MONAI; if all are absent, each has weight 1 (in
    MONAI 0, which leaves a constant without a gradient). Weights are scaled so that the largest is 1, so that `smooth`
    is in voxels of the smallest region; MONAI adds it to sums of 1/voxels, where 1e-5 outweighs all but small regions.

    Args:
        w_type: weight of a region of V voxels: `square` 1/V^2, `simple` 1/V, `uniform` 1.
        batch: sums over all samples of a step, or of each sample.
        smooth_nr: added to the numerator, in voxels of the smallest region.
        smooth_dr: added to the denominator, in voxels of the smallest region.

    Source: Sudre et al. 2017, arXiv:1707.03237.
    """

    powers: ClassVar[Mapping[str, int]] = {"square": 2, "simple": 1, "uniform": 0}

    def __init__(
        self, w_type: str = "square", *, batch: bool = True, smooth_nr: float = 1.0, smooth_dr: float = 1.0
    ) -> None:
        super().__init__(batch, smooth_nr, smooth_dr)
        if w_type not in self.powers:
            raise ValueError(f"w_type={w_type}{did_you_mean(str(w_type), self.powers)}")
        self.power = self.powers[w_type]

    def from_sums(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Return the loss (of each sample)."""
        weights = self._weights((tp + fn).detach())
        numerator = 2 * (weights * tp).sum(-1) + self.smooth_nr
        return 1 - numerator / ((weights * (2 * tp + fp + fn)).sum(-1) + self.smooth_dr)

    def _weights(self, voxels: Tensor) -> Tensor:
        """Return weights of regions of so many voxels (..., region); the largest is 1, and that of an absent region."""
        is_there = voxels > 0.5
        smallest = torch.where(is_there, voxels, torch.inf).amin(-1, keepdim=True)
        return torch.where(is_there, (smallest / voxels.clamp_min(1)) ** self.power, 1.0)


class FocalLoss(nn.Module):
    """Mean over voxels and regions of -(1 - p)^gamma log p, where p is the probability given to the truth.

    Args:
        gamma: how strongly voxels that are right already are passed over; 0 gives binary cross-entropy.
        alpha: weight of voxels inside a region, 1 - alpha outside; null = no weights. Between 0 and 1.

    Source: Lin et al. 2017, arXiv:1708.02002; computed by MONAI's function.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        _check_range(0, None, gamma=gamma)
        if alpha is not None:
            _check_range(0, 1, alpha=alpha)
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        with torch.autocast(logits.device.type, enabled=False):
            losses: Tensor = sigmoid_focal_loss(logits.float(), target.float(), self.gamma, self.alpha)
            return losses.mean()


class BCELoss(nn.Module):
    """Binary cross-entropy of every region, averaged over regions and voxels."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        with torch.autocast(logits.device.type, enabled=False):
            return binary_cross_entropy_with_logits(logits.float(), target.float())


class DiceCELoss(nn.Module):
    """Soft Dice plus binary cross-entropy of every region.

    MONAI 1.6's `DiceCELoss(sigmoid=True)` takes a softmax cross-entropy over several channels instead, in which
    background has no target at all; hence this composition.

    Args:
        lambda_dice: weight of Dice.
        lambda_ce: weight of the cross-entropy.
        batch: Dice over all samples of a step, or of each sample.
        smooth_nr: added to Dice's numerator, in voxels.
        smooth_dr: added to Dice's denominator, in voxels.
    """

    def __init__(
        self,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        *,
        batch: bool = True,
        smooth_nr: float = 1.0,
        smooth_dr: float = 1.0,
    ) -> None:
        super().__init__()
        _check_range(0, None, lambda_dice=lambda_dice, lambda_ce=lambda_ce)
        self.dice = DiceLoss(batch, smooth_nr, smooth_dr)
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), target.float()
            dice: Tensor = self.dice(logits, target)
            return self.lambda_dice * dice + self.lambda_ce * binary_cross_entropy_with_logits(logits, target)


class DiceFocalLoss(nn.Module):
    """Soft Dice plus the focal loss of every region.

    Args:
        lambda_dice: weight of Dice.
        lambda_focal: weight of the focal loss.
        gamma: see `FocalLoss`.
        alpha: see `FocalLoss`.
        batch: Dice over all samples of a step, or of each sample.
        smooth_nr: added to Dice's numerator, in voxels.
        smooth_dr: added to Dice's denominator, in voxels.
    """

    def __init__(
        self,
        lambda_dice: float = 1.0,
        lambda_focal: float = 1.0,
        *,
        gamma: float = 2.0,
        alpha: float | None = None,
        batch: bool = True,
        smooth_nr: float = 1.0,
        smooth_dr: float = 1.0,
    ) -> None:
        super().__init__()
        _check_range(0, None, lambda_dice=lambda_dice, lambda_focal=lambda_focal)
        self.dice, self.focal = DiceLoss(batch, smooth_nr, smooth_dr), FocalLoss(gamma, alpha)
        self.lambda_dice, self.lambda_focal = lambda_dice, lambda_focal

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits and target masks, both (B, region, K, J, I)."""
        dice: Tensor = self.dice(logits, target)
        focal: Tensor = self.focal(logits, target)
        return self.lambda_dice * dice + self.lambda_focal * focal


LOSSES: Mapping[str, Callable[..., nn.Module]] = {
    "bce": BCELoss,
    "dice": DiceLoss,
    "dice_ce": DiceCELoss,
    "dice_focal": DiceFocalLoss,
    "focal": FocalLoss,
    "generalized_dice": GeneralizedDiceLoss,
    "tversky": TverskyLoss,
}
"""All losses by name."""


def build_loss(loss: LossConfig, over_processes: Callable[[Tensor], Tensor] = _alone) -> nn.Module:
    """Return the loss of the configuration, for a network's output with one head or several (`DeepSupervision`).

    Args:
        loss: name and arguments.
        over_processes: adds sums of voxels, (3, region), over all processes of a run, with their gradient.

    Raises:
        ConfigError: unknown loss or argument (names the nearest), or a value out of range.
    """
    if loss.name not in LOSSES:
        raise ConfigError(f"train.loss.name={loss.name}: unknown loss{did_you_mean(loss.name, LOSSES)}")
    known = inspect.signature(LOSSES[loss.name]).parameters
    for name in loss.arguments:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"train.loss.arguments.{name}: {loss.name} has no such argument{hint}")
    try:
        built = LOSSES[loss.name](**loss.arguments)
    except ValueError as error:
        raise ConfigError(f"train.loss.arguments.{error}") from error
    for module in built.modules():
        if isinstance(module, OverlapLoss):
            module.over_processes = over_processes
    return DeepSupervision(built)


def _check_range(low: float, high: float | None, **values: Any) -> None:
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and low <= value and (high is None or value <= high)):
            expected = f"a number of at least {low:g}" if high is None else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{name}={value!r}: expected {expected}")
