"""The spatial part: the same as a slow reference, image and label together, and no voxel read in vain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.config import AugmentationConfig
from brats_seg.training.sampling import generator
from brats_seg.training.spatial import SpatialDraw, draw_spatial, resample, source_box

NO_FLIP = (False, False, False)
PATCH, SIZE = (10, 12, 14), (24, 22, 26)
EVERYTHING = AugmentationConfig(rotation=1, scaling=1, elastic=1, elastic_voxels=3)


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A case of smooth images and blocks of labels, with background in a corner of each modality."""
    random = np.random.default_rng(0)
    image = np.stack([ndimage.gaussian_filter(random.standard_normal(SIZE), 1.5) for _ in range(2)]).astype(np.float32)
    image[0, :6] = 0
    image[1, :, :5] = 0
    label_map = np.kron(random.integers(0, 5, (6, 11, 13)), np.ones((4, 2, 2))).astype(np.uint8)
    return torch.from_numpy(image), torch.from_numpy(label_map), torch.from_numpy(image == 0)


def places(draw: SpatialDraw, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where each patch voxel lies in the case, (3, *PATCH), written down voxel by voxel."""
    nodes = draw.displacement
    found = np.zeros((3, *PATCH))
    for voxel in np.ndindex(PATCH):
        offset = np.array(voxel) - (np.array(PATCH) - 1) / 2
        found[(slice(None), *voxel)] = centre + draw.matrix @ offset
        if nodes is not None:
            shares = [spline_shares(v / 32) for v in voxel]
            weights = np.einsum("k,j,i->kji", *shares)
            found[(slice(None), *voxel)] += (nodes * weights).sum((1, 2, 3))
    return found


def spline_shares(position: float) -> NDArray[np.float64]:
    """Return the cubic B-spline basis at nodes -1 ... 2 (patches of at most 32 voxels have four)."""

    def basis(distance: float) -> float:
        d = abs(distance)
        return (4 - 6 * d**2 + 3 * d**3) / 6 if d < 1 else max(0, 2 - d) ** 3 / 6

    return np.array([basis(position - node) for node in (-1, 0, 1, 2)])


@pytest.mark.parametrize("step", range(6))
def test_resampling_equals_scipys(step: int) -> None:
    image, label_map, background = case()
    draw = draw_spatial(EVERYTHING, PATCH, generator(0, 2, step, 0))
    centre = np.array([11.5, 10.2, 12.7])
    found = places(draw, centre)
    new_image, new_label, new_background = resample(image, label_map, background, draw, centre, PATCH)
    # positions halfway between two voxels are left out: rounding decides there
    is_clear = (np.abs(found - np.floor(found) - 0.5) > 1e-3).all(0)
    assert is_clear.mean() > 0.98
    nearest = {"order": 0, "mode": "grid-constant", "prefilter": False}
    expected_label = ndimage.map_coordinates(label_map.numpy(), found, **nearest)
    assert np.array_equal(new_label.numpy()[is_clear], expected_label[is_clear])
    for modality in range(2):
        is_brain = ndimage.map_coordinates((~background[modality]).numpy().astype(np.uint8), found, **nearest) == 1
        linear = ndimage.map_coordinates(image[modality].numpy(), found, order=1, mode="grid-constant", prefilter=False)
        difference = new_image[modality].numpy() - np.where(is_brain, linear, 0)
        assert np.abs(difference[is_clear]).max() < 1e-5
        assert np.array_equal(new_background[modality].numpy()[is_clear], ~is_brain[is_clear])


@pytest.mark.parametrize("step", range(4))
def test_reading_the_box_alone_gives_the_same_patch(step: int) -> None:
    image, label_map, background = case()
    draw = draw_spatial(EVERYTHING, PATCH, generator(5, 2, step, 0))
    centre = np.array([4.5, 10.5, 20.5])
    start, end = source_box(draw, centre, PATCH, SIZE)
    k, j, i = (slice(a, b) for a, b in zip(start, end, strict=True))
    whole = resample(image, label_map, background, draw, centre, PATCH)
    boxed = resample(
        image[:, k, j, i], label_map[k, j, i], background[:, k, j, i], draw, centre - np.array(start), PATCH
    )
    assert torch.allclose(whole[0], boxed[0], atol=1e-5)
    assert (whole[1] == boxed[1]).float().mean() > 0.999  # positions halfway between two voxels
    assert all(0 <= a < b <= n for a, b, n in zip(start, end, SIZE, strict=True))


def test_box_of_a_quarter_turn_has_its_axes_swapped_and_one_more_voxel_around() -> None:
    quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    start, end = source_box(SpatialDraw(NO_FLIP, quarter), np.array([20.0, 20.0, 20.0]), (5, 7, 9), (40, 40, 40))
    # half edges 2, 3, 4 become 2, 4, 3 along (K, J, I): voxels 18-22, 16-24, 17-23, and one to either side
    assert (start, end) == ((17, 15, 16), (24, 26, 25))


def test_image_and_label_move_together() -> None:
    _, label_map, background = case()
    draw = draw_spatial(EVERYTHING, PATCH, generator(0, 2, 3, 0))
    as_image = torch.stack([(label_map == 2).float()] * 2)
    moved, label, _ = resample(as_image, label_map, torch.zeros_like(background), draw, np.array([11.0, 11, 13]), PATCH)
    is_sure = (moved[0] > 0.999) | (moved[0] < 0.001)
    assert is_sure.float().mean() > 0.3
    assert torch.equal((label == 2)[is_sure], moved[0][is_sure] > 0.5)


def test_scale_of_two_shows_every_second_voxel() -> None:
    image = torch.arange(27.0)[None, :, None, None].expand(1, 27, 5, 5).contiguous() + 1
    label_map = (image[0] % 4).to(torch.uint8)
    draw = SpatialDraw(NO_FLIP, np.diag([2.0, 1.0, 1.0]))
    result, label, _ = resample(image, label_map, image == 0, draw, np.array([13.0, 2, 2]), (5, 5, 5))
    assert result[0, :, 2, 2].tolist() == pytest.approx([10, 12, 14, 16, 18])
    assert label[:, 2, 2].tolist() == [2, 0, 2, 0, 2]


def test_outside_the_case_is_background() -> None:
    image, label_map, background = case()
    draw = SpatialDraw(NO_FLIP, np.diag([1.3, 1.3, 1.3]))
    moved, label, is_background = resample(image, label_map, background, draw, np.array([23.0, 11, 13]), PATCH)
    # the last patch voxels along K lie 1.3 x 4.5 = 5.85 voxels behind the case's last one
    assert not moved[:, -1].any()
    assert not label[-1].any()
    assert is_background[:, -1].all()


def test_background_of_each_modality_stays_exactly_zero_and_brain_stays_brain() -> None:
    image, label_map, background = case()
    draw = draw_spatial(EVERYTHING, PATCH, generator(0, 2, 1, 0))
    moved, _, is_background = resample(image, label_map, background, draw, np.array([7.0, 6, 13]), PATCH)
    assert 0 < is_background.float().mean() < 1
    assert not moved[is_background].any()
    assert not torch.equal(is_background[0], is_background[1])
    assert (moved[~is_background] != 0).float().mean() > 0.999


def test_more_than_four_modalities_keep_their_background() -> None:
    image = torch.ones(6, 8, 8, 8)
    image[5, :4] = 0
    moved, label, background = resample(
        image,
        torch.full((8, 8, 8), 4, dtype=torch.uint8),
        image == 0,
        SpatialDraw(NO_FLIP, np.eye(3)),
        np.full(3, 3.5),
        (8, 8, 8),
    )
    assert torch.equal(moved, image)
    assert torch.equal(background, image == 0)
    assert label.unique().tolist() == [4]


def test_threads_do_not_change_the_result() -> None:
    image, label_map, background = case()
    draw = draw_spatial(EVERYTHING, PATCH, generator(0, 2, 2, 0))
    one = resample(image, label_map, background, draw, np.array([11.0, 11, 13]), PATCH)
    torch.set_num_threads(2)
    two = resample(image, label_map, background, draw, np.array([11.0, 11, 13]), PATCH)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


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
