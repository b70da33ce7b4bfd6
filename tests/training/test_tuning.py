"""What tuning searches over, and the recipes that come of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_seg.config import RunConfig, load_config, recipe_names
from brats_seg.networks.build import build_network, check_patch
from brats_seg.training.tuning import Choice, chosen, search_space

CPU_SMALL = load_config("cpu_small")


def choice(rate: float = 0.003, augmentation: float = 1.0, width: float = 1.0) -> Choice:
    return Choice(rate, CPU_SMALL.train.patch, augmentation, width)


@pytest.mark.parametrize("name", recipe_names())
def test_space_begins_with_the_recipe_itself_and_every_patch_fits_its_network(name: str) -> None:
    config = load_config(name)
    space = search_space(config)
    assert chosen(config, space.start) == config
    assert config.train.patch in space.patches
    for patch in space.patches:
        check_patch(config.network, patch)


def test_patches_are_the_nearest_to_two_thirds_and_four_thirds_of_the_recipes() -> None:
    assert search_space(CPU_SMALL).patches == ((64, 64, 64), (96, 96, 96), (128, 128, 128))


def test_width_scales_the_channels_to_numbers_that_the_network_can_take() -> None:
    narrow = chosen(CPU_SMALL, choice(width=0.75)).network.arguments
    assert narrow["filters"] == [16, 24, 48, 96, 192]
    assert narrow | {"filters": 0} == CPU_SMALL.network.arguments | {"filters": 0}
    assert CPU_SMALL.network.arguments["filters"] == [16, 32, 64, 128, 256]  # the recipe itself is as it was
    build_network(chosen(CPU_SMALL, choice(width=0.5)).network, in_channels=4, out_channels=3)


@pytest.mark.parametrize(
    ("network", "argument", "half"),
    [("segresnet", "init_filters", 8), ("segresnet_ds", "init_filters", 16), ("swinunetr", "feature_size", 12)],
)
def test_width_that_the_recipe_leaves_to_the_network_is_scaled_too(network: str, argument: str, half: int) -> None:
    config = RunConfig.model_validate({"network": {"name": network}})
    assert chosen(config, Choice(1e-3, (128, 128, 128), 1.0, 0.5)).network.arguments == {argument: half}


def test_trained_weights_fix_the_width() -> None:
    config = load_config("cpu_small", ["train.init=starter"])
    assert search_space(config).widths == (1.0,)


def test_augmentation_has_one_dial() -> None:
    config = load_config("default", ["train.augmentation.gain=0.6", "train.augmentation.noise=0.7"])
    strong = chosen(config, Choice(1e-3, (128, 128, 128), 2.0, 1.0)).train.augmentation
    assert (strong.rotation, strong.gamma, strong.noise, strong.flip, strong.gain) == (0.4, 0.6, 1.0, 0.5, 0.99)
    none = chosen(config, Choice(1e-3, (128, 128, 128), 0.0, 1.0)).train.augmentation
    assert (none.rotation, none.gamma, none.noise, none.flip, none.gain, none.elastic) == (0, 0, 0, 0, 0, 0)
    assert none.rotation_degrees == config.train.augmentation.rotation_degrees


@given(
    rate=st.floats(0.0006, 0.015),
    augmentation=st.floats(0, 2),
    width=st.sampled_from(search_space(CPU_SMALL).widths),
    patch=st.sampled_from(search_space(CPU_SMALL).patches),
)
def test_every_choice_is_a_recipe_of_the_same_stride(
    rate: float, augmentation: float, width: float, patch: tuple[int, int, int]
) -> None:
    config = chosen(CPU_SMALL, Choice(rate, patch, augmentation, width))
    assert config.train.optimizer.learning_rate == pytest.approx(rate, rel=0.01)
    assert min(config.network.arguments["filters"]) >= 8
    check_patch(config.network, config.train.patch)
