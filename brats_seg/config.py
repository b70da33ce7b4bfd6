"""The configuration of a run: pydantic models, YAML files, `key=value` overrides.

A recipe file holds only what differs from the defaults below, which are those of `configs/default.yaml` (a test holds
the two together). The resolved configuration is written to `RUN/config.yaml`, which alone is enough to repeat the
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from brats_seg.errors import ConfigError, all_findings, did_you_mean
from brats_seg.keys import apply_override, differing, flattened, unknown_keys
from brats_seg.settings import (
    AugmentationConfig,
    DataConfig,
    InferenceConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    PostprocessingConfig,
    SamplingConfig,
    ScheduleConfig,
    Settings,
    TrainConfig,
)

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "InferenceConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "PostprocessingConfig",
    "RunConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "TrainConfig",
    "config_differences",
    "find_recipe",
    "load_config",
    "parse_config",
    "recipe_names",
    "to_recipe",
    "to_yaml",
]

_WHOLE = ("network.arguments", "train.loss.arguments")
"""Settings that differ as a whole."""


class RunConfig(Settings):
    """All settings of a run."""

    seed: int = Field(0, ge=0)
    """Start of every random draw: weights, patches, augmentation."""
    output: str = "runs/brats2020_dynunet"
    """The RUN folder that training writes."""
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _stopping_needs_held_out_cases(self) -> Self:
        if self.data.fold == "none" and self.train.early_stopping is not None:
            raise ValueError("train.early_stopping needs held-out cases, and data.fold=none holds out none")
        if self.data.fold == "none" and self.inference.window == "auto":
            raise ValueError(
                "inference.window=auto is chosen on held-out cases, and data.fold=none holds out none; "
                "use null (the training patch), or the size that a fold has chosen"
            )
        return self


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in _recipe_folder().glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe given as a path or as a name (`cpu_small`).

    Raises:
        ConfigError: there is neither such a file nor such a recipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    built_in = _recipe_folder() / f"{name}.yaml"
    if path.name == name and built_in.is_file():
        return built_in
    raise ConfigError(f"config {name!r}: neither a file nor a recipe{did_you_mean(path.stem, recipe_names())}")


def load_config(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a recipe (file or name) with `key=value` overrides applied.

    Raises:
        ConfigError: names every wrong key or value, and for an unknown key the nearest.
    """
    path = find_recipe(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, expected keys and values")
    return parse_config(values, overrides, source=str(path))


def parse_config(values: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "config") -> RunConfig:
    """Return the validated configuration of plain values, `key=value` overrides applied on top.

    Raises:
        ConfigError: names every wrong key or value, and for an unknown key the nearest.
    """
    for override in overrides:
        apply_override(values, override)
    unknown = unknown_keys(RunConfig, values)
    if unknown:
        raise ConfigError(all_findings(source, [f"{source}: {line}" for line in unknown]))
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{source}: {'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise ConfigError(all_findings(source, lines)) from error


def to_yaml(config: RunConfig) -> str:
    """Return the whole configuration as YAML, every key written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def to_recipe(config: RunConfig) -> str:
    """Return as YAML what differs from the defaults: a recipe."""
    values, defaults = (one.model_dump(mode="json") for one in (config, RunConfig()))
    changed = differing(values, defaults, _WHOLE)
    return yaml.safe_dump(changed, sort_keys=False, default_flow_style=None, width=100)


def config_differences(first: RunConfig, second: RunConfig) -> list[str]:
    """Return `key: first -> second` for every key whose value differs."""
    a, b = (flattened(config.model_dump(mode="json"), _WHOLE) for config in (first, second))
    return [f"{key}: {a.get(key)!r} -> {b.get(key)!r}" for key in sorted(a | b) if a.get(key) != b.get(key)]


def _recipe_folder() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
