"""A trained network as a predictor: raw crop in, probabilities out. Validation and `predict` both use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from brats_seg.config import InferenceConfig, RunConfig, config_differences, parse_config
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import CheckpointError, ConfigError, DataError
from brats_seg.files import hash_of_file
from brats_seg.inference.likeness import Reference, read_reference
from brats_seg.inference.memory import explain_out_of_memory
from brats_seg.inference.postprocessing import check_postprocessing, region_masks, scaled_to_voxels
from brats_seg.inference.windows import predict_probabilities
from brats_seg.networks.build import build_network, check_window
from brats_seg.networks.compute import Compute, compiled, placed
from brats_seg.networks.memory import is_out_of_memory
from brats_seg.networks.slices import thickened
from brats_seg.networks.weights import Description, load_weights, read_description
from brats_seg.preprocessing.transforms import normalize_brain

__all__ = ["WEIGHTS", "Predictor", "describe_run", "load_predictor", "paste", "read_run_config", "window_of"]

WEIGHTS = "model.safetensors"
"""The weights of a RUN that are meant for use."""


class Predictor:
    """A network with everything that its use needs.

    Args:
        network: maps (B, modality, K, J, I) to logits (B, region, K, J, I).
        description: its input and output channels and its patch.
        inference: windows, overlap, flips, threshold, post-processing.
        compute: device and precision; the network is moved there.
        weights_hash: sha256 of the weight file, for the record; empty for a network in training.
        reference: of the training cases; None = unknown.
        is_compiled: have torch.compile make the network's kernels at the first case.
    """

    def __init__(
        self,
        network: nn.Module,
        description: Description,
        inference: InferenceConfig,
        compute: Compute,
        weights_hash: str = "",
        reference: Reference | None = None,
        *,
        is_compiled: bool = False,
    ) -> None:
        self.description = description
        self.inference = inference
        self.compute = compute
        self.weights_hash = weights_hash
        self.reference = reference
        self.window = window_of(inference, description)
        self._network_config = description.network_config()
        check_window(self._network_config, self.window, description.patch, inference.tta)
        check_postprocessing(inference.postprocessing, description.regions)
        self.network = network.to(compute.device)
        self._run = compiled(self.network, compute, is_compiled)
        self._is_batch_fixed = is_compiled
        self._layout = _layout_of(compute, is_compiled=is_compiled)

    @property
    def block(self) -> tuple[int, int, int]:
        """Voxels (K, J, I) that the network sees at once: its window, with the neighbours of a slice (2.5D)."""
        return thickened(self.window, self._network_config.neighbours)

    def check_edition(self, edition: Edition, what: str) -> None:
        """Refuse cases whose modalities or regions are not those of the network.

        Raises:
            DataError: names both sides.
        """
        own = self.description
        for kind, found, expected in (
            ("modalities", edition.modalities, own.modalities),
            ("regions", edition.region_names, own.regions),
        ):
            if tuple(found) != tuple(expected):
                raise DataError(
                    f"{what}: {kind} {list(found)} of {edition.name}, but the model was trained on {list(expected)}"
                )

    def probabilities(self, image: NDArray[Any], mean: Sequence[float], sd: Sequence[float]) -> Tensor:
        """Return the probabilities (region, K, J, I), float32 on the compute device, of a brain crop as stored.

        Args:
            image: (modality, K, J, I), raw integers or floats, cropped to the brain, background 0.
            mean: mean of each modality over its nonzero voxels.
            sd: their standard deviation.

        Raises:
            OutOfMemoryError: names a setting that fits.
        """
        try:
            return self._probabilities(image, mean, sd)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            text = str(error)
        # the error is gone, and with it what its frames held
        raise explain_out_of_memory(
            self._logits_uncompiled, self.description, self.inference, self.window, self.compute, text
        )

    def _probabilities(self, image: NDArray[Any], mean: Sequence[float], sd: Sequence[float]) -> Tensor:
        raw = torch.from_numpy(np.array(image)).to(self.compute.device)
        moments = (torch.tensor(values, dtype=torch.float32, device=raw.device) for values in (mean, sd))
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                return predict_probabilities(
                    self._logits,
                    normalize_brain(raw, *moments),
                    window=self.window,
                    num_regions=len(self.description.regions),
                    overlap=self.inference.overlap,
                    batch=self.inference.batch,
                    tta=self.inference.tta,
                    is_batch_fixed=self._is_batch_fixed,
                    neighbours=self._network_config.neighbours,
                )
        finally:
            self.network.train(was_training)

    def label_map(
        self, probabilities: Tensor, edition: Edition, *, voxels_per_model_voxel: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return the uint8 label map (K, J, I), in an edition's labels, of a brain crop's probabilities.

        The run's post-processing is applied (`postprocessing.py`); ET lies in TC, TC in WT. Its sizes are counted in
        the model's voxels; on another grid one of these has the volume of `voxels_per_model_voxel`.
        """
        inference = scaled_to_voxels(self.inference, voxels_per_model_voxel)
        masks = region_masks(probabilities.cpu().numpy(), self.description.regions, inference)
        return edition.label_map_from_regions(masks)

    def _logits(self, patches: Tensor) -> Tensor:
        return self._called(self._run, patches)

    def _logits_uncompiled(self, patches: Tensor) -> Tensor:
        self.network.eval()
        return self._called(self.network, patches)

    def _called(self, run: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
        with self.compute.autocast():
            return run(patches.contiguous(memory_format=self._layout))


def _layout_of(compute: Compute, *, is_compiled: bool) -> torch.memory_format:
    """Return the order of values in memory that is fastest forwards, where group norm costs nothing."""
    favours = compute.favours_channels_last(is_compiled=is_compiled)
    return torch.channels_last_3d if favours else torch.contiguous_format


def window_of(inference: InferenceConfig, description: Description) -> tuple[int, int, int]:
    """Return the window (K, J, I) in voxels; the training patch where none is set, or none is chosen yet."""
    return description.patch if inference.window is None or inference.window == "auto" else inference.window


def paste(crop: NDArray[Any], start: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """Return a volume of `shape` (K, J, I), 0 everywhere but for `crop` at `start`."""
    volume = np.zeros(tuple(shape), crop.dtype)
    k, j, i = (slice(s, s + n) for s, n in zip(start, crop.shape, strict=True))
    volume[k, j, i] = crop
    return volume


def read_run_config(run: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a RUN; for prediction only `inference` may be overridden.

    Raises:
        CheckpointError: the folder holds no run.
        ConfigError: an override is wrong, or changes anything but `inference`.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"{run}: no config.yaml; expected the folder of a run that brats-seg train wrote")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path}: not YAML; the run's configuration is damaged") from error
    own = parse_config(values, source=str(path))
    changed = parse_config(own.model_dump(mode="json"), overrides, source=str(path))
    frozen = [line for line in config_differences(own, changed) if not line.startswith("inference.")]
    if frozen:
        raise CheckpointError(
            f"{run}: a trained run's {frozen[0]} cannot be changed; only inference.* can be for prediction"
        )
    return changed


def describe_run(run: Path) -> Description:
    """Return what the weights of a RUN folder are for; the weights themselves are not read.

    Raises:
        CheckpointError: there are none, or they are no weights.
    """
    path = run / WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"{run}: no {WEIGHTS}; the run was stopped before its first validation: continue it with --resume"
        )
    return read_description(path)


def load_predictor(run: Path, config: RunConfig, compute: Compute, *, is_compiled: bool = False) -> Predictor:
    """Return the predictor of a RUN folder, with the settings that `read_run_config` gave.

    Raises:
        CheckpointError: no weights, or weights of another network.
        ConfigError: a window that the network cannot take or that is still to be chosen, or a region that the network
            does not have.
    """
    if config.inference.window == "auto":
        raise ConfigError(
            f"{run}: inference.window=auto is chosen at the end of the training, which has not been reached; continue "
            "it with --resume, or add inference.window=null (the training patch) or inference.window=[K,J,I]"
        )
    path, description = run / WEIGHTS, describe_run(run)
    network = build_network(
        description.network_config(), in_channels=len(description.modalities), out_channels=len(description.regions)
    )
    load_weights(path, network)
    network = placed(network, compute.device, _layout_of(compute, is_compiled=is_compiled))
    for name in description.editions:
        get_edition(name)
    return Predictor(
        network,
        description,
        config.inference,
        compute,
        hash_of_file(path),
        read_reference(run),
        is_compiled=is_compiled,
    )
