"""Activation checkpointing: the same numbers from less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brats_seg.config import NetworkConfig, load_config
from brats_seg.errors import ConfigError
from brats_seg.networks.build import build_network
from brats_seg.networks.heads import heads_of
from brats_seg.networks.recomputing import recompute_blocks

DYNUNET: dict[str, Any] = {
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [8, 16, 16],
    "norm_name": ["instance", {"affine": True}],
    "act_name": ["leakyrelu", {"negative_slope": 0.01, "inplace": True}],
}
NETWORKS = {
    "dynunet": NetworkConfig(name="dynunet", arguments=DYNUNET),
    "heads": NetworkConfig(
        name="dynunet", stem=2, arguments=DYNUNET | {"deep_supervision": True, "deep_supr_num": 1, "dropout": 0.3}
    ),
    "segresnet": NetworkConfig(name="segresnet", arguments={"init_filters": 8}),
    "segresnet_ds": NetworkConfig(name="segresnet_ds", arguments={"init_filters": 8, "dsdepth": 2, "norm": "INSTANCE"}),
    "unet": NetworkConfig(name="unet", arguments={"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 2}),
}


def stepped(network: nn.Module, image: Tensor) -> tuple[list[Tensor], dict[str, Tensor], int]:
    """Return logits of all heads, gradients, and the bytes that were kept for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(5)  # dropout
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = heads_of(network(image))
    weights = {tensor.data_ptr() for tensor in network.parameters()}
    sum(head.square().mean() for head in logits).backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return list(logits), gradients, sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same_from_fewer_kept_activations(name: str) -> None:
    image = torch.rand(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = build_network(NETWORKS[name], in_channels=4, out_channels=3).train()
    thrifty = copy.deepcopy(plain)
    assert recompute_blocks(thrifty) >= 3
    assert list(thrifty.state_dict()) == list(plain.state_dict())
    (logits, gradients, kept), (same_logits, same_gradients, fewer) = (stepped(net, image) for net in (plain, thrifty))
    for first, second in zip(logits, same_logits, strict=True):
        torch.testing.assert_close(second, first)
    assert same_gradients.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[weight], gradient, msg=weight)
    assert fewer < 0.6 * kept, (fewer, kept)


def test_prediction_without_gradients_is_the_same() -> None:
    image = torch.rand(1, 4, 16, 16, 16)
    plain = build_network(NETWORKS["dynunet"], in_channels=4, out_channels=3).eval()
    thrifty = copy.deepcopy(plain)
    recompute_blocks(thrifty)
    with torch.inference_mode():
        assert torch.equal(plain(image), thrifty(image))


def test_batch_normalisation_is_refused() -> None:
    network = NetworkConfig(name="dynunet", arguments=DYNUNET | {"norm_name": "batch"})
    with pytest.raises(ConfigError, match="batch normalisation, whose running statistics would be moved twice"):
        recompute_blocks(build_network(network, in_channels=4, out_channels=3))


def test_network_without_known_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="found no block to recompute"):
        recompute_blocks(nn.Conv3d(1, 1, 1))


@pytest.mark.parametrize("name", ["default", "brats2020_segresnet", "cpu_small"])
def test_blocks_of_the_recipes_are_found(name: str) -> None:
    assert recompute_blocks(build_network(load_config(name).network, in_channels=4, out_channels=3)) >= 9
