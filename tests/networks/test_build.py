"""Networks from the configuration."""

from __future__ import annotations

import pytest
import torch

from brats_seg.config import NetworkConfig, load_config, recipe_names
from brats_seg.errors import ConfigError
from brats_seg.networks.build import build_network, check_patch, count_weights, nearest_patch, stride_of

SMALL = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_takes_its_patch(name: str) -> None:
    config = load_config(name)
    network = build_network(config.network, in_channels=4, out_channels=3)
    check_patch(config.network, config.train.patch)
    smallest = tuple(2 * s for s in stride_of(config.network))
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 4, *smallest)).shape == (1, 3, *smallest)


def test_lean_network_has_the_weights_of_its_design() -> None:
    assert count_weights(build_network(load_config("cpu_small").network, in_channels=4, out_channels=3)) == 5_659_928


def test_weights_depend_on_the_seed_alone() -> None:
    config = NetworkConfig(arguments=SMALL)
    first, second, other = (build_network(config, in_channels=1, out_channels=1, seed=seed) for seed in (3, 3, 4))
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_network(NetworkConfig(arguments=SMALL), in_channels=1, out_channels=1)
    assert torch.equal(torch.rand(1), expected)


def test_stride_is_strides_times_stem() -> None:
    assert stride_of(load_config("cpu_small").network) == (32, 32, 32)
    anisotropic = {**SMALL, "strides": [1, 2, [1, 2, 2]]}
    assert stride_of(NetworkConfig(stem=2, arguments=anisotropic)) == (4, 8, 8)


def test_patch_that_the_stride_does_not_divide_names_the_nearest() -> None:
    network = load_config("cpu_small").network
    assert nearest_patch(network, (100, 64, 10)) == (96, 64, 32)
    with pytest.raises(
        ConfigError, match=r"train\.patch=\[100, 64, 64\].*multiple of \[32, 32, 32\].*nearest is \[96, 64, 64\]"
    ):
        check_patch(network, (100, 64, 64))


def test_patch_that_leaves_one_voxel_at_the_bottom_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"one voxel is left.*\[64, 64, 64\]"):
        check_patch(load_config("cpu_small").network, (32, 32, 32))


def test_unknown_network_and_argument_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"network\.name=dynunett.*did you mean dynunet\?"):
        build_network(NetworkConfig(name="dynunett"), in_channels=1, out_channels=1)
    with pytest.raises(ConfigError, match=r"network\.arguments\.filter: .*did you mean filters\?"):
        build_network(NetworkConfig(arguments={**SMALL, "filter": [1]}), in_channels=1, out_channels=1)


def test_channels_cannot_be_set_by_hand() -> None:
    with pytest.raises(ConfigError, match="in_channels"):
        build_network(NetworkConfig(arguments={**SMALL, "in_channels": 9}), in_channels=1, out_channels=1)


def test_arguments_that_contradict_each_other_are_an_error_of_the_config() -> None:
    with pytest.raises(ConfigError, match="MONAI's dynunet refuses them"):
        build_network(NetworkConfig(arguments={**SMALL, "strides": [1]}), in_channels=1, out_channels=1)
