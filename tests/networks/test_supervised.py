"""MONAI's networks with deep supervision: the same numbers as MONAI's, for less."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet_ds import SegResNetDS
from torch.nn.functional import interpolate

from brats_seg.networks.supervised import SupervisedDynUNet, SupervisedSegResNetDS

SMALL: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 3,
    "kernel_size": [3] * 4,
    "strides": [1, 2, 2, [1, 2, 2]],
    "upsample_kernel_size": [2, 2, [1, 2, 2]],
    "filters": [4, 8, 8, 8],
    "deep_supervision": True,
    "deep_supr_num": 2,
}


def pair(**more: Any) -> tuple[SupervisedDynUNet, DynUNet]:
    ours, monais = SupervisedDynUNet(**SMALL | more), DynUNet(**SMALL | more)
    monais.load_state_dict(ours.state_dict())  # the same names, all of them
    return ours, monais


@pytest.mark.parametrize("num_heads", [1, 2])
def test_heads_equal_monais_once_blown_up(num_heads: int) -> None:
    ours, monais = pair(deep_supr_num=num_heads)
    volume = torch.randn(1, 2, 8, 16, 16)
    heads, stacked = ours.train()(volume), monais.train()(volume)
    assert [tuple(head.shape[2:]) for head in heads] == [(8, 16, 16), (4, 8, 8), (2, 4, 4)][: num_heads + 1]
    for head, expected in zip(heads, stacked.unbind(1), strict=True):
        assert torch.equal(interpolate(head, (8, 16, 16)), expected)


def test_prediction_is_monais_and_runs_no_head() -> None:
    ours, monais = pair()
    for head in ours.deep_supervision_heads:
        head.register_forward_hook(lambda *_: pytest.fail("a head ran"))
    volume = torch.randn(1, 2, 8, 16, 16)
    assert torch.equal(ours.eval()(volume), monais.eval()(volume))


def test_network_without_heads_gives_logits_in_training_as_well() -> None:
    ours, monais = pair(deep_supervision=False)
    volume = torch.randn(1, 2, 8, 16, 16)
    assert torch.equal(ours.train()(volume), monais.train()(volume))


def test_network_can_be_copied_after_a_training_step() -> None:
    """MONAI's keeps its heads of the last step, which cannot be copied."""
    ours, _ = pair()
    ours.train()(torch.randn(1, 2, 8, 16, 16))
    copy.deepcopy(ours)


def test_segresnet_gives_monais_heads_in_training_and_runs_one_for_prediction() -> None:
    arguments: dict[str, Any] = {"init_filters": 4, "in_channels": 2, "out_channels": 3, "dsdepth": 3}
    ours, monais = SupervisedSegResNetDS(**arguments), SegResNetDS(**arguments)
    monais.load_state_dict(ours.state_dict())
    volume = torch.randn(1, 2, 16, 16, 16)
    for head, expected in zip(ours.train()(volume), monais.train()(volume), strict=True):
        assert torch.equal(head, expected)
    monais.load_state_dict(ours.state_dict())
    expected = monais.eval()(volume)
    guards = [
        level["head"].register_forward_hook(lambda *_: pytest.fail("a head ran")) for level in ours.up_layers[:-1]
    ]
    assert torch.equal(ours.eval()(volume), expected)
    for guard in guards:
        guard.remove()
    assert len(ours.train()(volume)) == 3
