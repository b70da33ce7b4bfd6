"""Losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from brats_seg.config import LossConfig
from brats_seg.errors import ConfigError
from brats_seg.networks.losses import DiceCELoss, build_loss


def test_dice_and_cross_entropy_of_four_voxels_by_hand() -> None:
    # One region, p = sigmoid(ln 3) = 3/4 in two voxels and 1/4 in two; the target is voxel 0 and 2.
    x = math.log(3)
    logits = torch.tensor([x, x, -x, -x]).reshape(1, 1, 1, 1, 4)
    target = torch.tensor([1.0, 0, 1, 0]).reshape(1, 1, 1, 1, 4)
    dice = 1 - (2 * (0.75 + 0.25) + 1) / (2 + 2 + 1)  # intersection 1, sums 2 and 2, smooth 1
    cross_entropy = -(math.log(0.75) + math.log(0.25) + math.log(0.25) + math.log(0.75)) / 4
    assert DiceCELoss()(logits, target).item() == pytest.approx(dice + cross_entropy, abs=1e-6)


def test_background_voxels_have_a_cross_entropy() -> None:
    """MONAI's softmax variant gives a voxel outside every region no cross-entropy at all."""
    empty = torch.zeros(1, 3, 2, 2, 2)
    sure, wrong = torch.full_like(empty, -20.0), torch.full_like(empty, 20.0)
    loss = DiceCELoss(dice_weight=0.0)
    assert loss(sure, empty).item() < 1e-6
    assert loss(wrong, empty).item() == pytest.approx(20.0, abs=1e-3)


def test_absent_region_still_has_a_dice_gradient() -> None:
    logits = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    DiceCELoss(ce_weight=0.0)(logits, torch.zeros(1, 1, 4, 4, 4)).backward()
    assert logits.grad is not None
    assert logits.grad.min().item() > 1e-6


def test_loss_is_float32_inside_autocast() -> None:
    logits, target = torch.randn(1, 3, 4, 4, 4), torch.ones(1, 3, 4, 4, 4)
    plain = DiceCELoss()(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(DiceCELoss()(logits, target), plain)


def test_unknown_loss_or_argument_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"did you mean dice_ce\?"):
        build_loss(LossConfig(name="dicece"))
    with pytest.raises(ConfigError, match="smoth"):
        build_loss(LossConfig(arguments={"smoth": 1}))
