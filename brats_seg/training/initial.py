"""Fine-tuning: the weights that a training starts from, where it does not start from fresh ones, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from brats_seg.config import RunConfig, parse_config
from brats_seg.errors import CheckpointError
from brats_seg.inference.predict import WEIGHTS, read_run_config
from brats_seg.networks.bundled import BUNDLED, bundled_folder
from brats_seg.networks.weights import Description, load_weights, read_description

__all__ = ["filled", "init_place", "load_initial", "weights_file"]

_TAKEN = ("patch", "batch", "ema", "optimizer", "loss", "sampling", "augmentation")
"""Settings of `train` that belong to a network and its data rather than to a machine or to the length of a run."""


def init_place(init: str) -> str:
    """Return `train.init` as it means the same from any folder: a whole path, or the name of a bundled model."""
    path = Path(init)
    return init if init in BUNDLED and not path.exists() else str(path.resolve())


def filled(config: RunConfig, begun: Path | None = None) -> RunConfig:
    """Return a configuration whose open settings are those of the run that its weights come from.

    A recipe that names weights (`train.init`) but no `network` (such as `finetune`) takes the network from them. Where
    they lie in the folder of a run, it also takes, setting by setting, what it leaves open of patch, batch, average,
    optimizer, loss, sampling, augmentation and `inference`. Any other configuration is returned as it is.

    Args:
        config: as a recipe and overrides give it; only what they set counts as set.
        begun: the folder of a run that is resumed. It has these settings already, and the source may be gone.

    Raises:
        CheckpointError: `train.init` names no weights.
    """
    if config.train.init is None or "network" in config.model_fields_set:
        return config
    own = None if begun is None else begun / "config.yaml"
    source = _settings_of(own if own and own.is_file() else weights_file(config.train.init))
    given = config.model_dump(mode="json", exclude_unset=True)
    train = {key: value for key, value in source["train"].items() if key in _TAKEN}
    return parse_config(
        given
        | {
            "network": source["network"],
            "train": _merged(train, given["train"]),
            "inference": _merged(source.get("inference", {}), given.get("inference", {})),
        },
        source=f"settings of {config.train.init}",
    )


def _settings_of(path: Path) -> dict[str, Any]:
    """Return the settings of the run that a file lies in; of a single weights file, those in its description."""
    if (path.parent / "config.yaml").is_file():
        return read_run_config(path.parent).model_dump(mode="json")
    description = read_description(path)
    return {"network": dict(description.network), "train": {"patch": list(description.patch)}}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings over others, groups of them key by key; an empty group (`postprocessing={}`) leaves nothing."""
    groups = [key for key in below.keys() & above.keys() if above[key] and isinstance(above[key], dict)]
    return {**below, **above, **{key: {**below[key], **above[key]} for key in groups}}


def weights_file(place: str) -> Path:
    """Return the weight file that `train.init` means: itself, the best weights of a RUN folder, or a bundled model's.

    Raises:
        CheckpointError: there is no such file, or none in the folder.
    """
    path = Path(place)
    if path.is_file():
        return path
    if place in BUNDLED and not path.exists():
        return bundled_folder(place) / WEIGHTS
    if not path.is_dir():
        raise CheckpointError(
            f"train.init={place}: no such folder or file; give a run's folder, a weights file, or starter"
        )
    if not (path / WEIGHTS).is_file():
        folds = sorted(fold.name for fold in path.glob("fold*") if (fold / WEIGHTS).is_file())
        remedy = (
            f"give one of its folds: {', '.join(folds)}" if folds else "give the folder of a run that has validated"
        )
        raise CheckpointError(f"train.init={place}: no {WEIGHTS} in it; {remedy}")
    return path / WEIGHTS


def load_initial(path: Path, network: nn.Module, description: Description) -> list[str]:
    """Put the weights of a file into a network that is to be trained further.

    Args:
        path: weights that brats-seg train wrote.
        network: with fresh weights.
        description: of the new run.

    Returns:
        A line for each setting of the network that differs though its weights fit.

    Raises:
        CheckpointError: other modalities or regions, or another network (names the differing shapes).
    """
    source = read_description(path)
    for what in ("modalities", "regions"):
        found, expected = list(getattr(source, what)), list(getattr(description, what))
        if found != expected:
            raise CheckpointError(
                f"train.init: {path} was trained on {what} {found}, but the store has {expected}; "
                f"start from weights with the same {what}, or without train.init"
            )
    try:
        load_weights(path, network)
    except CheckpointError as error:
        raise CheckpointError(
            f"train.init: {error}; a recipe that names no network, such as finetune, takes the one of the weights"
        ) from error
    return _other_settings(source, description)


def _other_settings(source: Description, description: Description) -> list[str]:
    first, second = (_flat(one.network_config().model_dump()) for one in (source, description))
    differing = [key for key in sorted(first | second) if first.get(key) != second.get(key)]
    return [f"train.init: network.{key} was {first.get(key)!r}, now {second.get(key)!r}" for key in differing]


def _flat(network: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {f"arguments.{key}": value for key, value in network.get("arguments", {}).items()}
    return {key: value for key, value in network.items() if key != "arguments"} | arguments
