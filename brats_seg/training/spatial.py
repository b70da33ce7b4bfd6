"""The spatial part of augmentation: one transform a sample, drawn before anything is read.

A voxel o of the patch, counted from the patch's centre, shows the case at centre + matrix @ o + displacement(o), in
voxels of the case. Rotation, scale and mirroring are one matrix, the elastic part a cubic B-spline of few control
points. So the box of voxels that a patch needs is known before it is read, and one resampling does everything. A draw
that only mirrors is no resampling at all: those voxels are copied.

The image is interpolated linearly with 0 outside the case. Label map and the masks of background (exactly 0 in a
modality) are taken from the nearest voxel, packed into one number, in the same pass: what was background stays exactly
0, what was brain stays brain. At the brain's rim the interpolated values lean towards 0, the brain's mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from brats_seg.config import AugmentationConfig

__all__ = ["Shape", "SpatialDraw", "draw_spatial", "resample", "source_box"]

Shape = tuple[int, int, int]
_CONTROL_SPACING_VOXELS = 32
_MOST_SDS = 2.5
"""Control points move no further than so many standard deviations: no folds, and a box that stays small."""


@dataclass(frozen=True)
class SpatialDraw:
    """The spatial transform of one sample."""

    flip: tuple[bool, bool, bool]
    """Whether each axis (K, J, I) is mirrored; contained in `matrix`."""
    matrix: NDArray[np.float64]
    """(3, 3), from patch voxels to voxels of the case, both (K, J, I) from the patch's centre."""
    displacement: NDArray[np.float32] | None = None
    """(3, nodes K, J, I): displacement of the control points in voxels of the case; None = no elastic part."""

    @property
    def is_resampled(self) -> bool:
        """Whether voxels have to be interpolated; if not, the patch is a mirrored copy at most."""
        return self.displacement is not None or not np.array_equal(np.abs(self.matrix), np.eye(3))


def draw_spatial(config: AugmentationConfig, patch: Shape, random: np.random.Generator) -> SpatialDraw:
    """Return a spatial transform; always takes the same count of numbers from `random`."""
    chance = random.random(6)
    flip = chance[:3] < config.flip
    angles = random.uniform(-1, 1, 3) * np.deg2rad(config.rotation_degrees)
    scale = random.uniform(*config.scaling_range)
    sd_share = random.random()
    nodes = np.clip(random.standard_normal((3, *map(_num_nodes, patch))), -_MOST_SDS, _MOST_SDS)
    matrix = np.diag(np.where(flip, -1.0, 1.0))
    if chance[3] < config.rotation:
        matrix = _rotation(angles) @ matrix
    if chance[4] < config.scaling:
        matrix = matrix * scale
    is_elastic = chance[5] < config.elastic
    return SpatialDraw(
        flip=(bool(flip[0]), bool(flip[1]), bool(flip[2])),
        matrix=matrix,
        displacement=(nodes * sd_share * config.elastic_voxels).astype(np.float32) if is_elastic else None,
    )


def source_box(draw: SpatialDraw, centre: NDArray[np.float64], patch: Shape, size: Shape) -> tuple[Shape, Shape]:
    """Return start and end (K, J, I) of the voxels of a case that a patch needs, within the case.

    Args:
        draw: the transform.
        centre: of the patch, in voxels of the case, which need not be whole.
        patch: voxels of the patch.
        size: voxels of the case.
    """
    reach = np.abs(draw.matrix) @ ((np.array(patch) - 1) / 2)
    if draw.displacement is not None:  # B-spline weights are shares: no point moves further than its control points
        reach = reach + np.abs(draw.displacement).max(axis=(1, 2, 3))
    start = np.clip(np.floor(centre - reach - 1e-3), 0, np.array(size) - 1).astype(int)
    end = np.clip(np.ceil(centre + reach + 1e-3) + 1, start + 1, size).astype(int)
    return (int(start[0]), int(start[1]), int(start[2])), (int(end[0]), int(end[1]), int(end[2]))


def resample(
    image: Tensor,
    label_map: Tensor,
    is_background: Tensor,
    draw: SpatialDraw,
    centre: NDArray[np.float64],
    patch: Shape,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return image (modality, *patch), label map (*patch) and background (modality, *patch) of the transformed patch.

    Args:
        image: (modality, K, J, I) float32, 0 in the background; the voxels of `source_box`.
        label_map: (K, J, I) uint8, below 16.
        is_background: (modality, K, J, I) bool.
        draw: the transform.
        centre: of the patch, in voxels from the box's first voxel.
        patch: voxels of the result.
    """
    slabs = _num_slabs(patch[0], image.device)
    grid = _grid(draw, centre, patch, tuple(image.shape[1:]), image.device)
    grid = grid.reshape(slabs, patch[0] // slabs, *patch[1:], 3)

    def sample(volume: Tensor, mode: str) -> Tensor:
        slabwise = grid_sample(volume.expand(slabs, -1, -1, -1, -1), grid, mode, "zeros", align_corners=False)
        return slabwise[0] if slabs == 1 else slabwise.transpose(0, 1).reshape(len(volume[0]), *patch)

    packed = sample(_packed(label_map, is_background)[None, None].float(), "nearest")[0].to(_packed_type(len(image)))
    background = torch.stack([packed & (16 << modality) == 0 for modality in range(len(image))])
    channels_last = image[None].contiguous(memory_format=torch.channels_last_3d)  # a quarter faster on a CPU
    return sample(channels_last, "bilinear").masked_fill_(background, 0.0), (packed & 15).to(torch.uint8), background


def _packed(label_map: Tensor, is_background: Tensor) -> Tensor:
    """Return one number a voxel: the label in the four lowest bits, then a bit a modality, set in the brain."""
    packed = label_map.to(_packed_type(len(is_background)), copy=True)
    for modality, background in enumerate(is_background):
        packed += (~background).to(packed.dtype) * (16 << modality)
    return packed


def _packed_type(num_modalities: int) -> torch.dtype:
    return torch.uint8 if num_modalities <= 4 else torch.int32


def _grid(
    draw: SpatialDraw, centre: NDArray[np.float64], patch: Shape, box: tuple[int, ...], device: torch.device
) -> Tensor:
    """Return where each patch voxel lies in the box, (*patch, 3) as `grid_sample` takes it: (I, J, K) in -1 ... 1."""
    shares = 2 / np.array(box)  # of the box's half edge, per voxel
    grid = torch.zeros((), device=device)
    for axis, edge in enumerate(patch):
        along = np.outer(np.arange(edge) - (edge - 1) / 2, draw.matrix[:, axis] * shares)
        if axis == 0:
            along += (centre + 0.5) * shares - 1
        shape = [1, 1, 1, 3]
        shape[axis] = edge
        grid = grid + _on(along[:, ::-1], device).reshape(shape)
    if draw.displacement is not None:
        grid = grid + _displacements(draw.displacement[::-1] * shares[::-1, None, None, None], patch, device)
    return grid


def _displacements(nodes: NDArray[np.float64], patch: Shape, device: torch.device) -> Tensor:
    """Return the cubic B-spline through control points (3, nodes K, J, I) at every patch voxel, (*patch, 3)."""
    k, j, i = (_on(_spline_weights(edge), device) for edge in patch)
    along_i = torch.matmul(_on(nodes, device), i.T)  # (3, nodes K, nodes J, I)
    along_j = torch.matmul(j, along_i)  # (3, nodes K, J, I)
    along_k = torch.matmul(k, along_j.flatten(2))  # (3, K, J x I)
    return along_k.reshape(3, *patch).permute(1, 2, 3, 0)


def _spline_weights(edge: int) -> NDArray[np.float64]:
    """Return the share of each control point at each of `edge` voxels, (edge, nodes); every row adds up to 1."""
    cell, rest = np.divmod(np.arange(edge) / _CONTROL_SPACING_VOXELS, 1)
    weights = np.zeros((edge, _num_nodes(edge)))
    shares = ((1 - rest) ** 3, 3 * rest**3 - 6 * rest**2 + 4, -3 * rest**3 + 3 * rest**2 + 3 * rest + 1, rest**3)
    for node, share in enumerate(shares):
        weights[np.arange(edge), cell.astype(int) + node] = share / 6
    return weights


def _num_nodes(edge: int) -> int:
    return (edge - 1) // _CONTROL_SPACING_VOXELS + 4


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation about K, then J, then I, by angles in radians."""
    whole = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        whole = turn @ whole
    return whole


def _num_slabs(edge: int, device: torch.device) -> int:
    """Return in how many slabs a patch is sampled: on a CPU `grid_sample` gives each member of a batch one thread."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(slabs for slabs in range(1, threads + 1) if edge % slabs == 0)


def _on(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device, non_blocking=True)
