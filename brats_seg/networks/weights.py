"""Weight files: safetensors with a description of the network inside, and nothing else.

No clock time, path or count of resumes goes in: equal runs give equal bytes. Nothing is unpickled: a file from a
stranger can fail, not run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from brats_seg.config import NetworkConfig
from brats_seg.editions import EDITIONS, edition_of_files
from brats_seg.errors import CheckpointError
from brats_seg.files import atomic_file

__all__ = [
    "Description",
    "load_tensors",
    "load_weights",
    "put_tensors",
    "read_description",
    "save_tensors",
    "save_weights",
    "tensors_of",
]

_KEY = "brats_seg"


@dataclass(frozen=True)
class Description:
    """What one has to know of a network to use its weights."""

    network: dict[str, Any]
    """`network` of the run's configuration."""
    modalities: tuple[str, ...]
    """Input channels, in order."""
    regions: tuple[str, ...]
    """Output channels, in order."""
    editions: tuple[str, ...]
    """Editions of the training cases."""
    patch: tuple[int, int, int]
    """Training patch in voxels (K, J, I)."""

    @property
    def own_edition(self) -> str:
        """The edition of cases whose names tell none: the newest of the training cases'."""
        known = [name for name in self.editions if name in EDITIONS]
        return known[-1] if known else edition_of_files(self.modalities)

    def network_config(self) -> NetworkConfig:
        """Return the network's configuration."""
        return NetworkConfig.model_validate(self.network)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights and buffers by name, each once: MONAI's DynUNet registers most under two names."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@torch.no_grad()
def put_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy named tensors, as `tensors_of` gives them, into a network."""
    for name, tensor in tensors_of(network).items():
        tensor.copy_(tensors[name])


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, complete or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata=dict(metadata or {})))  # save_file would hide it from others


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def save_weights(path: Path, network: nn.Module, description: Description) -> None:
    """Write a network's weights and description."""
    save_tensors(path, tensors_of(network), {_KEY: json.dumps(asdict(description), sort_keys=True)})


def read_description(path: Path) -> Description:
    """Return the description inside a weight file.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this toolkit.
    """
    with _open(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise CheckpointError(
            f"{path}: safetensors without a brats_seg description; expected weights that brats-seg train wrote"
        )
    try:
        values = json.loads(text)
        as_tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return Description(**as_tuples)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its description cannot be read ({error}); written by another version?"
        ) from error


def load_weights(path: Path, network: nn.Module) -> None:
    """Put the weights of a file into a network.

    Raises:
        CheckpointError: the file is missing or damaged, or its tensors do not fit (names the differing shapes).
    """
    weights, own = load_tensors(path), tensors_of(network)
    differing = [
        f"{name}: {_shape(weights.get(name))} in the file, {_shape(own.get(name))} in the network"
        for name in sorted(weights.keys() | own.keys())
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]
    if differing:
        count = f"{len(differing)} of {len(weights.keys() | own.keys())} tensors differ"
        more = "; ..." if len(differing) > 3 else ""
        raise CheckpointError(f"{path}: weights of another network: {count} ({'; '.join(differing[:3])}{more})")
    put_tensors(network, weights)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file; give the folder of a run that brats-seg train has begun")
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
