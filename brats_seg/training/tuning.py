"""What tuning searches over, around a recipe: learning rate, patch, strength of augmentation, width of the network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brats_seg.config import RunConfig, parse_config
from brats_seg.networks.build import NETWORKS, nearest_patch, stride_of

__all__ = ["Choice", "SearchSpace", "chosen", "search_space"]

Patch = tuple[int, int, int]

_RATE_FACTOR = 5.0
"""The learning rate is searched between a fifth and five times the recipe's."""
_PATCH_FACTORS = (2 / 3, 1.0, 4 / 3)
_STRONGEST = 2.0
_WIDTHS = (0.5, 0.75, 1.0, 1.5)
_PROBABILITIES = (
    "rotation",
    "scaling",
    "elastic",
    "noise",
    "blur",
    "brightness",
    "contrast",
    "low_resolution",
    "gamma",
    "gamma_inverted",
    "modality_dropout",
)
"""Settings of the augmentation that are probabilities; `flip` has a limit of its own."""
_LARGEST_GAIN = 0.99

_WIDTH_ARGUMENTS: Mapping[str, tuple[str, int | None]] = {
    "attentionunet": ("channels", None),
    "basicunet": ("features", None),
    "basicunetplusplus": ("features", None),
    "dynunet": ("filters", None),
    "flexibleunet": ("decoder_channels", None),
    "segresnet": ("init_filters", 8),
    "segresnet_ds": ("init_filters", 8),
    "swinunetr": ("feature_size", 12),
    "unet": ("channels", None),
}
"""Network -> MONAI's argument for its channels, and by what they must be divisible; None = 8, below 16 channels 4."""


@dataclass(frozen=True)
class Choice:
    """One point of the search space."""

    learning_rate: float
    patch: Patch
    augmentation: float
    """Factor of the augmentation's probabilities; 0 = none, 1 = the recipe's."""
    width: float
    """Factor of the network's channels."""


@dataclass(frozen=True)
class SearchSpace:
    """What is searched; `start` is the recipe itself."""

    start: Choice
    learning_rates: tuple[float, float]
    """Least and largest, searched evenly in their logarithm."""
    patches: tuple[Patch, ...]
    augmentations: tuple[float, float]
    widths: tuple[float, ...]


def search_space(config: RunConfig) -> SearchSpace:
    """Return the search space around a recipe.

    Patches are those nearest to 2/3, 1 and 4/3 of the recipe's that the network's strides allow. The width is fixed
    where the run starts from trained weights (`train.init`), which fit one width only.
    """
    rate, patch = config.train.optimizer.learning_rate, config.train.patch
    has_width = config.train.init is None and _channels(config) is not None
    return SearchSpace(
        start=Choice(rate, patch, 1.0, 1.0),
        learning_rates=(rate / _RATE_FACTOR, rate * _RATE_FACTOR),
        patches=_patches(config),
        augmentations=(0.0, _STRONGEST),
        widths=_WIDTHS if has_width else (1.0,),
    )


def chosen(config: RunConfig, choice: Choice) -> RunConfig:
    """Return the recipe with a choice's settings, rounded so that they can be read; a factor of 1 changes nothing.

    Raises:
        ConfigError: the settings do not fit the recipe's others.
    """
    values = config.model_dump(mode="json")
    train = values["train"]
    if choice.learning_rate != config.train.optimizer.learning_rate:
        train["optimizer"]["learning_rate"] = float(f"{choice.learning_rate:.3g}")
    train["patch"] = list(choice.patch)
    if choice.augmentation != 1:
        train["augmentation"] |= _augmentation(train["augmentation"], choice.augmentation)
    channels = _channels(config)
    if choice.width != 1 and channels is not None:
        argument, _ = _WIDTH_ARGUMENTS[config.network.name]
        values["network"]["arguments"][argument] = _widened(channels, choice.width, config.network.name)
    return parse_config(values, source="tune")


def _patches(config: RunConfig) -> tuple[Patch, ...]:
    stride = stride_of(config.network)
    scaled = [tuple(round(edge * factor) for edge in config.train.patch) for factor in _PATCH_FACTORS]
    near = {config.train.patch} | {nearest_patch(config.network, (k, j, i)) for k, j, i in scaled}
    fitting = [patch for patch in near if not 1 < min(patch) < 8 and math.prod(patch) >= 2 * math.prod(stride)]
    return tuple(sorted(fitting, key=lambda patch: (math.prod(patch), patch)))


def _augmentation(values: Mapping[str, Any], factor: float) -> dict[str, float]:
    """Return probabilities times a factor, at most 1; `flip` at most 1/2, where mirrorings are most varied.

    Gain and shift, which every patch gets, are themselves multiplied.
    """
    scaled = {name: min(1.0, values[name] * factor) for name in _PROBABILITIES}
    scaled["flip"] = min(max(0.5, values["flip"]), values["flip"] * factor)
    scaled |= {"gain": min(_LARGEST_GAIN, values["gain"] * factor), "shift": values["shift"] * factor}
    return {name: round(value, 4) for name, value in scaled.items()}


def _channels(config: RunConfig) -> int | list[int] | None:
    """Return the network's channels, one number or one a level; None where they cannot be told."""
    name = config.network.name
    argument, _ = _WIDTH_ARGUMENTS.get(name, ("", None))
    found = config.network.arguments.get(argument)
    if found is None and argument:
        base = next(one for one in NETWORKS[name].network().__mro__ if one.__module__.startswith("monai."))
        found = inspect.signature(base).parameters[argument].default
    if isinstance(found, list | tuple) and all(isinstance(one, int) for one in found):
        return list(found)
    return found if isinstance(found, int) else None


def _widened(channels: int | list[int], factor: float, name: str) -> int | list[int]:
    if isinstance(channels, list):
        return [_nearest(one, factor, name) for one in channels]
    return _nearest(channels, factor, name)


def _nearest(channels: int, factor: float, name: str) -> int:
    unit = _WIDTH_ARGUMENTS[name][1] or (8 if channels >= 16 else 4)
    return max(unit, round(channels * factor / unit) * unit)
