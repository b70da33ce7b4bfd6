"""The intensity part: each effect against values by hand or SciPy's, background at 0, each modality its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.config import AugmentationConfig
from brats_seg.preprocessing.transforms import brain_bits
from brats_seg.training.intensity import IntensityDraw, change_intensities, draw_intensity
from brats_seg.training.sampling import generator

ONES, ZEROS = np.ones(2), np.zeros(2)
STILL = IntensityDraw(
    0.0, 0, np.zeros((2, 3)), ONES, ONES, np.ones((2, 3)), ONES, ONES, ONES, ZEROS, np.array([True, True])
)
EVERYTHING = AugmentationConfig(
    noise=1, blur=1, brightness=1, contrast=1, low_resolution=1, gamma=1, gamma_inverted=1, gain=0.1, shift=0.1
)


def volume() -> torch.Tensor:
    """Two modalities whose first planes are background."""
    image = torch.randn(2, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    image[..., :3] = 0
    image[1, 0] = 0
    return image


def changed(image: torch.Tensor, **parameters: Any) -> torch.Tensor:
    result = image.clone()
    change_intensities(result, brain_bits(image), dataclasses.replace(STILL, **parameters))
    return result


def line(*values: float) -> torch.Tensor:
    """The values in modality 0, along I, and a modality of ones."""
    return torch.stack([torch.tensor(values), torch.ones(len(values))])[:, None, None]


def test_nothing_drawn_changes_nothing() -> None:
    assert torch.equal(changed(volume()), volume())


def test_brightness_multiplies_a_modality() -> None:
    assert torch.equal(changed(line(0, 1, -2), brightness=np.array([1.25, 1])), line(0, 1.25, -2.5))


def test_gain_and_shift_spare_the_background() -> None:
    result = changed(line(0, 1, -2), gain=np.array([2.0, 1]), shift=np.array([3.0, 0]))
    assert torch.equal(result, line(0, 5, -1))


def test_contrast_stretches_about_the_brains_mean_within_its_range() -> None:
    # the brain is 1, 2, 6 with mean 3; stretched by 1.5: 0, 1.5, 7.5, kept within 0 (background's) and 6
    result = changed(line(0, 1, 2, 6), contrast=np.array([1.5, 1]))
    assert result[0].flatten().tolist() == pytest.approx([0, 0, 1.5, 6])
    assert changed(line(0, 1, 2, 6), contrast=np.array([0.5, 1]))[0].flatten().tolist() == pytest.approx(
        [0, 2, 2.5, 4.5]
    )


def test_gamma_bends_and_keeps_the_brains_mean_and_deviation() -> None:
    brain = np.array([-1, 1, 3], np.float32)
    result = changed(line(0, *brain.tolist()), gamma=np.array([2.0, 1]))[0].flatten().numpy()
    bent = ((brain + 1) / 4) ** 2 * 4 - 1  # range -1 ... 3
    expected = (bent - bent.mean()) / bent.std() * brain.std() + brain.mean()
    assert result == pytest.approx([0, *expected], abs=1e-5)
    assert result[1:].mean() == pytest.approx(1)
    assert result[1:].std() == pytest.approx(brain.std(), rel=1e-5)


def test_inverted_gamma_is_gamma_of_the_negative() -> None:
    image = volume()
    inverted = changed(image, gamma_inverted=np.array([1.4, 1]))
    assert torch.allclose(inverted[0], -changed(-image, gamma=np.array([1.4, 1]))[0], atol=1e-6)
    assert not torch.allclose(inverted[0], changed(image, gamma=np.array([1.4, 1]))[0], atol=1e-2)


def test_blur_equals_scipys_in_the_brain() -> None:
    image, sds = volume(), np.array([[0.5, 0.7, 1.0], [0, 0, 0]])
    result = changed(image, blur_voxels=sds)
    expected = ndimage.gaussian_filter(image[0].double().numpy(), sds[0], mode="constant", truncate=3.0)
    assert np.abs(result[0].numpy() - np.where(image[0] == 0, 0, expected)).max() < 1e-6
    assert torch.equal(result[1], image[1])


def test_low_resolution_keeps_the_nearest_voxels_and_interpolates_between() -> None:
    # half of 4 voxels: the two cells' nearest are voxels 1 and 3 (centres at 1 and 3, ties upwards); they lie at .5
    # and 2.5, so voxels 0 and 3 repeat them and 1 and 2 lie a quarter of the way
    result = changed(line(1, 5, 7, 9), resolution=np.array([[0.5] * 3, [1.0] * 3]))
    assert result[0].flatten().tolist() == pytest.approx([5, 6, 8, 9])
    assert torch.equal(result[1], line(1, 5, 7, 9)[1])


def test_noise_has_its_deviation_and_comes_from_its_seed_alone() -> None:
    image = torch.ones(2, 20, 20, 20)
    image[:, :5] = 0
    result = changed(image, noise_sd=0.3, noise_seed=5)
    assert (result - image)[:, 5:].std().item() == pytest.approx(0.3, rel=0.05)
    assert (result - image)[:, 5:].mean().item() == pytest.approx(0, abs=0.01)
    torch.manual_seed(99)
    assert torch.equal(result, changed(image, noise_sd=0.3, noise_seed=5))
    assert not torch.equal(result, changed(image, noise_sd=0.3, noise_seed=6))


def test_missing_modality_is_zero_everywhere() -> None:
    result = changed(volume(), is_kept=np.array([True, False]), shift=np.array([0, 2.0]))
    assert torch.equal(result[0], volume()[0])
    assert not result[1].any()


@pytest.mark.parametrize("step", range(8))
def test_background_stays_exactly_zero_whatever_is_drawn(step: int) -> None:
    image = volume()
    draw = draw_intensity(EVERYTHING, 2, generator(0, 3, step, 0))
    result = image.clone()
    change_intensities(result, brain_bits(image), draw)
    assert not result[image == 0].any()
    assert not torch.signbit(result[image == 0]).any()
    assert torch.isfinite(result).all()
    assert (result[image != 0] != image[image != 0]).float().mean() > 0.9


def test_empty_volume_stays_empty_and_finite() -> None:
    empty = torch.zeros(2, 4, 4, 4)
    change_intensities(empty, brain_bits(empty), draw_intensity(EVERYTHING, 2, generator(0, 3, 1, 0)))
    assert not empty.any()


@given(st.integers(0, 2**32), st.integers(1, 10**6), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_draws_stay_within_the_configs_limits(seed: int, step: int, num_modalities: int) -> None:
    config = EVERYTHING.model_copy(update={"modality_dropout": 1.0})
    draw = draw_intensity(config, num_modalities, generator(seed, 3, step, 0))
    assert 0 <= draw.noise_sd <= 0.1
    for values, (low, high) in (
        (draw.brightness, (0.75, 1.25)),
        (draw.contrast, (0.75, 1.25)),
        (draw.gamma, (0.7, 1.5)),
        (draw.gamma_inverted, (0.7, 1.5)),
        (draw.resolution, (0.5, 1)),
        (np.where(draw.blur_voxels == 0, 1, draw.blur_voxels), (0.5, 1)),
    ):
        assert len(values) == num_modalities
        assert low <= values.min()
        assert values.max() <= high
    assert draw.is_kept.any()


def test_shares_of_effects_are_those_of_the_config() -> None:
    config = AugmentationConfig(modality_dropout=0.3)
    draws = [draw_intensity(config, 4, generator(0, 3, step, 0)) for step in range(4000)]

    def share(has: list[Any]) -> float:
        return float(np.mean(has))

    assert share([draw.noise_sd > 0 for draw in draws]) == pytest.approx(0.1, abs=0.02)
    assert share([draw.blur_voxels[:, 0] > 0 for draw in draws]) == pytest.approx(0.2 / 2, abs=0.02)
    assert share([draw.brightness != 1 for draw in draws]) == pytest.approx(0.15, abs=0.02)
    assert share([draw.contrast != 1 for draw in draws]) == pytest.approx(0.15, abs=0.02)
    assert share([draw.resolution < 1 for draw in draws]) == pytest.approx(0.25 / 2, abs=0.02)
    assert share([draw.gamma != 1 for draw in draws]) == pytest.approx(0.3, abs=0.02)
    assert share([draw.gamma_inverted != 1 for draw in draws]) == pytest.approx(0.1, abs=0.02)
    # a modality is missing with .3 x 1/2 x 3/4 (one in four is the survivor)
    assert share([~draw.is_kept for draw in draws]) == pytest.approx(0.3 * 0.5 * 0.75, abs=0.02)
    gammas = np.concatenate([draw.gamma[draw.gamma != 1] for draw in draws])
    assert share(list(gammas < 1)) == pytest.approx(0.5, abs=0.04)


def test_modalities_and_samples_have_their_own_parameters() -> None:
    draws = [draw_intensity(EVERYTHING, 4, generator(0, 3, 1, sample)) for sample in range(2)]
    for name in ("brightness", "contrast", "gamma", "gamma_inverted", "gain", "shift"):
        values = np.concatenate([getattr(draw, name) for draw in draws])
        assert len(set(values)) == 8, name


def test_changing_one_probability_leaves_the_other_draws_alone() -> None:
    first, second = (
        draw_intensity(AugmentationConfig(blur=p, gamma=1, noise=1), 4, generator(1, 3, 2, 3)) for p in (0, 1)
    )
    assert np.array_equal(first.gamma, second.gamma)
    assert (first.noise_sd, first.noise_seed) == (second.noise_sd, second.noise_seed)


@pytest.mark.parametrize("axis", [0, 2])
def test_blur_and_low_resolution_of_slices_stay_in_their_plane(axis: int) -> None:
    draw = draw_intensity(EVERYTHING, 64, generator(0, 3, 1, 0), axis)
    others = [other for other in range(3) if other != axis]
    assert not draw.blur_voxels[:, axis].any()
    assert (draw.resolution[:, axis] == 1).all()
    for values in (draw.blur_voxels[:, others], 1 - draw.resolution[:, others]):
        assert 0.2 < (values > 0).mean() < 0.8


def test_blurred_slice_keeps_its_mean_and_its_neighbours_apart() -> None:
    image = torch.ones(1, 3, 30, 30)
    image[:, 1] = 5
    parameters = {"blur_voxels": np.array([[0, 1.0, 1.0]]), "resolution": np.array([[1, 0.5, 0.5]]), "is_kept": [True]}
    neutral = dict.fromkeys(("brightness", "contrast", "gamma", "gamma_inverted", "gain"), np.ones(1))
    result = changed(image, **parameters, **neutral, shift=np.zeros(1))
    assert torch.allclose(result[0, :, 15, 15], torch.tensor([1.0, 5.0, 1.0]))
