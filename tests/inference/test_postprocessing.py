"""Post-processing: each step by hand on small grids, and what holds whatever the masks are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.config import InferenceConfig, PostprocessingConfig, load_config
from brats_seg.editions import get_edition
from brats_seg.errors import ConfigError
from brats_seg.inference.postprocessing import check_postprocessing, clean_masks, region_masks

REGIONS = ("ET", "TC", "WT")
EVERYTHING: dict[str, Any] = {
    "fill_holes": {"ET": True, "TC": True, "WT": True},
    "min_component_voxels": {"ET": 2, "TC": 3, "WT": 5},
    "min_et_voxels": 4,
}
MASKS = hnp.arrays(np.bool_, st.tuples(st.just(3), *[st.integers(1, 6)] * 3))


def empty(*shape: int) -> NDArray[np.bool_]:
    return np.zeros((3, *shape), bool)


def clean(masks: NDArray[np.bool_], **steps: Any) -> NDArray[np.bool_]:
    return clean_masks(masks, REGIONS, PostprocessingConfig(**steps))


def test_threshold_of_a_region_wins_over_the_one_of_all() -> None:
    probabilities = np.full((3, 1, 1, 2), 0.45, np.float32)
    probabilities[..., 1] = 0.6
    inference = InferenceConfig(threshold=0.5, postprocessing=PostprocessingConfig(threshold={"WT": 0.4, "ET": 0.7}))
    masks = region_masks(probabilities, REGIONS, inference)
    assert masks[:, 0, 0].tolist() == [[False, False], [False, True], [True, True]]


def test_inner_region_belongs_to_those_around_it() -> None:
    masks = empty(1, 1, 3)
    masks[0, 0, 0, 0] = masks[1, 0, 0, 1] = masks[2, 0, 0, 2] = True
    assert clean(masks)[:, 0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_small_components_are_dropped_and_diagonal_neighbours_are_one() -> None:
    masks = empty(4, 4, 9)
    masks[2, [0, 1, 2], [0, 1, 2], [0, 1, 2]] = True  # a diagonal of three voxels
    masks[2, 0, 0, 5:7] = True
    kept = clean(masks, min_component_voxels={"WT": 3})
    assert kept[2].sum() == 3
    assert not kept[2, :, :, 5:].any()
    assert not clean(masks, min_component_voxels={"WT": 4}).any()


def test_component_of_exactly_the_smallest_size_stays() -> None:
    masks = empty(1, 1, 5)
    masks[2, 0, 0, :3] = True
    assert clean(masks, min_component_voxels={"WT": 3})[2].sum() == 3


def test_dropped_whole_tumor_takes_its_core_along() -> None:
    masks = empty(1, 1, 8)
    masks[:, 0, 0, 1] = masks[2, 0, 0, 2] = True
    assert not clean(masks, min_component_voxels={"WT": 3}).any()


def test_dropped_core_stays_edema() -> None:
    masks = empty(1, 1, 8)
    masks[2, 0, 0, :6] = masks[1, 0, 0, 2] = masks[0, 0, 0, 2] = True
    kept = clean(masks, min_component_voxels={"TC": 2})
    assert kept.sum(axis=(1, 2, 3)).tolist() == [0, 0, 6]


@pytest.mark.parametrize(("smallest", "num_et"), [(4, 4), (5, 0)])
def test_little_et_of_a_case_becomes_ncr(smallest: int, num_et: int) -> None:
    masks = empty(1, 1, 9)
    masks[1, 0, 0, :8] = masks[0, 0, 0, [0, 1, 5, 6]] = True  # two components, four voxels together
    label_map = get_edition("brats2020").label_map_from_regions(clean(masks, min_et_voxels=smallest))
    assert (label_map == 4).sum() == num_et
    assert (label_map == 1).sum() == 8 - num_et


def test_closed_hole_is_filled_and_open_one_is_not() -> None:
    masks = empty(5, 5, 12)
    masks[1, 1:4, 1:4, 1:4] = masks[1, 1:4, 1:4, 7:10] = True
    masks[1, 2, 2, 2] = masks[1, 2, 2, 7:9] = False  # a cavity, and a shaft that opens to the left
    filled = clean(masks, fill_holes={"TC": True})
    assert filled[1:, 2, 2, 2].all()  # of TC, and so of WT
    assert not filled[:, 2, 2, 7:9].any()
    assert filled[1].sum() == 27 + 25


def test_hole_at_the_rim_of_the_volume_is_open() -> None:
    masks = empty(1, 3, 3)
    masks[2] = True
    masks[2, 0, 1, 1] = False
    assert np.array_equal(clean(masks, fill_holes={"WT": True}), masks | clean(masks))
    assert not clean(masks, fill_holes={"WT": True})[2, 0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_filling_is_that_of_scipy(masks: NDArray[np.bool_]) -> None:
    masks[:2] = False
    filled = clean(masks, fill_holes={"WT": True})
    assert np.array_equal(filled[2], ndimage.binary_fill_holes(masks[2]))


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(2, 6))
def test_components_are_those_of_scipy(masks: NDArray[np.bool_], smallest: int) -> None:
    masks[:2] = False
    parts, _ = ndimage.label(masks[2], np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())
    expected = masks[2] & (sizes >= smallest)[parts]
    assert np.array_equal(clean(masks, min_component_voxels={"WT": smallest})[2], expected)


@settings(max_examples=80, deadline=None)
@given(MASKS)
def test_steps_twice_are_steps_once_and_regions_stay_nested(masks: NDArray[np.bool_]) -> None:
    once = clean(masks, **EVERYTHING)
    assert np.array_equal(clean(once, **EVERYTHING), once)
    assert np.array_equal(np.logical_or.accumulate(once), once)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_nothing_but_filling_adds_voxels(masks: NDArray[np.bool_]) -> None:
    before = masks.copy()
    without = {step: value for step, value in EVERYTHING.items() if step != "fill_holes"}
    assert not (clean(masks, **without) & ~clean(masks)).any()
    assert np.array_equal(masks, before)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (3, 2, 3, 4), elements=st.floats(0, 1, width=32)))
def test_without_steps_label_maps_are_those_of_the_threshold_alone(probabilities: NDArray[np.float32]) -> None:
    edition = get_edition("brats2021")
    masks = region_masks(probabilities, REGIONS, InferenceConfig())
    assert np.array_equal(
        edition.label_map_from_regions(masks), edition.label_map_from_regions(probabilities >= np.float32(0.5))
    )


def test_edition_of_one_region() -> None:
    masks = np.zeros((1, 1, 1, 6), bool)
    masks[0, 0, 0, [0, 3, 4]] = True
    cleaned = clean_masks(masks, ("GTV",), PostprocessingConfig(min_component_voxels={"GTV": 2}))
    assert cleaned[0, 0, 0].tolist() == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    ("steps", "regions", "message"),
    [
        ({"min_component_voxels": {"WC": 5}}, REGIONS, r"min_component_voxels\.WC.*did you mean WT\?"),
        ({"threshold": {"wt": 0.4}}, REGIONS, r"postprocessing\.threshold\.wt.*known: ET, TC, WT"),
        ({"fill_holes": {"TC": True}}, ("GTV",), r"fill_holes\.TC.*known: GTV"),
        ({"min_et_voxels": 5}, ("GTV",), r"min_et_voxels=5: the model has no region ET"),
    ],
)
def test_region_that_the_model_lacks_is_refused(steps: dict[str, Any], regions: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_postprocessing(PostprocessingConfig(**steps), regions)


def test_override_reaches_one_region() -> None:
    overrides = ["inference.postprocessing.min_component_voxels.WT=100", "inference.postprocessing.threshold.ET=.4"]
    steps = load_config("default", overrides).inference.postprocessing
    assert (steps.min_component_voxels, steps.threshold) == ({"WT": 100}, {"ET": 0.4})


def test_override_of_a_step_that_there_is_not_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean inference\.postprocessing\.min_component_voxels\?"):
        load_config("default", ["inference.postprocessing.min_component_voxel.WT=100"])
