"""The intensity part of augmentation: each modality of a sample in place, by parameters drawn before.

The order is nnU-Net's: noise, blur, brightness, contrast, low resolution, gamma on inverted intensities, gamma; then
gain and shift, and missing modalities. Background, exactly 0, stays exactly 0, as the network sees it at inference:
blur and low resolution see the background as 0 (the brain's mean) and write into the brain alone; means, standard
deviations and sums are those of the brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from brats_seg.config import AugmentationConfig
from brats_seg.preprocessing.transforms import keep_brain

__all__ = ["IntensityDraw", "change_intensities", "draw_intensity"]

_TRUNCATE_SDS = 3.0
"""Radius of the blur's kernel in standard deviations."""


@dataclass(frozen=True)
class IntensityDraw:
    """Parameters of one sample; arrays have a value a modality, and the neutral value where there is no effect.

    Along the slice axis of slices, blur and resolution are neutral.
    """

    noise_sd: float
    """Standard deviation of added noise; 0 = none."""
    noise_seed: int
    blur_voxels: NDArray[np.float64]
    """(modality, 3) standard deviation along K, J, I; 0 = none."""
    brightness: NDArray[np.float64]
    """Factor; 1 = none."""
    contrast: NDArray[np.float64]
    """Factor about the mean; 1 = none."""
    resolution: NDArray[np.float64]
    """(modality, 3) share of the voxels kept along K, J, I; 1 = all."""
    gamma_inverted: NDArray[np.float64]
    """Exponent on the inverted intensities; 1 = none."""
    gamma: NDArray[np.float64]
    """Exponent; 1 = none."""
    gain: NDArray[np.float64]
    """Factor; 1 = none."""
    shift: NDArray[np.float64]
    """Offset; 0 = none."""
    is_kept: NDArray[np.bool_]
    """False where the modality is missing."""


def draw_intensity(
    config: AugmentationConfig, num_modalities: int, random: np.random.Generator, slice_axis: int | None = None
) -> IntensityDraw:
    """Return a sample's parameters; always takes the same count of numbers from `random`."""
    chance = random.random(8)
    each = (random.random((4, num_modalities)) < 0.5).astype(bool)
    noise_sd, noise_seed = random.random() * config.noise_sd, int(random.integers(2**62))
    blur = random.uniform(*config.blur_range, (num_modalities, 3))
    factors = [
        _about_one(limits, num_modalities, random)
        for limits in (config.brightness_range, config.contrast_range, config.gamma_range, config.gamma_range)
    ]
    resolution = random.uniform(*config.low_resolution_range, num_modalities)
    normal = random.standard_normal((2, num_modalities))
    in_plane = np.arange(3) != (3 if slice_axis is None else slice_axis)
    survivor = int(random.integers(num_modalities))
    has = chance < [
        config.noise,
        config.blur,
        config.brightness,
        config.contrast,
        config.low_resolution,
        config.gamma_inverted,
        config.gamma,
        config.modality_dropout,
    ]
    return IntensityDraw(
        noise_sd=noise_sd if has[0] else 0.0,
        noise_seed=noise_seed,
        blur_voxels=np.where(has[1] & each[0, :, None] & in_plane, blur, 0.0),
        brightness=np.where(has[2], factors[0], 1.0),
        contrast=np.where(has[3], factors[1], 1.0),
        resolution=np.where((has[4] & each[1])[:, None] & in_plane, resolution[:, None], 1.0),
        gamma_inverted=np.where(has[5], factors[2], 1.0),
        gamma=np.where(has[6], factors[3], 1.0),
        gain=1 + config.gain * normal[0],
        shift=config.shift * normal[1],
        is_kept=~(has[7] & each[2]) | (has[7] & (np.arange(num_modalities) == survivor)),
    )


def _about_one(limits: tuple[float, float], num: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return factors within limits, those below and above 1 equally often where the limits hold both."""
    is_below = random.random(num) < 0.5
    low, high = limits
    below, above = random.uniform(low, min(high, 1.0), num), random.uniform(max(low, 1.0), high, num)
    if low >= 1 or high <= 1:
        return above if low >= 1 else below
    return np.where(is_below, below, above)


def change_intensities(image: Tensor, brain: Tensor, draw: IntensityDraw) -> None:
    """Apply a sample's parameters to its image, in place.

    Args:
        image: (modality, K, J, I) float32, contiguous, 0 in the background.
        brain: (modality, K, J, I) int32, as `brain_bits` gives it.
        draw: the parameters.
    """
    if draw.noise_sd:
        random = torch.Generator(image.device).manual_seed(draw.noise_seed)
        image.add_(torch.randn(image.shape, generator=random, device=image.device), alpha=draw.noise_sd)
        keep_brain(image, brain)
    for modality, (volume, bits) in enumerate(zip(image, brain, strict=True)):
        if not draw.is_kept[modality]:
            volume.zero_()
            continue
        if draw.blur_voxels[modality].any():
            keep_brain(volume.copy_(_blurred(volume, draw.blur_voxels[modality])), bits)
        if draw.brightness[modality] != 1:
            volume.mul_(float(draw.brightness[modality]))
        if draw.contrast[modality] != 1:
            _change_contrast(volume, bits, float(draw.contrast[modality]))
        if (draw.resolution[modality] != 1).any():
            keep_brain(volume.copy_(_at_resolution(volume, draw.resolution[modality])), bits)
        if draw.gamma_inverted[modality] != 1:
            _apply_gamma(volume.neg_(), bits, float(draw.gamma_inverted[modality]))
            keep_brain(volume.neg_(), bits)
        if draw.gamma[modality] != 1:
            _apply_gamma(volume, bits, float(draw.gamma[modality]))
        if draw.gain[modality] != 1 or draw.shift[modality] != 0:
            keep_brain(volume.mul_(float(draw.gain[modality])).add_(float(draw.shift[modality])), bits)


def _blurred(volume: Tensor, sd_voxels: NDArray[np.float64]) -> Tensor:
    """Return (K, J, I) blurred along the axes with a standard deviation above 0; beyond its edges it is 0."""
    for axis, sd in enumerate(sd_voxels):
        if sd == 0:
            continue
        radius = int(_TRUNCATE_SDS * sd + 0.5)
        weights = np.exp(-0.5 * (np.arange(radius + 1) / sd) ** 2)
        weights /= weights[0] + 2 * weights[1:].sum()
        edge = volume.shape[axis]
        blurred = volume * float(weights[0])
        for away in range(1, min(radius, edge - 1) + 1):
            for to, of in ((away, 0), (0, away)):
                part = volume.narrow(axis, of, edge - away)
                blurred.narrow(axis, to, edge - away).add_(part, alpha=float(weights[away]))
        volume = blurred
    return volume


def _at_resolution(volume: Tensor, shares: NDArray[np.float64]) -> Tensor:
    """Return (K, J, I) as a scanner of fewer voxels would give it: nearest voxels, then linear interpolation."""
    coarse = [max(1, round(edge * share)) for edge, share in zip(volume.shape, shares.tolist(), strict=True)]
    few = interpolate(volume[None, None], size=coarse, mode="nearest-exact")
    return interpolate(few, size=volume.shape, mode="trilinear", align_corners=False)[0, 0]


def _moments(volume: Tensor, num_brain: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the brain of a volume that is 0 elsewhere; both stay on the device."""
    mean = volume.sum() / num_brain
    variance = torch.linalg.vector_norm(volume) ** 2 / num_brain - mean**2
    return mean, variance.clamp_min(0).sqrt()


def _num_brain(bits: Tensor) -> Tensor:
    """Return how many voxels have their bits set (each is the integer -1), at least 1."""
    return (-bits.sum(dtype=torch.int32)).clamp_min(1)


def _change_contrast(volume: Tensor, bits: Tensor, factor: float) -> None:
    """Stretch (K, J, I) about the brain's mean, in place, within the range that it has."""
    mean = volume.sum() / _num_brain(bits)
    low, high = volume.aminmax()
    volume.sub_(mean).mul_(factor).add_(mean)
    torch.maximum(volume, low, out=volume)
    torch.minimum(volume, high, out=volume)  # clamp_ takes ten times as long on a CPU, with limits that are tensors
    keep_brain(volume, bits)


def _apply_gamma(volume: Tensor, bits: Tensor, exponent: float) -> None:
    """Bend (K, J, I) by an exponent within its range, in place; the brain keeps its mean and standard deviation."""
    num_brain = _num_brain(bits)
    mean, sd = _moments(volume, num_brain)
    low, high = volume.aminmax()
    span = (high - low).clamp_min(1e-7)
    keep_brain(volume.sub_(low).div_(span).pow_(exponent), bits)
    bent_mean, bent_sd = _moments(volume, num_brain)
    factor = sd / bent_sd.clamp_min(1e-7)
    keep_brain(volume.mul_(factor).add_(mean - bent_mean * factor), bits)
