"""The spatial part is drawn before reading, within the config's limits, and knows which voxels it needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brats_seg.config import AugmentationConfig
from brats_seg.training.sampling import generator
from brats_seg.training.spatial import SpatialDraw, draw_spatial, patch_coordinates, source_box

NO_FLIP = (False, False, False)
PATCH, SIZE = (10, 12, 14), (24, 22, 26)
EVERYTHING = AugmentationConfig(rotation=1, scaling=1, elastic=1, elastic_voxels=3)
CPU = torch.device("cpu")


def spline_shares(position: float) -> NDArray[np.float64]:
    """Return the cubic B-spline basis at nodes -1 ... 2 (patches of at most 32 voxels have four)."""

    def basis(distance: float) -> float:
        d = abs(distance)
        return (4 - 6 * d**2 + 3 * d**3) / 6 if d < 1 else max(0, 2 - d) ** 3 / 6

    return np.array([basis(position - node) for node in (-1, 0, 1, 2)])


@pytest.mark.parametrize("step", range(3))
def test_coordinates_are_centre_matrix_and_spline_written_down_voxel_by_voxel(step: int) -> None:
    draw = draw_spatial(EVERYTHING, PATCH, generator(0, 2, step, 0))
    centre = np.array([11.5, 10.2, 12.7])
    found = np.stack([plane.numpy() for plane in patch_coordinates(draw, centre, PATCH, CPU)])
    assert draw.displacement is not None
    for voxel in [(0, 0, 0), (9, 11, 13), (3, 0, 13), (5, 6, 7)]:
        offset = np.array(voxel) - (np.array(PATCH) - 1) / 2
        weights = np.einsum("k,j,i->kji", *(spline_shares(v / 32) for v in voxel))
        expected = centre + draw.matrix @ offset + (draw.displacement * weights).sum((1, 2, 3))
        assert found[(slice(None), *voxel)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("step", range(8))
def test_box_holds_every_coordinate_and_its_neighbours(step: int) -> None:
    draw = draw_spatial(EVERYTHING, PATCH, generator(5, 2, step, 0))
    centre = np.array([4.5, 10.5, 20.5])
    start, end = source_box(draw, centre, PATCH, SIZE)
    for axis, plane in enumerate(patch_coordinates(draw, centre, PATCH, CPU)):
        inside = plane[(plane > -1) & (plane < SIZE[axis])]
        assert start[axis] <= math.floor(inside.min())
        assert end[axis] > math.ceil(inside.max())
        assert start[axis] == -1 or plane.min() > start[axis]
        assert end[axis] == SIZE[axis] + 1 or plane.max() < end[axis] - 1
        assert -1 <= start[axis] < end[axis] <= SIZE[axis] + 1


def test_box_of_a_quarter_turn_has_its_axes_swapped_and_one_more_voxel_around() -> None:
    quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    start, end = source_box(SpatialDraw(NO_FLIP, quarter), np.array([20.0, 20.0, 20.0]), (5, 7, 9), (40, 40, 40))
    # half edges 2, 3, 4 become 2, 4, 3 along (K, J, I): voxels 18-22, 16-24, 17-23, and one to either side
    assert (start, end) == ((17, 15, 16), (24, 26, 25))


def test_mirroring_alone_needs_no_resampling() -> None:
    draws = [
        draw_spatial(AugmentationConfig(rotation=0, scaling=0), PATCH, generator(0, 2, step, 0)) for step in range(20)
    ]
    assert len({draw.flip for draw in draws}) > 3
    assert not any(draw.is_resampled for draw in draws)
    assert draw_spatial(AugmentationConfig(rotation=1), PATCH, generator(0, 2, 0, 0)).is_resampled


@given(st.integers(0, 2**32), st.integers(1, 10**6), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_draws_stay_within_the_configs_limits(seed: int, step: int, sample: int) -> None:
    config = AugmentationConfig(rotation=1, rotation_degrees=20, scaling=1, scaling_range=(0.8, 1.2), elastic=1)
    draw = draw_spatial(config, (64, 32, 33), generator(seed, 2, step, sample))
    scale = abs(np.linalg.det(draw.matrix)) ** (1 / 3)
    assert 0.8 <= scale <= 1.2
    assert np.linalg.det(draw.matrix) < 0 if sum(draw.flip) % 2 else np.linalg.det(draw.matrix) > 0
    rotation = draw.matrix / scale @ np.diag(np.where(draw.flip, -1.0, 1.0))
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    cosine = (np.trace(rotation) - 1) / 2
    assert math.degrees(math.acos(min(1.0, cosine))) <= 3 * 20 + 1e-6
    assert draw.displacement is not None
    assert draw.displacement.shape == (3, 5, 4, 5)
    assert np.abs(draw.displacement).max() <= 2.5 * config.elastic_voxels


def test_shares_of_flips_rotations_and_scales_are_those_of_the_config() -> None:
    config = AugmentationConfig(flip=0.25, rotation=0.2, scaling=0.4, elastic=0.1)
    draws = [draw_spatial(config, (8, 8, 8), generator(0, 2, step, 0)) for step in range(3000)]
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.25, abs=0.02)
    is_scaled = np.array([not np.isclose(abs(np.linalg.det(draw.matrix)), 1) for draw in draws])
    is_rotated = np.array([np.count_nonzero(draw.matrix) > 3 for draw in draws])
    assert is_scaled.mean() == pytest.approx(0.4, abs=0.03)
    assert is_rotated.mean() == pytest.approx(0.2, abs=0.03)
    assert np.mean([draw.displacement is not None for draw in draws]) == pytest.approx(0.1, abs=0.02)
    assert np.mean([draw.is_resampled for draw in draws]) == pytest.approx(1 - 0.6 * 0.8 * 0.9, abs=0.03)


def test_changing_one_probability_leaves_the_other_draws_alone() -> None:
    first, second = (
        draw_spatial(AugmentationConfig(rotation=p, scaling=1), (8, 8, 8), generator(1, 2, 3, 4)) for p in (0, 1)
    )
    assert first.flip == second.flip
    assert np.linalg.det(first.matrix) == pytest.approx(np.linalg.det(second.matrix))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", range(3))
def test_slices_move_in_their_plane_alone(axis: int, step: int) -> None:
    edges = [40, 48]
    edges.insert(axis, 3)
    k, j, i = edges
    draw = draw_spatial(EVERYTHING, (k, j, i), generator(0, 2, step, 0), axis)
    centre = np.array([11.0, 12.0, 13.0])
    planes = patch_coordinates(draw, centre, (k, j, i), CPU)
    where = planes[axis].movedim(axis, 0)
    assert all((where[n] == centre[axis] + n - 1).all() for n in range(3))
    others = [plane.movedim(axis, 0) for number, plane in enumerate(planes) if number != axis]
    assert all(torch.allclose(plane[0], plane[2], atol=1e-4) for plane in others)
    assert not any(torch.equal(plane[0], plane[0].round()) for plane in others)
    start, end = source_box(draw, centre, (k, j, i), SIZE)
    assert (start[axis], end[axis]) == (centre[axis] - 1, centre[axis] + 2)


def test_slice_takes_the_same_random_numbers_as_a_volume() -> None:
    randoms = [generator(0, 2, 1, 0) for _ in range(2)]
    for random, axis in zip(randoms, (None, 0), strict=True):
        draw_spatial(EVERYTHING, (1, 16, 16), random, axis)
    assert randoms[0].random() == randoms[1].random()


def test_slice_that_is_only_mirrored_is_copied() -> None:
    draws = [
        draw_spatial(AugmentationConfig(rotation=0, scaling=0), (1, 8, 8), generator(0, 2, n, 0), 0) for n in range(9)
    ]
    assert not any(draw.is_resampled or draw.flip[0] for draw in draws)
    assert any(draw.flip[1] for draw in draws)
