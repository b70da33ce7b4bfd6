"""Networks from the configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brats_seg.config import LossConfig, NetworkConfig, load_config, recipe_names
from brats_seg.errors import ConfigError
from brats_seg.networks.build import (
    build_network,
    check_patch,
    check_window,
    count_weights,
    nearest_patch,
    stride_of,
)
from brats_seg.networks.heads import heads_of
from brats_seg.networks.losses import build_loss

SMALL = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]}
SUPERVISED = {**SMALL, "deep_supervision": True, "deep_supr_num": 1}
SWIN = {"feature_size": 12, "depths": [1] * 4, "num_heads": [1] * 4, "window_size": 2}
UNET = {"channels": [4, 8, 8], "strides": [2, 2]}
BASIC = {"features": [4, 4, 8, 8, 8, 4]}
FLEXIBLE = {"backbone": "resnet10", "decoder_channels": [16, 8, 8, 8, 8]}


def smallest_patch(network: NetworkConfig) -> tuple[int, int, int]:
    """Two voxels at the bottom: normalisation over one is refused."""
    first, *others = stride_of(network)
    k, j, i = (2 * first, *others) if network.spatial_dims == 3 else (1, 2 * first, *others)
    return k, j, i


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_takes_its_patch(name: str) -> None:
    config = load_config(name)
    network = build_network(config.network, in_channels=4, out_channels=3)
    check_patch(config.network, config.train.patch)
    k, j, i = smallest_patch(config.network)
    block = (k + 2 * config.network.neighbours, j, i)
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 4, *block)).shape == (1, 3, k, j, i)


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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dynunet", {**SMALL, "strides": [1]}, "MONAI's dynunet refuses them"),
        ("dynunet", {**SMALL, "strides": [2, 2, 2]}, r"strides=\[2, 2, 2\] begin with 2.*begin with 1"),
        ("dynunet", {**SMALL, "upsample_kernel_size": [3, 2]}, r"expected strides without the first, \[2, 2\]"),
        ("dynunet", {**SMALL, "deep_supervision": True, "deep_supr_num": 2}, "deep_supr_num should be less"),
        ("dynunet", {}, "MONAI's dynunet refuses them.*kernel_size"),
        ("dynunet", {**SMALL, "norm_name": "instanse"}, "MONAI's dynunet refuses them"),
        ("unet", {"channels": [4, 8, 8], "strides": [2]}, "the length of `strides`"),
        ("unet", {"channels": [4, 8], "strides": [2, 2]}, r"strides=\[2, 2\]: expected one number less"),
        ("unet", {**UNET, "up_kernel_size": 2}, "Same padding not available"),
        ("segresnet", {"blocks_down": [1, 2]}, r"blocks_up=\[1, 1, 1\]: expected one number less .*\[1, 2\]"),
        ("segresnet", {"norm": ["group", {"num_groups": 3}]}, "MONAI's segresnet refuses them"),
        ("segresnet_ds", {"blocks_up": [1]}, r"blocks_up=\[1\]: expected one number less"),
        ("attentionunet", {"channels": [4, 8], "strides": [2, 2]}, r"strides=\[2, 2\]: expected one number less"),
        ("basicunet", {"features": [4, 8]}, r"features=\[4, 8\]: expected six numbers"),
        ("flexibleunet", {"backbone": "resnet11"}, "invalid model_name resnet11"),
        ("flexibleunet", {"backbone": "resnet10", "pretrained": True}, "flexibleunet has no such argument"),
        ("swinunetr", {"feature_size": 13}, "divisible by 12"),
        ("swinunetr", {"patch_size": 4}, "patch_size=4: the decoder fits 2 only"),
        ("swinunetr", {"use_hyena": True}, "MONAI's swinunetr refuses them"),
    ],
)
def test_arguments_that_no_network_can_be_built_from_are_an_error_of_the_config(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    if name == "swinunetr":
        pytest.importorskip("einops", reason="needs the extra swin")
    with pytest.raises(ConfigError, match=message) as raised:
        build_network(NetworkConfig(name=name, arguments=arguments), in_channels=1, out_channels=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "arguments", "stride"),
    [
        ("dynunet", SUPERVISED, (4, 4, 4)),
        ("unet", UNET, (4, 4, 4)),
        ("unet", {**UNET, "strides": [[1, 2, 2], 2]}, (2, 4, 4)),
        ("segresnet", {}, (8, 8, 8)),
        ("segresnet", {"blocks_down": [1, 1, 1], "blocks_up": [1, 1], "upsample_mode": "deconv"}, (4, 4, 4)),
        ("segresnet_ds", {"init_filters": 4, "blocks_down": [1, 1, 1], "dsdepth": 2, "norm": "instance"}, (4, 4, 4)),
        ("segresnet_ds", {"init_filters": 4, "norm": "instance", "resolution": [4, 1, 1]}, (2, 8, 8)),
        ("attentionunet", UNET, (4, 4, 4)),
        ("basicunet", BASIC, (16, 16, 16)),
        ("basicunetplusplus", BASIC, (16, 16, 16)),
        ("swinunetr", SWIN, (32, 32, 32)),
    ],
)
@pytest.mark.parametrize("stem", [1, 2])
def test_every_network_takes_the_smallest_patch_of_its_stride_with_and_without_stem(
    name: str, arguments: dict[str, Any], stride: tuple[int, int, int], stem: int
) -> None:
    if name == "swinunetr":
        pytest.importorskip("einops", reason="needs the extra swin")
    config = NetworkConfig(name=name, stem=stem, arguments=arguments)
    assert stride_of(config) == tuple(stem * edge for edge in stride)
    network = build_network(config, in_channels=2, out_channels=3)
    patch = smallest_patch(config)
    volume = torch.randn(1, 2, *patch)
    output = network.train()(volume)
    for level, head in enumerate(heads_of(output)):
        assert head.shape == (1, 3, *(edge // 2**level for edge in patch))
    build_loss(LossConfig())(output, torch.zeros(1, 3, *patch)).backward()
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)
    with torch.inference_mode():
        logits = network.eval()(volume)
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (1, 3, *patch)


@pytest.mark.parametrize(
    ("name", "arguments", "stride"),
    [
        ("attentionunet", {**UNET, "dropout": 0.1}, 4),
        ("basicunet", {**BASIC, "norm": "batch", "dropout": 0.2}, 16),
        ("basicunetplusplus", {**BASIC, "norm": ["group", {"num_groups": 2}], "deep_supervision": True}, 16),
        ("dynunet", {**SUPERVISED, "norm_name": "instance", "dropout": 0.1}, 4),
        ("flexibleunet", FLEXIBLE, 32),
        ("flexibleunet", {**FLEXIBLE, "backbone": "efficientnet-b0", "dropout": 0.1}, 32),
        ("segresnet", {}, 8),
        ("unet", {**UNET, "strides": [2, [1, 2]], "norm": "batch", "num_res_units": 1}, (2, 4)),
    ],
)
@pytest.mark.parametrize("axis", [0, 2])
def test_networks_of_slices_take_and_give_slices_along_any_axis(
    name: str, arguments: dict[str, Any], stride: int | tuple[int, int], axis: int
) -> None:
    config = NetworkConfig(name=name, spatial_dims=2, neighbours=axis // 2, arguments=arguments)
    edges = stride_of(config)
    assert edges == (stride if isinstance(stride, tuple) else (stride, stride))
    network = build_network(config, in_channels=2, out_channels=3)
    patch = [2 * edge for edge in edges]
    patch.insert(axis, 1)
    seen = patch.copy()
    seen[axis] += 2 * config.neighbours
    output = network.train()(torch.randn(2, 2, *seen))
    assert heads_of(output)[0].shape == (2, 3, *patch)
    build_loss(LossConfig())(output, torch.zeros(2, 3, *patch)).backward()
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)
    with torch.inference_mode():
        assert network.eval()(torch.randn(1, 2, *seen)).shape == (1, 3, *patch)


def test_stem_of_slices_folds_their_plane_alone() -> None:
    config = NetworkConfig(spatial_dims=2, stem=2, arguments=SMALL)
    assert stride_of(config) == (8, 8)
    assert nearest_patch(config, (1, 20, 31)) == (1, 16, 32)
    network = build_network(config, in_channels=2, out_channels=1)
    assert network(torch.zeros(1, 2, 1, 16, 24)).shape == (1, 1, 1, 16, 24)


@pytest.mark.parametrize(
    ("dims", "patch", "message"),
    [
        (2, (16, 16, 16), r"spatial_dims=2 takes exactly one edge of 1; use train\.patch=\[1, 16, 16\]"),
        (3, (1, 16, 16), r"spatial_dims=3 takes no edge of 1; use network\.spatial_dims=2"),
        (2, (18, 1, 16), r"multiple of \[4, 1, 4\] \(strides x stem\); the nearest is \[16, 1, 16\]"),
        (2, (1, 4, 4), r"one voxel is left.*use at least \[1, 8, 8\]"),
    ],
)
def test_patch_of_the_other_kind_is_refused(dims: int, patch: tuple[int, int, int], message: str) -> None:
    config = NetworkConfig.model_validate({"spatial_dims": dims, "arguments": SMALL})
    with pytest.raises(ConfigError, match=message):
        check_patch(config, patch)


def test_window_and_mirrorings_keep_to_the_plane_that_was_trained() -> None:
    config = NetworkConfig(spatial_dims=2, arguments=SMALL)
    check_window(config, (1, 16, 24), (1, 16, 16), ("J", "I"))
    with pytest.raises(ConfigError, match=r"inference\.window=\[16, 1, 16\].*trained on slices of \[1, 16, 16\]"):
        check_window(config, (16, 1, 16), (1, 16, 16), "none")
    with pytest.raises(ConfigError, match=r"inference\.tta=\['K', 'J'\].*cannot be mirrored along K"):
        check_window(config, (1, 16, 16), (1, 16, 16), ("K", "J"))


def test_supervised_networks_have_as_many_heads_as_asked_for() -> None:
    def num_heads(name: str, arguments: dict[str, Any]) -> int:
        network = build_network(NetworkConfig(name=name, arguments=arguments), in_channels=1, out_channels=1)
        return len(heads_of(network(torch.randn(1, 1, 32, 16, 16))))

    assert num_heads("dynunet", SMALL) == 1
    assert num_heads("dynunet", SUPERVISED) == 2
    assert num_heads("segresnet_ds", {"init_filters": 4, "dsdepth": 3}) == 3
    assert num_heads("basicunetplusplus", {**BASIC, "deep_supervision": True}) == 4


def test_network_by_its_name_alone_has_monais_defaults() -> None:
    assert NetworkConfig(name="segresnet").arguments == {}
    assert NetworkConfig().arguments["deep_supervision"] is True


def test_missing_package_of_a_network_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_seg.networks.build.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"swinunetr: needs the package einops.*pip install einops.*brats_seg\[swin\]"
    ):
        build_network(NetworkConfig(name="swinunetr"), in_channels=1, out_channels=1)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("dynunet", {**SMALL, "strides": [1, [2, 2], 2]}), ("segresnet", {"blocks_down": 3}), ("unet", {"strides": "x"})],
)
def test_arguments_without_a_stride_are_an_error_of_the_config(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no strides can be told"):
        check_patch(NetworkConfig(name=name, arguments=arguments), (16, 16, 16))
