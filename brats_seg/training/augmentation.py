"""Augmentation on the training device: parameters are drawn first, then applied to the whole batch.

Raw integers come in; normalising and label map -> regions happen in the same pass, by the transforms that prediction
uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.config import AugmentationConfig
from brats_seg.editions import get_edition
from brats_seg.preprocessing.transforms import normalize_brain, regions_from_labels
from brats_seg.training.sampling import Batch, generator

__all__ = ["AugmentationDraw", "augment", "draw_augmentation", "network_input"]

_AUGMENTATION = 2
"""Stream of random numbers, apart from those of sampling."""


@dataclass(frozen=True)
class AugmentationDraw:
    """Parameters of one sample."""

    flip: tuple[bool, bool, bool]
    """Whether each axis (K, J, I) is mirrored."""
    gain: NDArray[np.float32]
    """Factor per modality."""
    shift: NDArray[np.float32]
    """Offset per modality."""
    noise_sd: float
    """Standard deviation of added noise; 0 = none."""
    noise_seed: int


def draw_augmentation(
    config: AugmentationConfig, num_modalities: int, seed: int, step: int, sample: int
) -> AugmentationDraw:
    """Return the parameters of a sample of a step: a pure function of its arguments."""
    random = generator(seed, _AUGMENTATION, step, sample)
    flip = random.random(3) < config.flip
    gain = 1 + config.gain * random.standard_normal(num_modalities)
    shift = config.shift * random.standard_normal(num_modalities)
    has_noise, noise_sd = random.random() < config.noise, random.random() * config.noise_sd
    return AugmentationDraw(
        flip=(bool(flip[0]), bool(flip[1]), bool(flip[2])),
        gain=gain.astype(np.float32),
        shift=shift.astype(np.float32),
        noise_sd=noise_sd if has_noise else 0.0,
        noise_seed=int(random.integers(2**62)),
    )


def network_input(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a batch's normalised image (B, modality, K, J, I) and region masks (B, region, K, J, I), both float32."""
    image = torch.from_numpy(batch.image).to(device, non_blocking=True)
    mean, sd = (torch.from_numpy(values).to(device) for values in (batch.mean, batch.sd))
    labels = torch.from_numpy(batch.label_map).to(device, non_blocking=True)
    masks = [
        regions_from_labels(one, get_edition(edition)) for one, edition in zip(labels, batch.editions, strict=True)
    ]
    return normalize_brain(image, mean, sd), torch.stack(masks).float()


def augment(image: Tensor, masks: Tensor, draws: list[AugmentationDraw]) -> tuple[Tensor, Tensor]:
    """Apply each sample's parameters to image and masks (B, channel, K, J, I); background, exactly 0, stays 0."""
    is_brain = image != 0
    gain, shift = (
        torch.from_numpy(np.stack([getattr(draw, name) for draw in draws])).to(image.device)[..., None, None, None]
        for name in ("gain", "shift")
    )
    image = torch.where(is_brain, image * gain + shift + _noise(image, draws), 0.0)
    flipped = [_flip(image[n], masks[n], draw.flip) for n, draw in enumerate(draws)]
    return torch.stack([pair[0] for pair in flipped]), torch.stack([pair[1] for pair in flipped])


def _flip(image: Tensor, masks: Tensor, flip: tuple[bool, bool, bool]) -> tuple[Tensor, Tensor]:
    axes = [axis + 1 for axis in range(3) if flip[axis]]
    return (image.flip(axes), masks.flip(axes)) if axes else (image, masks)


def _noise(image: Tensor, draws: list[AugmentationDraw]) -> Tensor | float:
    if not any(draw.noise_sd for draw in draws):
        return 0.0
    noise = torch.zeros_like(image)
    for sample, draw in enumerate(draws):
        if draw.noise_sd:
            random = torch.Generator(image.device).manual_seed(draw.noise_seed)
            noise[sample].normal_(0.0, draw.noise_sd, generator=random)
    return noise
