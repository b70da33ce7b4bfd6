"""A trained model for notebooks and services: loaded once, asked for one case after another.

    model = brats_seg.load_model("runs/first")             # or "starter", the model of the package; a list: an ensemble
    prediction = model.predict("data/BraTS20_Training_001")
    prediction.label_map                                   # (K, J, I) uint8, in the labels of the case's edition
    prediction.save("out/BraTS20_Training_001.nii.gz")     # on the grid of the images, geometry bit for bit

Label maps equal those that `brats-seg predict` writes. For research only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.config import RunConfig
from brats_seg.data.cases import Case, case_from_files, find_cases
from brats_seg.data.nifti import write_label_map
from brats_seg.editions import get_edition
from brats_seg.errors import DataError, UsageError
from brats_seg.inference.ensemble import Ensemble, find_members, load_ensemble
from brats_seg.inference.postprocessing import thresholded
from brats_seg.inference.predict import paste
from brats_seg.inference.reading import on_image_grid, read_case, with_warnings
from brats_seg.preprocessing.placing import require_filled
from brats_seg.preprocessing.prepare import PreparedCase, prepare_arrays

__all__ = [
    "Model",
    "Prediction",
    "as_prediction",
    "can_miss_modalities",
    "load_model",
    "predict_prepared",
    "require_dropout",
]

Place = str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one case, on the grid of its images; axes (K, J, I), the order of the file."""

    label_map: NDArray[np.uint8]
    """(K, J, I), labels of `edition`."""
    edition: str
    probabilities: Mapping[str, NDArray[np.float32]]
    """Region -> (K, J, I), 0-1; empty unless asked for."""
    missing: tuple[str, ...]
    """Modalities that the case lacked."""
    header_bytes: bytes | None
    """NIfTI header of the first image; None where arrays were given."""
    warnings: tuple[str, ...] = ()
    """What makes it doubtful: in what the case is unlike the training cases, or that nothing was left of it."""

    def save(self, path: Place) -> None:
        """Write the label map as NIfTI, whole or not at all, with the geometry of the images.

        Raises:
            DataError: it was made from arrays, whose geometry is unknown.
            OutputError: it cannot be written.
        """
        if self.header_bytes is None:
            raise DataError(f"{path}: the prediction was made from arrays, which have no geometry; write label_map")
        write_label_map(Path(path), self.label_map, self.header_bytes)


class Model:
    """A trained network with its settings, or several that predict together; `load_model` makes it.

    Args:
        ensemble: the networks on their device.
        configs: the configuration of each run.
        name: what messages call it.
    """

    def __init__(self, ensemble: Ensemble, configs: Sequence[RunConfig], name: str) -> None:
        self.ensemble = ensemble
        self.configs = tuple(configs)
        self.name = name

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the network takes, in channel order."""
        return tuple(self.ensemble.description.modalities)

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that it segments, outermost last."""
        return tuple(self.ensemble.description.regions)

    def predict(
        self,
        case: Place | Mapping[str, Place] | Mapping[str, NDArray[Any]],
        *,
        edition: str | None = None,
        allow_missing: bool = False,
        with_probabilities: bool = False,
    ) -> Prediction:
        """Return the prediction for one case.

        Args:
            case: the case's folder; or modality -> file; or modality -> array (K, J, I), raw intensities with
                background 0. Modalities go by any name that BraTS gave them (`t1ce`, `t2f`).
            edition: whose labels the label map has; None = those of a folder's own edition, else of the newest that the
                model was trained on.
            allow_missing: modalities may be missing, but not all.
            with_probabilities: also return the probability of each region.

        Raises:
            DataError: the case cannot be read, lacks a modality, or does not fit the model.
            UsageError: no such edition or modality; modalities may not be missing with this model.
        """
        if allow_missing:
            require_dropout(self.configs, self.name)
        prepared = self._prepared(case, edition, allow_missing)
        labels = get_edition(edition or prepared.edition)
        for name in (prepared.edition, labels.name):
            self.ensemble.check_edition(get_edition(name), f"case {prepared.name}")
        return predict_prepared(self.ensemble, prepared, labels.name, with_probabilities=with_probabilities)

    def _prepared(self, case: Place | Mapping[str, Any], edition: str | None, allow_missing: bool) -> PreparedCase:
        own_edition = edition or self.ensemble.description.own_edition
        if isinstance(case, Mapping) and any(isinstance(value, np.ndarray) for value in case.values()):
            prepared = prepare_arrays(case, own_edition, allow_missing=allow_missing)
            require_filled(prepared)
            return with_warnings(prepared, self.ensemble.reference)
        if isinstance(case, Mapping):
            files = {modality: Path(path) for modality, path in case.items()}
            found = case_from_files(files, edition=own_edition, allow_missing=allow_missing)
        else:
            found = _one_case(Path(case), edition, own_edition, allow_missing)
        return read_case(found, self.ensemble.reference, allow_missing=allow_missing)


def load_model(place: Place | Sequence[Place], *, device: str = "auto", overrides: Sequence[str] = ()) -> Model:
    """Return a trained model, ready to predict.

    Args:
        place: the folder of a run, the folder of all folds (`data.fold=all`), or the name of a model of the package
            (`starter`); several of them predict together (`ensemble.py`).
        device: auto, cpu, cuda or cuda:N. How many threads a CPU takes is torch's to say (`torch.set_num_threads`).
        overrides: settings of inference, such as `["inference.tta=flips"]`.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        ConfigError: an override is wrong.
        DataError: models of other modalities or regions.
        DeviceError: the device is not there.
        UsageError: no model, or the same one twice.
    """
    places = [str(one) for one in ([place] if isinstance(place, str | PathLike) else place)]
    members = find_members(places, overrides)
    return Model(load_ensemble(members, device), [member.config for member in members], " + ".join(places))


def predict_prepared(
    ensemble: Ensemble, case: PreparedCase, edition: str, *, with_probabilities: bool = False
) -> Prediction:
    """Return the prediction for a prepared case, pasted back into its volume, in the labels of an edition."""
    probabilities = ensemble.probabilities(case.image, case.mean, case.sd)
    return as_prediction(ensemble, case, probabilities, edition, with_probabilities=with_probabilities)


def as_prediction(
    ensemble: Ensemble, case: PreparedCase, probabilities: Tensor, edition: str, *, with_probabilities: bool = False
) -> Prediction:
    """Return what the probabilities (region, K, J, I) of a prepared case's crop mean, in its whole volume."""
    own, start, shape = on_image_grid(case, probabilities.cpu().numpy())
    ratio = 1.0 if case.placement is None else case.placement.voxels_per_model_voxel
    labels = ensemble.label_map(torch.from_numpy(own), get_edition(edition), voxels_per_model_voxel=ratio)
    maps = {}
    if with_probabilities:
        regions = zip(ensemble.description.regions, own, strict=True)
        maps = {region: paste(values, start, shape) for region, values in regions}
    warnings = (*case.warnings, *_emptied(ensemble, own, labels))
    return Prediction(paste(labels, start, shape), edition, maps, case.missing, case.header_bytes or None, warnings)


def _emptied(ensemble: Ensemble, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> list[str]:
    """Return a warning if post-processing has dropped all that the network found."""
    if labels.any():
        return []
    masks = thresholded(probabilities, ensemble.description.regions, ensemble.first.inference)
    found = int(np.count_nonzero(masks.any(axis=0)))
    if not found:
        return []
    line = f"no tumour is drawn: post-processing dropped all {found} voxels that the network found"
    return [f"{line}; inference.postprocessing={{}} keeps them"]


def can_miss_modalities(configs: Sequence[RunConfig]) -> bool:
    """Return whether all of some runs have learned from cases that lack modalities."""
    return all(config.train.augmentation.modality_dropout > 0 for config in configs)


def require_dropout(configs: Sequence[RunConfig], name: str) -> None:
    """Refuse missing modalities with a model that has never seen a case without one.

    Raises:
        UsageError: names the setting that would have taught it.
    """
    if not can_miss_modalities(configs):
        of_several = " (one of its members at least)" if len(configs) > 1 else ""
        raise UsageError(
            f"{name}: was trained with train.augmentation.modality_dropout=0{of_several} and has never seen a case "
            "that lacks a modality, so its answer would be worthless; give all modalities, or train with "
            "modality_dropout=0.15"
        )


def _one_case(folder: Path, edition: str | None, own_edition: str, allow_missing: bool) -> Case:
    try:
        cases = find_cases(folder, otherwise=own_edition, allow_missing=allow_missing, needs_masks=False).cases
    except DataError:
        if edition is None:
            raise
        cases = find_cases(folder, edition=edition, allow_missing=allow_missing, needs_masks=False).cases
    if len(cases) != 1:
        names = ", ".join(case.name for case in cases[:3])
        raise DataError(f"{folder}: {len(cases)} cases in it ({names} ...), expected one; give one case's folder")
    return cases[0]
