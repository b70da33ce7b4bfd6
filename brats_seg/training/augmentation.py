"""From raw samples to what the network learns from, on the training device.

Normalising and label map -> regions are the transforms that prediction uses. Every sample has its own parameters
(`spatial.py`, `resampling.py`, `intensity.py`), drawn before it was read, and comes out the same in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from brats_seg.editions import get_edition
from brats_seg.networks.slices import middle_slice
from brats_seg.preprocessing.transforms import brain_bits, normalize_brain, regions_from_labels
from brats_seg.training.intensity import change_intensities
from brats_seg.training.patches import Sample
from brats_seg.training.resampling import resample
from brats_seg.training.spatial import patch_coordinates

__all__ = ["augment", "training_input"]


def training_input(samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return images (B, modality, K, J, I) and region masks (B, region, K, J, I) of samples, float32, on the device.

    The image of a slice comes with its neighbours where the network sees them, the masks are those of the slice alone.
    """
    pairs = [augment(sample, device) for sample in samples]
    if len(pairs) == 1:
        return pairs[0][0][None], pairs[0][1][None]
    return torch.stack([image for image, _ in pairs]), torch.stack([masks for _, masks in pairs])


def augment(sample: Sample, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image (modality, K, J, I) and region masks (region, K, J, I) of one sample; background is exactly 0."""
    raw, label_map, moments = (
        tensor.to(device, non_blocking=True) for tensor in (sample.image, sample.label_map, sample.moments)
    )
    if sample.spatial.is_resampled:
        image = normalize_brain(raw, moments[0], moments[1])
        places = patch_coordinates(sample.spatial, sample.centre, sample.patch, device)
        image, label_map, brain = resample(image, label_map, raw.bool(), places, sample.spatial.slice_axis)
    else:
        brain = brain_bits(raw)
        image = normalize_brain(raw, moments[0], moments[1], brain)
    change_intensities(image, brain, sample.intensity)
    label_map = middle_slice(label_map, sample.spatial.slice_axis)
    return image, regions_from_labels(label_map, get_edition(sample.edition)).float()
