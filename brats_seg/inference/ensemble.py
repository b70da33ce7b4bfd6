"""Models that predict together: the mean of their probabilities, each with its own windows, flips and precision.

One model is an ensemble of one. Threshold and post-processing are those of the first. The mean does not depend on the
order in which models are named, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.config import InferenceConfig, RunConfig
from brats_seg.editions import Edition
from brats_seg.errors import CheckpointError, DataError, UsageError
from brats_seg.inference.likeness import Reference
from brats_seg.inference.predict import (
    WEIGHTS,
    Predictor,
    describe_run,
    load_predictor,
    read_run_config,
    window_of,
)
from brats_seg.inference.windows import num_passes
from brats_seg.networks.bundled import find_model
from brats_seg.networks.compute import choose_compute
from brats_seg.networks.weights import Description

__all__ = ["Ensemble", "Member", "find_members", "load_ensemble"]

_TYPICAL_BRAIN = (146, 176, 140)
"""(K, J, I) in voxels of the box around a BraTS brain, to tell how many windows a case has."""
_PASSES_WORTH_COMPILING = 4000
"""Passes of the network from which compiling pays: a minute of it against some 15 ms saved a pass. An estimate."""


@dataclass(frozen=True)
class Member:
    """A run that predicts, its weights not yet loaded."""

    run: Path
    config: RunConfig
    description: Description


class Ensemble:
    """Networks whose probabilities are averaged.

    Args:
        members: at least one; of the same modalities and regions.

    Raises:
        DataError: the training cases of two members lie in different spaces.
        UsageError: the same weights are given twice.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        hashes = [member.weights_hash for member in members]
        if len(set(hashes)) < len(hashes):
            twice = next(n for n, found in enumerate(hashes) if found in hashes[:n])
            first = hashes.index(hashes[twice])
            raise UsageError(f"models {first + 1} and {twice + 1} have the same weights; name each model once")
        spaces = {member.reference.space for member in members if member.reference is not None}
        if len(spaces) > 1:
            words = " and ".join(sorted(map(str, spaces)))
            raise DataError(f"models cannot predict together: their training cases lie in {words}; expected one space")
        self.members = tuple(members)

    @property
    def first(self) -> Predictor:
        """The member whose threshold and post-processing hold."""
        return self.members[0]

    @property
    def description(self) -> Description:
        """What the first network is; modalities and regions are those of all."""
        return self.first.description

    @property
    def reference(self) -> Reference | None:
        """What is known of the first member's training cases; the space is that of all."""
        return self.first.reference

    def check_edition(self, edition: Edition, what: str) -> None:
        """Refuse cases whose modalities or regions are not those of the networks.

        Raises:
            DataError: names both sides.
        """
        self.first.check_edition(edition, what)

    def probabilities(self, image: NDArray[Any], mean: Sequence[float], sd: Sequence[float]) -> Tensor:
        """Return the mean probabilities (region, K, J, I), float32 on the compute device, of a brain crop as stored.

        One sum is kept, whatever the number of members. Arguments are those of `Predictor.probabilities`.
        """
        ordered = sorted(self.members, key=lambda member: member.weights_hash)
        with torch.inference_mode():
            total = ordered[0].probabilities(image, mean, sd)
            for member in ordered[1:]:
                total += member.probabilities(image, mean, sd)
            return total if len(ordered) == 1 else total.div_(len(ordered))

    def label_map(
        self, probabilities: Tensor, edition: Edition, *, voxels_per_model_voxel: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return the uint8 label map (K, J, I), in an edition's labels, by the first member's post-processing."""
        return self.first.label_map(probabilities, edition, voxels_per_model_voxel=voxels_per_model_voxel)

    def made_by(self) -> dict[str, Any]:
        """Return what decides the result, for the record of predictions; equal for equal sets of members."""
        by_hash = sorted(self.members, key=lambda member: member.weights_hash)
        shared = self.first.inference.model_dump(mode="json", include={"threshold", "postprocessing"})
        return {
            "weights_sha256": [member.weights_hash for member in by_hash],
            "inference": shared,
            "members": [_decisive(member) for member in by_hash],
        }

    def __str__(self) -> str:
        """Return where it computes, for people."""
        computes = list(dict.fromkeys(str(member.compute) for member in self.members))
        return "; ".join(computes)


def _decisive(member: Predictor) -> dict[str, Any]:
    """Return a member's own settings that decide its probabilities; batch and compiling do not."""
    settings = member.inference.model_dump(mode="json", include={"overlap", "tta"})
    return {"window": list(member.window), **settings, "precision": member.compute.precision}


def find_members(places: Sequence[str], overrides: Sequence[str] = ()) -> list[Member]:
    """Return the runs that models mean, in order; no weights are loaded.

    Args:
        places: run folders, names of the package's models, or folders of all folds (`data.fold=all`), which mean each
            of their folds.
        overrides: settings of inference, for every member.

    Raises:
        CheckpointError: there is no such model, or a fold is missing.
        ConfigError: an override is wrong.
        DataError: modalities or regions differ; names both runs.
        UsageError: no model at all.
    """
    if not places:
        raise UsageError("no model: expected the folder of a run, or several; such as runs/first")
    members = [
        Member(run, read_run_config(run, overrides), describe_run(run))
        for place in places
        for run in _runs_of(find_model(place))
    ]
    for other in members[1:]:
        _check_agreement(members[0], other)
    return members


def _runs_of(folder: Path) -> list[Path]:
    """Return the folder itself, or its folds if it holds those of a cross-validation."""
    if (folder / "config.yaml").is_file() or not (folder / "fold0" / "config.yaml").is_file():
        return [folder]
    runs = [folder / f"fold{fold}" for fold in range(read_run_config(folder / "fold0").data.num_folds)]
    missing = [run.name for run in runs if not (run / WEIGHTS).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {len(runs)} folds, but no {WEIGHTS} in {', '.join(missing)}; finish them with "
            f"brats-seg train ... data.fold=all --resume, or name the folds that are there, such as {runs[0]}"
        )
    return runs


def _check_agreement(one: Member, other: Member) -> None:
    for kind in ("modalities", "regions"):
        first, second = (list(getattr(member.description, kind)) for member in (one, other))
        if first != second:
            raise DataError(
                f"{one.run} and {other.run} cannot predict together: {kind} {first} and {second}; "
                "expected the same, in the same order"
            )


def load_ensemble(members: Sequence[Member], device: str, *, num_cases: int = 1) -> Ensemble:
    """Return the ensemble of runs, each in its own precision, ready to predict.

    Args:
        members: as `find_members` found them.
        device: auto, cpu, cuda or cuda:N.
        num_cases: how many cases are to be predicted; decides whether compiling pays (`inference.compile=auto`).

    Raises:
        CheckpointError: weights are damaged or of another network.
        ConfigError: a setting that a network cannot take.
        DeviceError: the device is not there.
        UsageError: the same weights twice.
    """
    predictors = []
    for member in members:
        compute = choose_compute(device, member.config.train.precision)
        is_compiled = compute.device.type == "cuda" and _pays(member.config.inference, member.description, num_cases)
        asked = member.config.inference.compile
        is_asked = is_compiled if asked == "auto" else bool(asked)
        predictors.append(load_predictor(member.run, member.config, compute, is_compiled=is_asked))
    if predictors[0].compute.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # windows are all of one size
    return Ensemble(predictors)


def _pays(inference: InferenceConfig, description: Description, num_cases: int) -> bool:
    window = window_of(inference, description)
    a_case = num_passes(_TYPICAL_BRAIN, window, inference.overlap, inference.tta)
    return num_cases * a_case >= _PASSES_WORTH_COMPILING
