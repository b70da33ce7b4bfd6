"""Networks by name, from the configuration: a small registry over MONAI's own classes and argument names.

To add a network, add a row to `NETWORKS`: how it is built, and by what its input must be divisible.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from brats_seg.config import NetworkConfig
from brats_seg.errors import ConfigError, did_you_mean
from brats_seg.networks.stem import SpaceToDepth

__all__ = ["NETWORKS", "NetworkRow", "build_network", "check_patch", "count_weights", "nearest_patch", "stride_of"]


@dataclass(frozen=True)
class NetworkRow:
    """One network of the registry."""

    build: Callable[..., nn.Module]
    """Called with in_channels, out_channels and the configuration's arguments."""
    accepted: Callable[[], frozenset[str]]
    """Argument names a user may set."""
    stride: Callable[[Mapping[str, Any]], tuple[int, int, int]]
    """By how much the network reduces each axis in total, from its arguments."""


def _dynunet(in_channels: int, out_channels: int, **arguments: Any) -> nn.Module:
    from monai.networks.nets.dynunet import DynUNet  # noqa: PLC0415 (MONAI takes a second to import)

    arguments = {key: _as_tuple(value) for key, value in arguments.items()}
    return DynUNet(spatial_dims=3, in_channels=in_channels, out_channels=out_channels, **arguments)


def _dynunet_arguments() -> frozenset[str]:
    from monai.networks.nets.dynunet import DynUNet  # noqa: PLC0415

    given_by_us = {"self", "spatial_dims", "in_channels", "out_channels", "deep_supervision", "deep_supr_num"}
    return frozenset(inspect.signature(DynUNet.__init__).parameters) - given_by_us


def _dynunet_stride(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    strides = [[s] * 3 if isinstance(s, int) else list(s) for s in arguments.get("strides", [])]
    k, j, i = (math.prod(axis) for axis in zip(*strides, strict=True)) if strides else (1, 1, 1)
    return k, j, i


def _as_tuple(value: Any) -> Any:
    """Return [name, {...}] as a tuple, which is how MONAI's factories expect a layer with arguments."""
    is_layer = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
    return tuple(value) if is_layer else value


NETWORKS: Mapping[str, NetworkRow] = {"dynunet": NetworkRow(_dynunet, _dynunet_arguments, _dynunet_stride)}
"""All networks by name."""


def build_network(network: NetworkConfig, *, in_channels: int, out_channels: int, seed: int = 0) -> nn.Module:
    """Return the network with fresh weights that depend on `seed` alone; it maps (B, C, K, J, I) to logits.

    Raises:
        ConfigError: unknown network or argument, or arguments that MONAI refuses.
    """
    row = _row(network.name)
    unknown = sorted(set(network.arguments) - row.accepted())
    if unknown:
        raise ConfigError(
            f"network.arguments.{unknown[0]}: {network.name} has no such argument"
            f"{did_you_mean(unknown[0], row.accepted())}"
        )
    block = network.stem**3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            body = row.build(in_channels * block, out_channels * block, **network.arguments)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"network.arguments: MONAI's {network.name} refuses them: {error}") from error
    return SpaceToDepth(body, network.stem) if network.stem > 1 else body


def stride_of(network: NetworkConfig) -> tuple[int, int, int]:
    """Return by what each axis (K, J, I) of the input must be divisible, the stem included."""
    k, j, i = (network.stem * s for s in _row(network.name).stride(network.arguments))
    return k, j, i


def nearest_patch(network: NetworkConfig, patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the patch nearest to `patch` that the network accepts."""
    k, j, i = (max(round(p / s), 1) * s for p, s in zip(patch, stride_of(network), strict=True))
    return k, j, i


def check_patch(network: NetworkConfig, patch: tuple[int, int, int], key: str = "train.patch") -> None:
    """Refuse a patch or window that the network cannot take.

    Raises:
        ConfigError: it is no multiple of the stride (names the nearest that is), or one voxel is left at the bottom,
            where instance normalisation has nothing to normalise over.
    """
    stride = stride_of(network)
    if any(p % s for p, s in zip(patch, stride, strict=True)):
        near = list(nearest_patch(network, patch))
        raise ConfigError(
            f"{key}={list(patch)}: each edge must be a multiple of {list(stride)} (strides x stem); "
            f"the nearest is {near}"
        )
    if math.prod(p // s for p, s in zip(patch, stride, strict=True)) < 2:
        larger = [2 * s for s in stride]
        raise ConfigError(f"{key}={list(patch)}: one voxel is left at the network's bottom; use at least {larger}")


def count_weights(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _row(name: str) -> NetworkRow:
    if name not in NETWORKS:
        raise ConfigError(f"network.name={name}: unknown network{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name]
