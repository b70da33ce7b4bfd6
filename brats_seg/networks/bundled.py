"""Models that come with the package, by name: small RUN folders that prediction and fine-tuning start from.

Each has its hash here. Weights that were cut or changed are refused: a model from a damaged package must not predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from brats_seg.errors import CheckpointError, did_you_mean
from brats_seg.files import hash_of_file

__all__ = ["BUNDLED", "bundled_folder", "find_model"]

BUNDLED: Mapping[str, str] = {
    "starter": "877c9c7574553d509d9729a8876f27e007683e4c231d28a315bff642cee5ac7d",
}
"""Name -> sha256 of its model.safetensors. docs/starter-model.md is the model card."""


def find_model(place: str) -> Path:
    """Return the folder of a model: that of a run, or the one that a bundled name means (a folder of that name first).

    Raises:
        CheckpointError: there is neither such a folder nor such a name, or the weights are not what they were.
    """
    path = Path(place)
    if path.exists():
        return path
    if place not in BUNDLED:
        raise CheckpointError(f"{place}: no such folder, nor a model of the package{did_you_mean(place, BUNDLED)}")
    return bundled_folder(place)


def bundled_folder(name: str) -> Path:
    """Return the folder of a bundled model, its weights checked.

    Raises:
        CheckpointError: the weights are missing, or their hash differs.
    """
    weights = _models_folder() / name / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{name}: {weights} is missing from the package; install brats_seg again")
    found = hash_of_file(weights)
    if found != BUNDLED[name]:
        raise CheckpointError(
            f"{name}: {weights} was cut or changed (sha256 {found[:12]}..., expected {BUNDLED[name][:12]}...); "
            "install brats_seg again"
        )
    return weights.parent


def _models_folder() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"
