"""From an image's own grid to the space that a network was trained in, and probabilities back again. Arrays only.

A grid that differs from the model's space in the order or direction of its axes alone is turned: voxels move, none
changes, and turning back is exact. One of another spacing is resampled along its own axes, one that is tilted is then
rotated. Every step is linear interpolation, widened to a triangle of the larger voxel where that makes an image
coarser (a coarse voxel is the weighted mean of the fine ones in and around it), so that nothing aliases.

Images are interpolated among brain voxels only (the weights of background voxels are given to the others), and a voxel
is brain if at least half of its weights are: so the brain's rim stays as bright as it is, background stays exactly 0,
and no value leaves the range of its neighbours. Cubic interpolation would overshoot at the rim, where skull stripping
left a step from brain to 0. Background of probabilities counts as 0.

Axes are (K, J, I), file order. Affines are nibabel's: from (i, j, k) to RAS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from brats_seg.errors import DataError

__all__ = ["Matrix", "Placement", "Space", "affine_in", "is_in_space", "orientation_of", "place_image", "spacing_of"]

Shape = tuple[int, int, int]
Matrix = NDArray[np.floating[Any]]

_LARGEST_EXTENT_MM = 600.0
"""No head with its neck is longer; what is has a wrong spacing in its header, and would fill the memory."""
_TOLERANCE_VOXELS = 0.5
"""How far a voxel may lie from where the model's space would have it, measured from the volume's centre."""

_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
"""Letter -> unit vector in RAS+ (to the right, to the front, up)."""

_codes_of: Any = nib.orientations.aff2axcodes  # nibabel's functions carry no types


@dataclass(frozen=True)
class Space:
    """The geometry of a model's training cases."""

    orientation: str
    """Directions in which I, J and K grow, such as `LPS` (to the left, to the back, up): BraTS' own."""
    spacing_mm: tuple[float, float, float] | None
    """Voxel size along (K, J, I); None where the training cases differ, so that a case keeps its own."""

    def __str__(self) -> str:
        """Return `LPS, 1x1x1 mm` (along I, J, K)."""
        sizes = "any voxel size"
        if self.spacing_mm is not None:
            sizes = "x".join(f"{mm:.3g}" for mm in self.spacing_mm[::-1]) + " mm"
        return f"{self.orientation}, {sizes}"


@dataclass(frozen=True, eq=False)
class Placement:
    """How the box of an image that holds its brain lies in the model's space.

    `order` and `flips` turn it: axis n of the turned box is axis `order[n]` of the image, reversed where `flips[n]`.
    """

    image_shape: Shape
    """Of the whole image."""
    start: Shape
    """Where the box begins in it."""
    box_shape: Shape
    order: Shape
    flips: tuple[bool, bool, bool]
    ratios: tuple[float, float, float]
    """Voxel size of the model's space / of the turned box, along its (K, J, I)."""
    rotation: Matrix | None
    """3x3, steps (k, j, i) of the model's space -> steps along the turned box's axes, both in the model's voxels."""
    model_shape: Shape
    """Of the box in the model's space."""

    @property
    def is_resampled(self) -> bool:
        """Whether voxels are interpolated; else they only move."""
        return self.ratios != (1.0, 1.0, 1.0) or self.rotation is not None

    @property
    def voxels_per_model_voxel(self) -> float:
        """How many of the image's voxels have the volume of one of the model's."""
        return float(np.prod(self.ratios))

    def to_model(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an image (modality, K, J, I) of the whole grid in the model's space.

        Its type is kept where voxels only move; a resampled image is float32.
        """
        turned = self._turned(image[(slice(None), *self._box)])
        if not self.is_resampled:
            return np.ascontiguousarray(turned)
        result = np.empty((len(image), *self.model_shape), np.float32)
        known: list[tuple[NDArray[np.bool_], NDArray[np.float32]]] = []  # modalities mostly share their brain
        for target, volume in zip(result, turned, strict=True):
            inside = volume != 0
            share = next((of for mask, of in known if np.array_equal(mask, inside)), None)
            if share is None:
                share = self._resampled(inside.astype(np.float32))
                known.append((inside, share))
            is_brain = share >= 0.5
            values = self._resampled(volume.astype(np.float32))
            np.divide(values, share, out=target, where=is_brain)
            target[~is_brain] = 0
        return result

    def to_image(self, probabilities: NDArray[np.float32], start: Sequence[int]) -> NDArray[np.float32]:
        """Return probabilities (region, K, J, I) of a crop of the model's space on the grid of the image's box.

        Args:
            probabilities: 0-1; what lies outside of the crop counts as 0.
            start: where the crop begins in the model's space.

        Returns:
            (region, *box_shape); the box begins at `self.start` of the image.
        """
        result = np.empty((len(probabilities), *self._turned_shape), np.float32)
        whole = np.zeros(self.model_shape, np.float32)
        k, j, i = (slice(s, s + n) for s, n in zip(start, probabilities.shape[1:], strict=True))
        for target, values in zip(result, probabilities, strict=True):
            whole[k, j, i] = values
            target[...] = self._resampled_back(whole)
        return self._turned_back(result)

    @property
    def _box(self) -> tuple[slice, slice, slice]:
        k, j, i = (slice(s, s + n) for s, n in zip(self.start, self.box_shape, strict=True))
        return k, j, i

    @property
    def _turned_shape(self) -> Shape:
        k, j, i = (self.box_shape[axis] for axis in self.order)
        return k, j, i

    def _turned(self, volumes: NDArray[Any]) -> NDArray[Any]:
        """Return a view of (C, K, J, I) with the axes of the model's space."""
        moved = volumes.transpose(0, *(axis + 1 for axis in self.order))
        return moved[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def _turned_back(self, volumes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (C, K, J, I) of the turned box with the image's own axes, as a new array."""
        moved = volumes[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]
        return np.ascontiguousarray(moved.transpose(0, *(axis + 1 for axis in np.argsort(self.order))))

    def _straight_shape(self) -> Shape:
        """Return the shape of the turned box in voxels of the model's size."""
        return _whole(np.array(self._turned_shape) / np.array(self.ratios))

    def _resampled(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the turned box (K, J, I) in the model's space."""
        for axis, (size, ratio) in enumerate(zip(self._straight_shape(), self.ratios, strict=True)):
            volume = _along(volume, _weights(size, volume.shape[axis], ratio), axis)
        if self.rotation is None:
            return volume
        offset = _middle(volume.shape) - self.rotation @ _middle(self.model_shape)
        return _interpolated(volume, self.rotation, offset, self.model_shape)

    def _resampled_back(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a volume (K, J, I) of the model's space on the grid of the turned box."""
        straight = self._straight_shape()
        if self.rotation is not None:
            back: Matrix = np.linalg.inv(self.rotation)
            offset = _middle(self.model_shape) - back @ _middle(straight)
            volume = _interpolated(volume, back, offset, straight)
        for axis, (size, ratio) in enumerate(zip(self._turned_shape, self.ratios, strict=True)):
            volume = _along(volume, _weights(size, straight[axis], 1 / ratio), axis)
        return volume


def orientation_of(affine: Matrix) -> str:
    """Return the directions in which I, J and K grow (the nearest of left, right, front, back, up, down): `LPS`."""
    return "".join(_codes_of(affine))


def spacing_of(affine: Matrix) -> tuple[float, float, float]:
    """Return the voxel size in mm along (K, J, I)."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return k, j, i


def affine_in(space: Space, spacing_mm: tuple[float, float, float]) -> Matrix:
    """Return the affine of an image whose axes are those of a space, for headers that tell no orientation."""
    axes = np.array([_DIRECTIONS[letter] for letter in space.orientation], np.float64).T
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm[::-1]
    return affine


def is_in_space(shape: Sequence[int], affine: Matrix, space: Space) -> bool:
    """Return whether an image (K, J, I) lies in a model's space already, to half a voxel, wherever it begins."""
    fit = _fit(shape, affine, space)
    return fit.order == (0, 1, 2) and not any(fit.flips) and fit.ratios == (1, 1, 1) and fit.rotation is None


def place_image(shape: Sequence[int], affine: Matrix, space: Space, box: tuple[slice, slice, slice]) -> Placement:
    """Return how an image lies in a model's space.

    Args:
        shape: (K, J, I) of the image.
        affine: its 4x4, (i, j, k) -> RAS+ mm.
        space: the model's.
        box: slices (K, J, I) that hold its brain.

    Raises:
        DataError: the box is longer than any head.
    """
    fit = _fit(shape, affine, space)
    sizes = np.array([part.stop - part.start for part in box])
    _require_head(sizes * spacing_of(affine))
    straight = _whole(sizes[list(fit.order)] / np.array(fit.ratios))
    model_shape = straight if fit.rotation is None else _whole(np.abs(np.linalg.inv(fit.rotation)) @ straight)
    starts = (box[0].start, box[1].start, box[2].start)
    return Placement(_three(shape), starts, _three(sizes), fit.order, fit.flips, fit.ratios, fit.rotation, model_shape)


@dataclass(frozen=True, eq=False)
class _Fit:
    """As in `Placement`."""

    order: Shape
    flips: tuple[bool, bool, bool]
    ratios: tuple[float, float, float]
    rotation: Matrix | None


def _fit(shape: Sequence[int], affine: Matrix, space: Space) -> _Fit:
    """Return how the axes of an image (K, J, I) fit those of a model's space; less than half a voxel is no difference.

    The distance is measured between the corners of the whole image, its centre kept.
    """
    axes = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(axes, axis=0)
    model_axes = np.array([_DIRECTIONS[letter] for letter in reversed(space.orientation)], np.float64).T
    cosines = model_axes.T @ (axes / spacing)  # (model axis, image axis)
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[n, axis]) for n, axis in enumerate(axes)))
    cosines, spacing, half = cosines[:, order], spacing[list(order)], (np.array(shape)[list(order)] - 1) / 2
    signs = np.where(np.diag(cosines) < 0, -1.0, 1.0)
    wanted = spacing if space.spacing_mm is None else np.array(space.spacing_mm)
    ratios = np.where(np.abs(spacing / wanted - 1) * half <= _TOLERANCE_VOXELS, 1.0, wanted / spacing)
    to_model = cosines * signs * wanted / wanted[:, None]  # steps along the turned axes -> steps of the model's space
    corners = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1) * (half / ratios)[:, None]
    is_tilted = np.abs(to_model @ corners - corners).max() > _TOLERANCE_VOXELS
    flips = (bool(signs[0] < 0), bool(signs[1] < 0), bool(signs[2] < 0))
    k, j, i = ratios.tolist()
    return _Fit(_three(order), flips, (k, j, i), np.linalg.inv(to_model) if is_tilted else None)


def _require_head(extent_mm: NDArray[np.float64]) -> None:
    if extent_mm.max() > _LARGEST_EXTENT_MM:
        words = " x ".join(f"{length:.0f}" for length in extent_mm)
        raise DataError(
            f"the image is {words} mm large (K, J, I), and no head is longer than {_LARGEST_EXTENT_MM:.0f} mm; "
            "the voxel size in its header is wrong: correct it"
        )


def _three(numbers: Sequence[Any] | NDArray[Any]) -> Shape:
    k, j, i = (int(n) for n in numbers)
    return k, j, i


def _whole(sizes: NDArray[Any]) -> Shape:
    """Return sizes in voxels rounded up, at least 1; what rounding of numbers adds does not count."""
    return _three(np.maximum(np.ceil(np.asarray(sizes) - 1e-6), 1))


def _middle(shape: Sequence[int]) -> Matrix:
    return (np.array(shape, np.float64) - 1) / 2


def _weights(size: int, size_before: int, ratio: float) -> NDArray[np.float32] | None:
    """Return the weights (size, size_before) of the old voxels in each new one along an axis; None if nothing changes.

    Both rows of voxels have one centre; a new voxel is `ratio` old ones long. Rows sum to 1 but for what lies outside.
    """
    if ratio == 1 and size == size_before:
        return None
    width = max(1.0, ratio)
    beyond = int(np.ceil(width)) + 2
    centres = (size_before - 1) / 2 + (np.arange(size) - (size - 1) / 2) * ratio
    distances = np.abs(np.arange(-beyond, size_before + beyond) - centres[:, None])
    weights = np.maximum(1 - distances / width, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[:, beyond:-beyond].astype(np.float32)


def _along(volume: NDArray[np.float32], weights: NDArray[np.float32] | None, axis: int) -> NDArray[np.float32]:
    """Return a volume (K, J, I) with an axis resampled by `_weights`, of which few are not 0."""
    if weights is None:
        return volume
    rows = np.moveaxis(volume, axis, 0)
    resampled = csr_array(weights) @ rows.reshape(len(rows), -1)
    return np.ascontiguousarray(np.moveaxis(resampled.reshape(-1, *rows.shape[1:]), 0, axis))


def _interpolated(volume: NDArray[np.float32], matrix: Matrix, offset: Matrix, shape: Shape) -> NDArray[np.float32]:
    """Return the volume (K, J, I) at `matrix @ (k, j, i) + offset` for all voxels of `shape`; outside it is 0.

    ITK's resampling takes a third of the time of SciPy's.
    """
    import SimpleITK  # noqa: PLC0415 (only tilted images need it)

    sitk: Any = SimpleITK  # its functions carry no types
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())  # ITK counts axes as I, J, K
    transform.SetTranslation(offset[::-1].tolist())
    image = sitk.GetImageFromArray(np.pad(volume, 1))  # so that the rim fades to 0 as inside
    image.SetOrigin((-1.0, -1.0, -1.0))
    straight = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    result = sitk.Resample(
        image, shape[::-1], transform, sitk.sitkLinear, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), straight, 0.0
    )
    values: NDArray[np.float32] = sitk.GetArrayFromImage(result)
    return values
