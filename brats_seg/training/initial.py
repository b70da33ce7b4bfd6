"""Fine-tuning: the weights that a training starts from, where it does not start from fresh ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from brats_seg.errors import CheckpointError
from brats_seg.inference.predict import WEIGHTS
from brats_seg.networks.bundled import BUNDLED, bundled_folder
from brats_seg.networks.weights import Description, load_weights, read_description

__all__ = ["load_initial", "weights_file"]


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
        raise CheckpointError(f"train.init: {error}; give the run the network of the weights it starts from") from error
    return _other_settings(source, description)


def _other_settings(source: Description, description: Description) -> list[str]:
    first, second = (_flat(one.network) for one in (source, description))
    differing = [key for key in sorted(first | second) if first.get(key) != second.get(key)]
    return [f"train.init: network.{key} was {first.get(key)!r}, now {second.get(key)!r}" for key in differing]


def _flat(network: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {f"arguments.{key}": value for key, value in network.get("arguments", {}).items()}
    return {key: value for key, value in network.items() if key != "arguments"} | arguments
