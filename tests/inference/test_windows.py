"""Sliding windows: cover everything, agree with MONAI, skip what holds no brain."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers.inferer import SlidingWindowInferer
from torch import Tensor

from brats_seg.inference.windows import plan_windows, predict_probabilities

SIZES = st.integers(16, 60)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.sampled_from([(16, 16, 16), (8, 16, 12)]),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_windows_cover_every_voxel_and_overlap_enough(
    shape: tuple[int, ...], window: tuple[int, ...], overlap: float
) -> None:
    starts = plan_windows(shape, window, overlap)
    for axis in range(3):
        places = sorted({start[axis] for start in starts})
        assert places[0] == 0
        assert places[-1] == shape[axis] - window[axis]
        gaps = [b - a for a, b in itertools.pairwise(places)]
        assert all(gap <= window[axis] * (1 - overlap) + 1 for gap in gaps)
        assert not gaps or max(gaps) - min(gaps) <= 1  # evenly


def test_fewest_windows_by_hand() -> None:
    # 140 voxels, window 96, half overlap: 44 voxels of room at steps of at most 48 -> two windows, at 0 and 44
    assert plan_windows((140, 96, 96), (96, 96, 96), 0.5) == [(0, 0, 0), (44, 0, 0)]


def _soft(patches: Tensor) -> Tensor:
    """Return logits that depend on the place inside the window, so that blending matters."""
    ramp = torch.linspace(-1, 1, patches.shape[2])[None, None, :, None, None]
    return torch.cat([patches[:, :1] + ramp, patches[:, 1:2] * ramp], dim=1)


def test_same_windows_give_the_same_as_monai() -> None:
    image = torch.randn(2, 24, 16, 32, generator=torch.Generator().manual_seed(0))
    ours = predict_probabilities(_soft, image, window=(16, 16, 16), num_regions=2, overlap=0.5, batch=3)
    inferer = SlidingWindowInferer((16, 16, 16), sw_batch_size=2, overlap=0.5, mode="gaussian")
    monai = inferer(image[None], lambda x: torch.sigmoid(_soft(x)))
    assert torch.allclose(ours, monai[0], atol=2e-6)


@pytest.mark.parametrize("tta", ["none", "flips", ("J", "I")])
def test_result_does_not_depend_on_how_windows_and_flips_share_batches(tta: str | tuple[str, ...]) -> None:
    image = torch.randn(2, 20, 16, 25, generator=torch.Generator().manual_seed(1))
    shapes: set[tuple[int, ...]] = set()

    def watched(patches: Tensor) -> Tensor:
        shapes.add(tuple(patches.shape))
        return _soft(patches)

    given = {"window": (16, 16, 16), "num_regions": 2, "tta": tta}
    one = predict_probabilities(_soft, image, **given)
    assert torch.equal(predict_probabilities(_soft, image, batch=5, **given), one)
    assert torch.equal(predict_probabilities(watched, image, batch=5, is_batch_fixed=True, **given), one)
    assert shapes == {(5, 2, 16, 16, 16)}  # of four windows, or 32 or 16 passes


def test_skipped_windows_change_nothing_in_the_brain() -> None:
    image = torch.zeros(2, 16, 48, 48)
    image[:, 2:14, :20, 3:25] = torch.randn(2, 12, 20, 22, generator=torch.Generator().manual_seed(4))
    inferer = SlidingWindowInferer((16, 16, 16), overlap=0.5, mode="gaussian")  # skips nothing
    monai = inferer(image[None], lambda x: torch.sigmoid(_soft(x)))[0]
    calls: list[Tensor] = []
    ours = predict_probabilities(
        lambda x: (calls.append(x), _soft(x))[1], image, window=(16, 16, 16), num_regions=2, overlap=0.5
    )
    brain = (image != 0).any(0)
    assert len(calls) < len(plan_windows((16, 48, 48), (16, 16, 16), 0.5)) == 25
    assert torch.allclose(ours[:, brain], monai[:, brain], atol=2e-6)
    assert ours[:, :, 40:, 40:].abs().max() == 0 < monai[:, :, 40:, 40:].min()


def test_volume_smaller_than_the_window_is_padded_with_background_on_both_sides() -> None:
    seen: list[Tensor] = []

    def record(patches: Tensor) -> Tensor:
        seen.append(patches.clone())
        return patches

    image = torch.ones(1, 6, 16, 16)
    result = predict_probabilities(record, image, window=(16, 16, 16), num_regions=1)
    assert seen[0][0, 0, :, 0, 0].tolist() == [0] * 5 + [1] * 6 + [0] * 5
    assert torch.allclose(result, torch.sigmoid(torch.ones(1, 6, 16, 16)))


def test_windows_without_brain_are_skipped_and_have_probability_zero() -> None:
    calls: list[int] = []

    def count(patches: Tensor) -> Tensor:
        calls.append(len(patches))
        return patches

    image = torch.zeros(1, 16, 16, 48)
    image[..., :8] = 1
    result = predict_probabilities(count, image, window=(16, 16, 16), num_regions=1, overlap=0.0)
    assert sum(calls) == 1
    assert result[..., 16:].abs().max() == 0
    assert torch.allclose(result[..., :8], torch.sigmoid(torch.ones(1)))


def test_flips_along_some_axes_average_those_mirrorings() -> None:
    image = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(3))

    def skewed(patches: Tensor) -> Tensor:
        ramps = [torch.linspace(-1, 1, 16).view([16 if n == axis else 1 for n in range(5)]) for axis in (2, 3, 4)]
        return patches * (ramps[0] + 2 * ramps[1] + 4 * ramps[2])

    def mean(*flips: tuple[int, ...]) -> Tensor:
        maps = [torch.sigmoid(skewed(image[None].flip(axes))).flip(axes)[0] for axes in flips]
        return torch.stack(maps).mean(0)

    for tta, flips in ((("I",), [(), (4,)]), (("K", "J"), [(), (2,), (3,), (2, 3)])):
        result = predict_probabilities(skewed, image, window=(16, 16, 16), num_regions=2, tta=tta)
        assert torch.allclose(result, mean(*flips), atol=1e-6)


def test_flips_average_all_eight_mirrorings() -> None:
    image = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    result = predict_probabilities(_soft, image, window=(16, 16, 16), num_regions=2, tta="flips")
    mirrored = predict_probabilities(_soft, image.flip(1, 3), window=(16, 16, 16), num_regions=2, tta="flips")
    assert torch.allclose(result, mirrored.flip(1, 3), atol=1e-6)
    assert not torch.allclose(result, predict_probabilities(_soft, image, window=(16, 16, 16), num_regions=2))
