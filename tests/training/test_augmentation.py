"""Augmentation: drawn from counters, applied the same to image and masks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from brats_seg.config import AugmentationConfig
from brats_seg.editions import get_edition
from brats_seg.training.augmentation import AugmentationDraw, augment, draw_augmentation, network_input
from brats_seg.training.sampling import Batch

STILL = AugmentationDraw((False,) * 3, np.ones(2, np.float32), np.zeros(2, np.float32), 0.0, 0)


def volumes() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(1, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    image[..., :2] = 0  # background
    return image, (image[:, :1] > 0.5).float()


def test_draw_is_a_pure_function_of_its_counters() -> None:
    def draw(*counters: int) -> list[object]:
        return [
            np.asarray(value).tolist()
            for value in dataclasses.astuple(draw_augmentation(AugmentationConfig(), 4, *counters))
        ]

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({str(draw(*counters)) for counters in [(1, 2, 3), (0, 2, 3), (1, 1, 3), (1, 2, 0)]}) == 4


def test_shares_of_flips_and_noise_are_those_of_the_config() -> None:
    config = AugmentationConfig(flip=0.25, noise=0.5, noise_sd=0.2)
    draws = [draw_augmentation(config, 1, 0, step, 0) for step in range(2000)]
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.25, abs=0.02)
    noise = np.array([draw.noise_sd for draw in draws])
    assert np.mean(noise > 0) == pytest.approx(0.5, abs=0.04)
    assert noise.max() <= 0.2


def test_nothing_drawn_changes_nothing() -> None:
    image, masks = volumes()
    result = augment(image, masks, [STILL])
    assert torch.equal(result[0], image)
    assert torch.equal(result[1], masks)


@pytest.mark.parametrize("flip", [(True, False, False), (False, True, True), (True, True, True)])
def test_image_and_masks_are_mirrored_together(flip: tuple[bool, bool, bool]) -> None:
    image, masks = volumes()
    axes = [axis + 2 for axis in range(3) if flip[axis]]
    new_image, new_masks = augment(image, masks, [dataclasses.replace(STILL, flip=flip)])
    assert torch.equal(new_image, image.flip(axes))
    assert torch.equal(new_masks, masks.flip(axes))


def test_gain_and_shift_act_on_each_modality_and_spare_the_background() -> None:
    image, masks = volumes()
    gain, shift = np.array([2, 1], np.float32), np.array([0, 3], np.float32)
    result, _ = augment(image, masks, [dataclasses.replace(STILL, gain=gain, shift=shift)])
    assert torch.equal(result[..., :2], torch.zeros(1, 2, 4, 5, 2))
    assert torch.allclose(result[:, 0, ..., 2:], image[:, 0, ..., 2:] * 2)
    assert torch.allclose(result[:, 1, ..., 2:], image[:, 1, ..., 2:] + 3)


def test_samples_of_a_batch_have_their_own_parameters() -> None:
    image, masks = (torch.cat([part, part]) for part in volumes())
    result, _ = augment(image, masks, [STILL, dataclasses.replace(STILL, noise_sd=0.5, noise_seed=3)])
    assert torch.equal(result[0], image[0])
    assert (result[1] - image[1])[..., 2:].std().item() == pytest.approx(0.5, abs=0.08)
    again, _ = augment(image, masks, [STILL, dataclasses.replace(STILL, noise_sd=0.5, noise_seed=3)])
    assert torch.equal(result, again)


def test_cases_of_different_editions_share_a_batch() -> None:
    labels = np.array([0, 1, 2, 4], np.uint8).reshape(1, 1, 1, 4)
    newer = np.array([0, 1, 2, 3], np.uint8).reshape(1, 1, 1, 4)
    raw = np.array([[0, 10, 20, 30]], np.int16).reshape(1, 1, 1, 1, 4)
    batch = Batch(
        step=1,
        image=np.concatenate([raw, raw]),
        label_map=np.concatenate([labels, newer]),
        mean=np.array([[20], [10]], np.float32),
        sd=np.array([[10], [5]], np.float32),
        editions=("brats2020", "brats2023-gli"),
        cases=("a", "b"),
    )
    image, masks = network_input(batch, torch.device("cpu"))
    assert image[:, 0, 0, 0].tolist() == [[0, -1, 0, 1], [0, 0, 2, 4]]
    assert torch.equal(masks[0], masks[1])
    expected = get_edition("brats2020").regions_from_label_map(labels[0])
    assert torch.equal(masks[0], torch.from_numpy(expected).float())
