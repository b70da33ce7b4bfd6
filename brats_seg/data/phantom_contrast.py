"""The contrasts of a synthetic case: how bright each tissue is in each modality.

Comes in: a `Head` whose tissue is known. Goes out: int16 images, each with its own texture, noise, bias field and gain.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.phantom_shapes import Head, Tissue, Volume, smooth_noise, smoothed

__all__ = ["INTENSITIES", "paint_modality"]

INTENSITIES: Mapping[str, tuple[int, ...]] = {
    "t1": (430, 330, 110, 370, 405, 335, 330, 350, 385, 310, 260, 140, 115, 200, 290),
    "t1c": (440, 340, 120, 390, 415, 345, 700, 850, 395, 325, 275, 150, 125, 215, 740),
    "t2": (260, 350, 900, 300, 345, 390, 400, 230, 390, 540, 600, 850, 900, 640, 480),
    "flair": (300, 375, 90, 340, 570, 590, 390, 260, 450, 600, 530, 200, 100, 340, 540),
}
"""Mean intensity by modality of the tissues WHITE to ENHANCING, in the order of their codes."""


def paint_modality(rng: np.random.Generator, head: Head, modality: str) -> NDArray[np.int16]:
    """Return the image of one modality in the head's box."""
    table = np.zeros(len(Tissue), np.float32)
    table[1:] = INTENSITIES[modality]
    table[1:] *= rng.uniform(0.93, 1.07, len(table) - 1).astype(np.float32)
    _fade_tumor(rng, table, modality)
    image: Volume = table[head.tissue]
    brain = np.flatnonzero(head.tissue)
    flat = image.reshape(-1)
    flat[brain] += rng.standard_normal(brain.size, dtype=np.float32) * np.float32(rng.uniform(30, 75))
    smoothed(image)
    texture = smooth_noise(rng, image.shape, 7 * head.voxels_per_mm).reshape(-1)
    bias = smooth_noise(rng, image.shape, 70 * head.voxels_per_mm).reshape(-1)
    values = flat[brain] + np.float32(9) * texture[brain]
    values *= 1 + np.float32(rng.uniform(0.05, 0.12)) * bias[brain]
    values *= np.float32(rng.uniform(0.8, 2.5))
    out = np.zeros(image.shape, np.int16)
    out.reshape(-1)[brain] = np.clip(np.rint(values), 1, 32767)
    return out


def _fade_tumor(rng: np.random.Generator, table: Volume, modality: str) -> None:
    """Bring the tumour's contrast to white matter to a part of itself, in place: cases differ."""
    share = np.float32(rng.uniform(0.55, 1.3) if modality == "flair" else rng.uniform(0.7, 1.15))
    edema = [Tissue.FAINT_EDEMA, Tissue.EDEMA, Tissue.NON_ENHANCING]
    table[edema] = table[Tissue.WHITE] + share * (table[edema] - table[Tissue.WHITE])
