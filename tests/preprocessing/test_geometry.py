"""Images in the model's space and probabilities back on the image's grid: turning is exact, resampling is linear."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from brats_seg.errors import DataError
from brats_seg.preprocessing.geometry import Placement, Space, is_in_space, orientation_of, place_image, spacing_of

LPS = Space("LPS", (1.0, 1.0, 1.0))
BRATS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def affine_of(columns: NDArray[np.float64] | list[list[float]], spacing_mm: tuple[float, float, float]) -> NDArray:
    """Affine with these RAS+ directions of I, J, K as columns, and this voxel size along (K, J, I)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns) * spacing_mm[::-1]
    return affine


def whole(shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    k, j, i = (slice(0, n) for n in shape)
    return k, j, i


def tilted(degrees: float) -> NDArray[np.float64]:
    """LPS axes turned about the left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([-1.0, -1, 1])


def ball(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    """A ball in the middle of a grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    return k**2 + j**2 + i**2 <= radius_mm**2


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def test_brats_geometry_is_the_model_space_whatever_its_origin() -> None:
    assert orientation_of(BRATS) == "LPS"
    moved = BRATS.copy()
    moved[:3, 3] = [-90, 126, -72]
    for affine in (BRATS, moved):
        assert is_in_space((155, 240, 240), affine, LPS)


@pytest.mark.parametrize(
    ("spacing_mm", "is_there"),
    [((1.0, 1.0, 1.0), True), ((1.001, 1.0, 0.999), True), ((1.0, 1.0, 1.01), False), ((2.0, 1.0, 1.0), False)],
)
def test_less_than_half_a_voxel_at_the_corners_is_no_difference(
    spacing_mm: tuple[float, float, float], is_there: bool
) -> None:
    # 240 voxels of 1.01 mm end 1.2 mm further out than those of 1 mm; of 0.999 mm 0.12 mm
    assert is_in_space((155, 240, 240), affine_of(np.diag([-1.0, -1, 1]), spacing_mm), LPS) is is_there


def test_a_tilt_counts_from_half_a_voxel_at_the_corners() -> None:
    # the far corner lies some 142 mm from the axis of the turn: 0.1 degrees are 0.25 mm there, 1 degree 2.5 mm
    assert is_in_space((155, 240, 240), affine_of(tilted(0.1), (1, 1, 1)), LPS)
    assert not is_in_space((155, 240, 240), affine_of(tilted(1), (1, 1, 1)), LPS)


def test_a_space_without_spacing_keeps_the_voxels_of_every_case() -> None:
    assert is_in_space((30, 40, 50), affine_of(np.diag([-1.0, -1, 1]), (5, 0.4, 0.4)), Space("LPS", None))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_orientation_is_turned_exactly_and_back(order: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 1000, (2, 4, 5, 6)).astype(np.int16)
    flipped = truth[(slice(None), *(slice(None, None, sign) for sign in signs))]
    image = np.ascontiguousarray(flipped.transpose(0, *(axis + 1 for axis in order)))
    own = np.diag([-1.0, -1, 1])[:, ::-1] * signs  # directions along K, J, I of `flipped`
    affine = affine_of(own[:, list(order)][:, ::-1], (1, 1, 1))
    placement = place_image(image.shape[1:], affine, LPS, whole(image.shape[1:]))
    assert not placement.is_resampled
    turned = placement.to_model(image)
    assert turned.dtype == np.int16
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, truth)
    values = rng.random((3, 2, 3, 4)).astype(np.float32)  # of a crop that begins at (1, 2, 1)
    expected = np.zeros((3, 4, 5, 6), np.float32)
    expected[:, 1:3, 2:5, 1:5] = values
    expected = expected[(slice(None), *(slice(None, None, sign) for sign in signs))]
    assert np.array_equal(placement.to_image(values, (1, 2, 1)), expected.transpose(0, *(axis + 1 for axis in order)))


def test_only_the_box_of_the_brain_is_taken_along() -> None:
    image = np.zeros((1, 6, 6, 6), np.int16)
    image[0, 1:3, 2:5, 4] = 7
    box = (slice(1, 3), slice(2, 5), slice(4, 5))
    placement = place_image((6, 6, 6), affine_of(np.eye(3), (1, 1, 1)), LPS, box)  # RAS
    assert np.array_equal(placement.to_model(image), np.full((1, 2, 3, 1), 7, np.int16))
    assert placement.start == (1, 2, 4)
    assert placement.to_image(np.ones((1, 2, 3, 1), np.float32), (0, 0, 0)).shape == (1, 2, 3, 1)


def test_thick_slices_are_interpolated_linearly_between_their_middles() -> None:
    image = np.array([10.0, 40.0], np.float32)[None, :, None, None] * np.ones((1, 1, 2, 2), np.float32)
    placement = place_image((2, 2, 2), affine_of(np.diag([-1.0, -1, 1]), (3, 1, 1)), LPS, whole((2, 2, 2)))
    # six slices of 1 mm; the middles of the thick ones are those of the second and the fifth
    assert placement.to_model(image)[0, :, 0, 0].tolist() == pytest.approx([10, 10, 20, 30, 40, 40])


def test_finer_voxels_are_averaged_not_picked() -> None:
    stripes = np.where(np.arange(30) % 2, 100, 300).astype(np.int16)
    image = np.broadcast_to(stripes[None, :, None, None], (1, 30, 4, 4))
    placement = place_image((30, 4, 4), affine_of(np.diag([-1.0, -1, 1]), (1 / 3, 1, 1)), LPS, whole((30, 4, 4)))
    # the triangle over five voxels of a third gives the middle one and its like 5/9 of the weight
    assert placement.to_model(image)[0, 1:-1, 1, 1].tolist() == pytest.approx([211, 189] * 4, abs=0.5)


def test_background_stays_zero_and_the_rim_as_bright_as_the_brain() -> None:
    spacing_mm = (3.0, 0.5, 0.8)
    image = np.where(ball((20, 100, 60), spacing_mm, 18), 500, 0).astype(np.int16)[None]
    placement = place_image(image.shape[1:], affine_of(np.diag([-1.0, -1, 1]), spacing_mm), LPS, whole((20, 100, 60)))
    result = placement.to_model(image)
    assert result.dtype == np.float32
    inside = result != 0
    assert np.allclose(result[inside], 500, rtol=1e-5)
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * 18**3, rel=0.03)


def test_a_modality_keeps_its_own_background() -> None:
    image = np.full((2, 8, 8, 8), 100, np.int16)
    image[1, :4] = 0
    placement = place_image((8, 8, 8), affine_of(np.diag([-1.0, -1, 1]), (2, 2, 2)), LPS, whole((8, 8, 8)))
    result = placement.to_model(image)
    assert result.shape == (2, 16, 16, 16)
    inner = (slice(1, -1), slice(1, -1))  # corners of the volume lie mostly outside
    assert np.allclose(result[0, 1:-1, *inner], 100)
    assert not result[1, :8].any()
    assert np.allclose(result[1, 8:-1, *inner], 100)


ANISOTROPIC = [
    ((3.0, 1.0, 1.0), tilted(0), 0.96),
    ((3.0, 1.0, 1.0), tilted(17), 0.94),
    ((1.0, 1.0, 1.0), tilted(25), 0.97),
    ((0.5, 0.5, 2.0), tilted(-10)[:, [2, 0, 1]], 0.95),
    ((2.0, 2.0, 2.0), tilted(0), 0.97),
]


@pytest.mark.parametrize(("spacing_mm", "axes", "least"), ANISOTROPIC)
def test_a_ball_comes_back_from_the_model_space(
    spacing_mm: tuple[float, float, float], axes: NDArray[np.float64], least: float
) -> None:
    shape = tuple(int(60 / mm) for mm in spacing_mm)
    mask = ball(shape, spacing_mm, 20)  # type: ignore[arg-type]
    placement = place_image(shape, affine_of(axes, spacing_mm), LPS, whole(shape))
    model = placement.to_model(mask.astype(np.float32)[None])
    truth = ball(model.shape[1:], (1, 1, 1), 20)
    assert dice(model[0] > 0, truth) > least
    back = placement.to_image(truth.astype(np.float32)[None], (0, 0, 0))
    assert dice(back[0] >= 0.5, mask) > least
    assert placement.voxels_per_model_voxel == pytest.approx(1 / np.prod(spacing_mm))


@pytest.mark.parametrize(("spacing_mm", "axes", "least"), ANISOTROPIC)
def test_a_smooth_field_survives_the_round_trip(
    spacing_mm: tuple[float, float, float], axes: NDArray[np.float64], least: float
) -> None:
    shape = tuple(int(60 / mm) for mm in spacing_mm)
    places = np.meshgrid(*[np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True)], indexing="ij")
    field = (0.5 + 0.1 * sum(np.sin(2 * np.pi * place / 40) for place in places)).astype(np.float32)
    placement = place_image(shape, affine_of(axes, spacing_mm), LPS, whole(shape))
    back = placement.to_image(placement.to_model(field[None]), (0, 0, 0))[0]
    middle = tuple(slice(n // 4, n - n // 4) for n in shape)  # away from where background begins
    assert np.abs(back[middle] - field[middle]).max() < 0.02


@settings(max_examples=30, deadline=None)
@given(
    mm=st.tuples(*[st.floats(0.4, 4)] * 3),
    degrees=st.floats(-40, 40),
    order=st.permutations([0, 1, 2]),
    model_mm=st.tuples(*[st.floats(0.8, 2)] * 3),
)
def test_places_in_mm_are_kept_by_any_geometry(
    mm: tuple[float, float, float], degrees: float, order: list[int], model_mm: tuple[float, float, float]
) -> None:
    """The coordinate along a patient's axis, as an image, is that coordinate in the model's space."""
    shape = (9, 11, 13)
    affine = affine_of(tilted(degrees)[:, order], mm)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    centre = affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    ras = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T - centre
    placement = place_image(shape, affine, Space("LPS", model_mm), whole(shape))
    along_p = placement.to_model((1000 - ras[..., 1]).astype(np.float32)[None])[0]  # grows to the back, as J does
    middle = tuple(slice((n - 1) // 2, (n + 2) // 2) for n in along_p.shape)  # one or two voxels around the centre
    if placement.ratios == (1, 1, 1) and placement.rotation is None:
        return  # half a voxel counts as none
    assert along_p[middle].mean() == pytest.approx(1000, abs=0.3)


def test_a_tilted_image_is_interpolated_as_scipy_does() -> None:
    volume = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
    matrix = np.diag([-1.0, -1, 1])[::-1, ::-1] @ tilted(20)[::-1, ::-1]  # model's steps -> image's, in (k, j, i)
    placement = place_image(volume.shape, affine_of(tilted(20), (1, 1, 1)), LPS, whole(volume.shape))
    model_shape = placement.model_shape
    offset = (np.array(volume.shape) - 1) / 2 - matrix.T @ ((np.array(model_shape) - 1) / 2)
    expected = affine_transform(volume, matrix.T, offset, model_shape, order=1, mode="grid-constant")
    share = affine_transform(np.ones_like(volume), matrix.T, offset, model_shape, order=1, mode="grid-constant")
    is_brain = share >= 0.5
    found = placement.to_model(volume[None])[0]
    assert np.allclose(found[is_brain], (expected / share.clip(0.5))[is_brain], atol=1e-5)
    assert not found[share < 0.499].any()


def test_an_impossible_extent_is_refused_by_name_of_the_remedy() -> None:
    with pytest.raises(DataError, match=r"1550 x 2400 x 2400 mm .* voxel size in its header"):
        place_image((155, 240, 240), affine_of(np.diag([-1.0, -1, 1]), (10, 10, 10)), LPS, whole((155, 240, 240)))


def test_spacing_is_told_in_file_order() -> None:
    assert spacing_of(affine_of(np.eye(3), (3, 2, 1))) == (3, 2, 1)
    assert isinstance(place_image((2, 2, 2), BRATS, LPS, whole((2, 2, 2))), Placement)
