"""Networks by name, from the configuration: a small registry over MONAI's own classes and argument names.

To add a network, add a row to `NETWORKS`: its class, and by what its input must be divisible.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from brats_seg.config import NetworkConfig
from brats_seg.errors import ConfigError, did_you_mean
from brats_seg.networks.convolutions import make_convolutions_safe
from brats_seg.networks.slices import SliceWise, slice_axis
from brats_seg.networks.stem import SpaceToDepth

__all__ = [
    "NETWORKS",
    "NetworkRow",
    "build_network",
    "check_patch",
    "check_window",
    "count_weights",
    "nearest_patch",
    "stride_of",
    "stride_of_patch",
]


Shape = tuple[int, int, int]
Stride = tuple[int, ...]
"""A number for each axis of the network, three or two."""

_REFUSALS = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ImportError,
)
"""What MONAI raises for arguments that it cannot build a network from."""
_GIVEN_BY_US = frozenset({"self", "spatial_dims", "in_channels", "out_channels"})


@dataclass(frozen=True)
class NetworkRow:
    """One network of the registry."""

    network: Callable[[], type[nn.Module]]
    """Imports its class (MONAI takes a second to import)."""
    stride: Callable[[Mapping[str, Any], int], Stride]
    """By how much the network reduces each axis in total, from its arguments and its number of axes."""
    check: Callable[[Mapping[str, Any]], str | None] = lambda arguments: None
    """Says what is wrong with arguments that the class itself takes, and that fail or go wrong at the first patch."""
    refused: frozenset[str] = frozenset()
    """Arguments of the class that a recipe cannot give."""
    package: str | None = None
    """Optional package that it needs."""
    extra: str = ""
    """Extra of ours that brings this package."""

    def accepted(self) -> frozenset[str]:
        """Return the names of the arguments that a recipe may give."""
        parameters = inspect.signature(_monai_class(self.network())).parameters
        return frozenset(parameters) - _GIVEN_BY_US - self.refused

    def build(self, in_channels: int, out_channels: int, dims: int, arguments: Mapping[str, Any]) -> nn.Module:
        """Return the network of `dims` axes with fresh weights.

        Raises:
            ValueError: arguments that cannot work together; MONAI raises others as well.
        """
        if wrong := self.check(arguments):
            raise ValueError(wrong)
        network = self.network()
        values = {key: _as_tuple(value) for key, value in arguments.items()}
        return network(spatial_dims=dims, in_channels=in_channels, out_channels=out_channels, **values)


def _monai_class(network: type[nn.Module]) -> type[nn.Module]:
    """Return MONAI's class of a class of ours that only changes how it is called."""
    return next(base for base in network.__mro__ if base.__module__.startswith("monai."))


def _dynunet() -> type[nn.Module]:
    from brats_seg.networks.supervised import SupervisedDynUNet  # noqa: PLC0415

    return SupervisedDynUNet


def _attentionunet() -> type[nn.Module]:
    from monai.networks.nets.attentionunet import AttentionUnet  # noqa: PLC0415

    return AttentionUnet


def _basicunet() -> type[nn.Module]:
    from monai.networks.nets.basic_unet import BasicUNet  # noqa: PLC0415

    return BasicUNet


def _basicunetplusplus() -> type[nn.Module]:
    from brats_seg.networks.supervised import SupervisedBasicUNetPlusPlus  # noqa: PLC0415

    return SupervisedBasicUNetPlusPlus


def _flexibleunet() -> type[nn.Module]:
    from brats_seg.networks.supervised import BackboneUNet  # noqa: PLC0415

    return BackboneUNet


def _segresnet() -> type[nn.Module]:
    from monai.networks.nets.segresnet import SegResNet  # noqa: PLC0415

    return SegResNet


def _segresnet_ds() -> type[nn.Module]:
    from brats_seg.networks.supervised import SupervisedSegResNetDS  # noqa: PLC0415

    return SupervisedSegResNetDS


def _swinunetr() -> type[nn.Module]:
    from monai.networks.nets.swin_unetr import SwinUNETR  # noqa: PLC0415

    return SwinUNETR


def _unet() -> type[nn.Module]:
    from monai.networks.nets.unet import UNet  # noqa: PLC0415

    return UNet


def _of_strides(arguments: Mapping[str, Any], dims: int) -> Stride:
    """Return the product of `strides`, each one number or one an axis."""
    return _product(arguments.get("strides", []), dims)


def _of_levels(arguments: Mapping[str, Any], dims: int) -> Stride:
    """Return the stride of SegResNet: 2 between the levels of `blocks_down`."""
    return (2 ** (len(arguments.get("blocks_down", (1, 2, 2, 4))) - 1),) * dims


def _fixed(edge: int) -> Callable[[Mapping[str, Any], int], Stride]:
    """Return the stride of a network whose depth no argument changes."""
    return lambda arguments, dims: (edge,) * dims


def _of_resolution(arguments: Mapping[str, Any], dims: int) -> Stride:
    """Return the stride of SegResNetDS; `resolution` (mm) makes it smaller along coarse axes."""
    from monai.networks.nets.segresnet_ds import scales_for_resolution  # noqa: PLC0415

    if not arguments.get("resolution"):
        return _of_levels(arguments, dims)
    num_levels = len(arguments.get("blocks_down", (1, 2, 2, 4)))
    scales = scales_for_resolution(arguments["resolution"], num_levels)[: num_levels - 1]
    return _product([list(map(int, scale)) for scale in scales], dims)


def _of_patch_size(arguments: Mapping[str, Any], dims: int) -> Stride:
    """Return the stride of SwinUNETR: its patch embedding and four merges."""
    return (arguments.get("patch_size", 2) * 2**4,) * dims


def _product(strides: Sequence[int | Sequence[int]], dims: int) -> Stride:
    by_axis = [_along_axes(stride, dims) for stride in strides]
    return tuple(math.prod(axis) for axis in zip(*by_axis, strict=True)) if by_axis else (1,) * dims


def _along_axes(stride: int | Sequence[int], dims: int) -> list[int]:
    """Return a stride as one number an axis."""
    along = [stride] * dims if isinstance(stride, int) else list(stride)
    if len(along) != dims:
        raise ValueError(f"strides {along}: expected one number, or {dims}")
    return along


def _check_dynunet(arguments: Mapping[str, Any]) -> str | None:
    strides, upsampling = list(arguments.get("strides", [])), list(arguments.get("upsample_kernel_size", []))
    if strides and not _is_same(strides[0], 1):
        return f"strides={strides} begin with {strides[0]}: logits would be smaller than the patch; begin with 1"
    if len(upsampling) != len(strides[1:]) or not all(map(_is_same, upsampling, strides[1:])):
        return f"upsample_kernel_size={upsampling}: expected strides without the first, {strides[1:]}"
    return None


def _is_same(stride: int | Sequence[int], other: int | Sequence[int]) -> bool:
    """Return whether strides are equal along every axis; one number stands for all axes."""
    return bool(np.all(np.equal(stride, other)))


def _check_segresnet(arguments: Mapping[str, Any]) -> str | None:
    down, up = arguments.get("blocks_down", (1, 2, 2, 4)), arguments.get("blocks_up", (1, 1, 1))
    if up is not None and len(up) != len(down) - 1:
        return f"blocks_up={list(up)}: expected one number less than in blocks_down={list(down)}"
    return None


def _check_segresnet_ds(arguments: Mapping[str, Any]) -> str | None:
    return _check_segresnet({"blocks_up": None, **arguments})


def _check_unet(arguments: Mapping[str, Any]) -> str | None:
    channels, strides = arguments.get("channels", []), arguments.get("strides", [])
    if len(strides) > max(len(channels) - 1, 0):
        return f"strides={strides}: expected one number less than in channels={channels}"
    return None


def _check_basicunet(arguments: Mapping[str, Any]) -> str | None:
    features = arguments.get("features", (32,) * 6)
    return None if len(features) == 6 else f"features={list(features)}: expected six numbers: five levels, the last one"


def _check_swinunetr(arguments: Mapping[str, Any]) -> str | None:
    if arguments.get("patch_size", 2) != 2:
        return f"patch_size={arguments['patch_size']}: the decoder fits 2 only"
    return None


def _as_tuple(value: Any) -> Any:
    """Return [name, {...}] as a tuple, which is how MONAI's factories expect a layer with arguments."""
    is_layer = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
    return tuple(value) if is_layer else value


NETWORKS: Mapping[str, NetworkRow] = {
    "attentionunet": NetworkRow(_attentionunet, _of_strides, _check_unet),
    "basicunet": NetworkRow(_basicunet, _fixed(16), _check_basicunet),
    "basicunetplusplus": NetworkRow(_basicunetplusplus, _fixed(16), _check_basicunet),
    "dynunet": NetworkRow(_dynunet, _of_strides, _check_dynunet),
    "flexibleunet": NetworkRow(_flexibleunet, _fixed(32), refused=frozenset({"pretrained"})),
    "segresnet": NetworkRow(
        _segresnet, _of_levels, _check_segresnet, frozenset({"norm_name", "num_groups", "use_conv_final"})
    ),
    "segresnet_ds": NetworkRow(_segresnet_ds, _of_resolution, _check_segresnet_ds, frozenset({"preprocess"})),
    "swinunetr": NetworkRow(
        _swinunetr, _of_patch_size, _check_swinunetr, frozenset({"norm_layer"}), package="einops", extra="swin"
    ),
    "unet": NetworkRow(_unet, _of_strides, _check_unet),
}
"""All networks by name. `dynunet`, `segresnet_ds` and `basicunetplusplus` can have deep supervision, by MONAI's own
arguments. `flexibleunet` takes its backbones (`resnet10` ... `efficientnet-b8`) with fresh weights alone."""


def build_network(network: NetworkConfig, *, in_channels: int, out_channels: int, seed: int = 0) -> nn.Module:
    """Return the network with fresh weights that depend on `seed` alone; it maps (B, C, K, J, I) to logits.

    A network of two axes (`spatial_dims`) takes blocks one slice thick, or 1 + 2 `neighbours` slices (`SliceWise`).
    With deep supervision it gives in training mode what `heads.heads_of` takes apart, and logits alone otherwise.

    Raises:
        ConfigError: unknown network or argument, arguments that MONAI refuses, or a package that is not installed.
    """
    row = _row(network.name)
    if row.package and find_spec(row.package) is None:
        raise ConfigError(
            f"network.name={network.name}: needs the package {row.package}, which is not installed; "
            f"pip install {row.package} (it comes with brats_seg[{row.extra}])"
        )
    unknown = sorted(set(network.arguments) - row.accepted())
    if unknown:
        raise ConfigError(
            f"network.arguments.{unknown[0]}: {network.name} has no such argument"
            f"{did_you_mean(unknown[0], row.accepted())}"
        )
    block = network.stem**network.spatial_dims
    num_slices = 1 + 2 * network.neighbours
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            body = row.build(
                in_channels * num_slices * block, out_channels * block, network.spatial_dims, network.arguments
            )
        except _REFUSALS as error:
            raise ConfigError(
                f"network.arguments: MONAI's {network.name} refuses them: {' '.join(str(error).split())}"
            ) from error
    make_convolutions_safe(body)
    whole = SpaceToDepth(body, network.stem) if network.stem > 1 else body
    return SliceWise(whole) if network.spatial_dims == 2 else whole


def stride_of(network: NetworkConfig) -> Stride:
    """Return by what each axis of the input (K, J, I, or the two of a slice) must be divisible, the stem included.

    Raises:
        ConfigError: unknown network, or arguments that no network can be built from.
    """
    row = _row(network.name)
    try:
        return tuple(network.stem * s for s in row.stride(network.arguments, network.spatial_dims))
    except _REFUSALS as error:
        raise ConfigError(f"network.arguments: no strides can be told from {network.arguments} ({error})") from error


def nearest_patch(network: NetworkConfig, patch: Shape) -> Shape:
    """Return the patch nearest to `patch` that the network accepts."""
    k, j, i = (max(round(p / s), 1) * s for p, s in zip(patch, stride_of_patch(network, patch), strict=True))
    return k, j, i


def check_patch(network: NetworkConfig, patch: Shape, key: str = "train.patch") -> None:
    """Refuse a patch or window that the network cannot take.

    Raises:
        ConfigError: it is a volume and the network one of slices, or the other way round; it is no multiple of the
            stride (names the nearest that is); or one voxel is left at the bottom, where instance normalisation has
            nothing to normalise over.
    """
    dims = network.spatial_dims
    if (slice_axis(patch) is None) != (dims == 3):
        remedy = f"{key}={[1, *patch[1:]]}" if dims == 2 else "network.spatial_dims=2, or a thicker one"
        expected = "exactly one edge of 1" if dims == 2 else "no edge of 1"
        raise ConfigError(f"{key}={list(patch)}: network.spatial_dims={dims} takes {expected}; use {remedy}")
    stride = stride_of_patch(network, patch)
    if any(p % s for p, s in zip(patch, stride, strict=True)):
        near = list(nearest_patch(network, patch))
        raise ConfigError(
            f"{key}={list(patch)}: each edge must be a multiple of {list(stride)} (strides x stem); "
            f"the nearest is {near}"
        )
    if math.prod(p // s for p, s in zip(patch, stride, strict=True)) < 2:
        larger = [2 * s if p > 1 else 1 for s, p in zip(stride, patch, strict=True)]
        raise ConfigError(f"{key}={list(patch)}: one voxel is left at the network's bottom; use at least {larger}")


def check_window(network: NetworkConfig, window: Shape, patch: Shape, tta: str | Sequence[str]) -> None:
    """Refuse a window of inference, or mirrorings, that a network trained on patches of `patch` cannot take.

    Raises:
        ConfigError: as `check_patch`; or the window is a slice along another axis than the patch, or slices are to be
            mirrored along their slice axis.
    """
    check_patch(network, window, "inference.window")
    axis = slice_axis(patch)
    if slice_axis(window) != axis:
        raise ConfigError(
            f"inference.window={list(window)}: the network was trained on slices of {list(patch)}; "
            "expected the edge of 1 along the same axis"
        )
    if axis is not None and not isinstance(tta, str) and "KJI"[axis] in tta:
        raise ConfigError(
            f"inference.tta={list(tta)}: slices of {list(patch)} cannot be mirrored along {'KJI'[axis]}; use the others"
        )


def stride_of_patch(network: NetworkConfig, patch: Sequence[int]) -> Stride:
    """Return the stride along K, J, I; 1 along the slice axis of a patch of slices."""
    axis, stride = slice_axis(patch), stride_of(network)
    return stride if axis is None else (*stride[:axis], 1, *stride[axis:])


def count_weights(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _row(name: str) -> NetworkRow:
    if name not in NETWORKS:
        raise ConfigError(f"network.name={name}: unknown network{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name]
