"""Losses against values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.losses.dice import DiceLoss as MonaiDice
from monai.losses.focal_loss import FocalLoss as MonaiFocal
from monai.losses.tversky import TverskyLoss as MonaiTversky
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from brats_seg.config import LossConfig
from brats_seg.errors import ConfigError
from brats_seg.networks.losses import (
    LOSSES,
    BCELoss,
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    TverskyLoss,
    build_loss,
)

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4


def four_voxels() -> tuple[Tensor, Tensor]:
    """One region: p = 3/4, 3/4, 1/4, 1/4; the target is voxel 0 and 2. So TP = FP = FN = 1."""
    logits = torch.tensor([LN3, LN3, -LN3, -LN3]).reshape(1, 1, 1, 1, 4)
    return logits, torch.tensor([1.0, 0, 1, 0]).reshape(1, 1, 1, 1, 4)


def random_case(batch: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    shape = (batch, 3, 4, 5, 6)
    return torch.randn(shape, generator=random), (torch.rand(shape, generator=random) < 0.3).float()


def test_dice_and_cross_entropy_of_four_voxels_by_hand() -> None:
    dice = 1 - (2 * 1 + 1) / (2 + 2 + 1)  # intersection 1, sums 2 and 2, smooth 1
    cross_entropy = -(math.log(0.75) + math.log(0.25) + math.log(0.25) + math.log(0.75)) / 4
    assert DiceCELoss()(*four_voxels()).item() == pytest.approx(dice + cross_entropy, abs=1e-6)
    assert DiceCELoss(2.0, 0.0, smooth_nr=0.5)(*four_voxels()).item() == pytest.approx(2 * (1 - 2.5 / 5))


def test_binary_cross_entropy_of_four_voxels_by_hand() -> None:
    expected = -(math.log(0.75) + math.log(0.25) + math.log(0.25) + math.log(0.75)) / 4
    assert BCELoss()(*four_voxels()).item() == pytest.approx(expected)
    assert build_loss(LossConfig(name="bce"))(*four_voxels()).item() == pytest.approx(expected)


def test_focal_loss_of_four_voxels_by_hand() -> None:
    # Probability of the truth: 3/4, 1/4, 1/4, 3/4. Voxels 0 and 2 lie inside.
    right, wrong = -(0.25**2) * math.log(0.75), -(0.75**2) * math.log(0.25)
    assert FocalLoss()(*four_voxels()).item() == pytest.approx((2 * right + 2 * wrong) / 4)
    weighted = (0.9 * right + 0.1 * wrong + 0.9 * wrong + 0.1 * right) / 4
    assert FocalLoss(alpha=0.9)(*four_voxels()).item() == pytest.approx(weighted)


def test_focal_loss_without_focus_is_binary_cross_entropy() -> None:
    assert torch.allclose(FocalLoss(gamma=0.0)(*random_case()), binary_cross_entropy_with_logits(*random_case()))


def test_dice_focal_is_their_weighted_sum() -> None:
    loss = DiceFocalLoss(2.0, 3.0, gamma=1.5, alpha=0.7, smooth_dr=2.0)
    expected = 2 * DiceLoss(smooth_dr=2.0)(*random_case()) + 3 * FocalLoss(1.5, 0.7)(*random_case())
    assert torch.allclose(loss(*random_case()), expected)


def test_tversky_of_four_voxels_by_hand() -> None:
    loss = TverskyLoss(alpha=0.25, beta=0.75, smooth_nr=0.5, smooth_dr=1.0)
    logits, target = four_voxels()
    assert loss(logits, target).item() == pytest.approx(1 - (1 + 0.5) / (1 + 0.25 + 0.75 + 1))
    target[..., 2] = 0  # TP 3/4, FP 3/4 + 1/4 + 1/4 = 5/4, FN 1/4
    assert loss(logits, target).item() == pytest.approx(1 - (0.75 + 0.5) / (0.75 + 0.25 * 1.25 + 0.75 * 0.25 + 1))


@pytest.mark.parametrize(("w_type", "weights"), [("square", (1, 1 / 4)), ("simple", (1, 1 / 2)), ("uniform", (1, 1))])
def test_generalised_dice_of_two_regions_by_hand(w_type: str, weights: tuple[float, float]) -> None:
    # Region 0 has one voxel: TP 3/4, FP 5/4, FN 1/4. Region 1 has two: TP = FP = FN = 1.
    logits, two = four_voxels()
    one = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 1, 1, 4)
    first, second = weights
    numerator = 2 * (first * 0.75 + second * 1) + 1
    denominator = first * (1.5 + 1.25 + 0.25) + second * 4 + 1
    loss = GeneralizedDiceLoss(w_type)(torch.cat([logits, logits], 1), torch.cat([one, two], 1))
    assert loss.item() == pytest.approx(1 - numerator / denominator)


def test_generalised_dice_gives_an_absent_region_the_largest_weight() -> None:
    logits, two = four_voxels()
    loss = GeneralizedDiceLoss()(torch.cat([logits, logits], 1), torch.cat([two, torch.zeros_like(two)], 1))
    assert loss.item() == pytest.approx(1 - (2 * 1 + 1) / (4 + 2 + 1))  # the absent one: FP = 2


@pytest.mark.parametrize(
    ("ours", "monais"),
    [
        (DiceLoss(smooth_nr=0.3, smooth_dr=0.7), MonaiDice(sigmoid=True, batch=True, smooth_nr=0.3, smooth_dr=0.7)),
        (DiceLoss(batch=False), MonaiDice(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)),
        (TverskyLoss(0.3, 0.6), MonaiTversky(sigmoid=True, alpha=0.3, beta=0.6, smooth_nr=1, smooth_dr=1, batch=True)),
        (FocalLoss(1.3, 0.4), MonaiFocal(gamma=1.3, alpha=0.4)),
    ],
    ids=["dice", "dice of each sample", "tversky", "focal"],
)
def test_loss_equals_monais_where_monai_has_it(ours: torch.nn.Module, monais: torch.nn.Module) -> None:
    assert torch.allclose(ours(*random_case()), monais(*random_case()))


def test_background_voxels_have_a_cross_entropy() -> None:
    """MONAI's softmax variant gives a voxel outside every region no cross-entropy at all."""
    empty = torch.zeros(1, 3, 2, 2, 2)
    sure, wrong = torch.full_like(empty, -20.0), torch.full_like(empty, 20.0)
    loss = DiceCELoss(lambda_dice=0.0)
    assert loss(sure, empty).item() < 1e-6
    assert loss(wrong, empty).item() == pytest.approx(20.0, abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
def test_empty_and_full_targets_are_finite_at_any_logit(name: str, value: float) -> None:
    loss = build_loss(LossConfig(name=name))
    for target in (torch.zeros(1, 3, 4, 4, 4), torch.ones(1, 3, 4, 4, 4)):
        logits = torch.full((1, 3, 4, 4, 4), value, requires_grad=True)
        result = loss(logits, target)
        result.backward()
        assert math.isfinite(result.item())
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_absent_regions_are_unlearned(name: str) -> None:
    """Even where no region is present at all, every logit has a gradient that lowers it."""
    logits = torch.zeros(1, 3, 4, 4, 4, requires_grad=True)
    build_loss(LossConfig(name=name))(logits, torch.zeros(1, 3, 4, 4, 4)).backward()
    assert logits.grad is not None
    assert logits.grad.min().item() > 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_prediction_costs_nothing_and_less_than_any_other(name: str) -> None:
    loss = build_loss(LossConfig(name=name))
    _, target = random_case()
    perfect = loss((target * 2 - 1) * 30, target).item()
    assert perfect == pytest.approx(0, abs=1e-5)
    assert perfect < loss(torch.zeros_like(target), target).item() < loss((1 - target * 2) * 30, target).item()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_float32_inside_autocast(name: str) -> None:
    logits, target = random_case()
    loss = build_loss(LossConfig(name=name))
    plain = loss(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, target), plain)
    assert loss(logits.bfloat16(), target.bool()).dtype == torch.float32


@pytest.mark.parametrize("name", ["dice", "tversky", "generalized_dice", "dice_ce", "dice_focal"])
def test_sums_go_through_the_given_function_over_processes(name: str) -> None:
    """A batch taken apart gives the loss of the whole one, once the parts' sums are added."""
    logits, target = random_case(batch=4)
    expected = build_loss(LossConfig(name=name))(logits, target)
    seen: list[Tensor] = []

    def remember(sums: Tensor) -> Tensor:
        seen.append(sums)
        return sums

    build_loss(LossConfig(name=name), remember)(logits[:1], target[:1])
    assert seen[0].shape == (3, 3)
    rest = build_loss(LossConfig(name=name), lambda sums: sums + seen[0])
    voxelwise = {"dice_ce": FocalLoss(0.0), "dice_focal": FocalLoss()}.get(name)
    difference = 0.0 if voxelwise is None else voxelwise(logits[1:], target[1:]) - voxelwise(logits, target)
    assert torch.allclose(rest(logits[1:], target[1:]) - difference, expected)


def test_each_sample_alone_asks_no_other_process() -> None:
    def fail(sums: Tensor) -> Tensor:
        raise AssertionError(sums)

    build_loss(LossConfig(arguments={"batch": False}), fail)(*random_case())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dicece", {}, r"train\.loss\.name=dicece: .*did you mean dice_ce\?"),
        (
            "dice_ce",
            {"smoth_nr": 1},
            r"train\.loss\.arguments\.smoth_nr: dice_ce has no such.*did you mean smooth_nr\?",
        ),
        ("dice_ce", {"lambda_ce": -1}, r"train\.loss\.arguments\.lambda_ce=-1: expected a number of at least 0"),
        ("dice_ce", {"lambda_ce": "much"}, r"lambda_ce='much': expected a number"),
        ("focal", {"alpha": 1.5}, r"alpha=1\.5: expected a number from 0 to 1"),
        ("tversky", {"beta": True}, r"beta=True: expected a number"),
        ("tversky", {"smooth_dr": 0}, r"smooth_dr=0: expected"),
        ("dice", {"batch": 1}, r"batch=1: expected true or false"),
        ("generalized_dice", {"w_type": "squared"}, r"w_type=squared; did you mean square\?"),
    ],
)
def test_wrong_loss_or_argument_is_named_with_what_is_expected(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss(LossConfig(name=name, arguments=arguments))
