"""Sampling is a pure function of (seed, step, sample)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.config import SamplingConfig
from brats_seg.training.sampling import CasePool

REGIONS = ("ET", "TC", "WT")


@dataclass
class FakeCase:
    """As much of a stored case as sampling sees."""

    name: str
    size: tuple[int, int, int]
    voxels: list[tuple[int, int, int, int]] = field(default_factory=list)

    def image(self) -> NDArray[Any]:
        return np.zeros((2, *self.size), np.int16)

    def foreground(self) -> NDArray[np.int32]:
        return np.array(self.voxels, np.int32).reshape(-1, 4)


def pool(cases: list[FakeCase], patch: tuple[int, int, int] = (8, 8, 8), **settings: Any) -> CasePool:
    return CasePool(cases, REGIONS, patch, SamplingConfig(**settings))  # type: ignore[arg-type]


def test_same_counters_give_the_same_patch_whatever_was_drawn_before() -> None:
    cases = [FakeCase(str(n), (20, 22, 24), [(2, 10, 10, 10)]) for n in range(5)]
    forward = pool(cases)
    in_order = [forward.place(7, step, sample, 2) for step in range(1, 20) for sample in range(2)]
    fresh = pool(cases)
    backwards = [fresh.place(7, step, sample, 2) for step in range(19, 0, -1) for sample in (1, 0)]
    assert in_order == backwards[::-1]


def test_another_seed_step_or_sample_gives_another_patch() -> None:
    cases = [FakeCase("a", (40, 40, 40))]
    starts = {pool(cases).place(*counters, 2).start for counters in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]}
    assert len(starts) == 4


def test_every_case_is_seen_once_a_lap() -> None:
    cases = [FakeCase(str(n), (10, 10, 10)) for n in range(6)]
    seen = [pool(cases).place(0, step, sample, 2).case for step in range(1, 4) for sample in range(2)]
    assert sorted(seen) == list(range(6))


def test_patches_lie_inside_the_crop() -> None:
    cases = [FakeCase("a", (9, 30, 8), [(0, 0, 0, 0), (1, 8, 29, 7)])]
    for step in range(1, 200):
        start = pool(cases).place(0, step, 0, 1).start
        assert 0 <= start[0] <= 1
        assert 0 <= start[1] <= 22
        assert start[2] == 0


def test_foreground_patches_hold_a_voxel_of_their_region() -> None:
    voxel = (25, 30, 20)
    cases = [FakeCase("a", (50, 50, 50), [(0, *voxel)])]
    for step in range(1, 100):
        start = pool(cases, (16, 16, 16), foreground=1.0, jitter=0.25).place(0, step, 0, 1).start
        assert all(s <= v < s + 16 for s, v in zip(start, voxel, strict=True))


def test_share_of_foreground_and_weights_of_regions_are_kept() -> None:
    # ET and WT have one voxel each, far apart; TC is absent. ET weighs 3, so 3/4 of the 60 % are at ET.
    cases = [FakeCase("a", (100, 20, 20), [(0, 10, 10, 10), (2, 90, 10, 10)])]
    drawn = pool(cases, foreground=0.6, jitter=0.0, region_weights={"ET": 3.0})
    starts = [drawn.place(0, step, 0, 1).start for step in range(1, 4001)]
    at_et, at_wt = (sum(start == (place, 6, 6) for start in starts) / 4000 for place in (6, 86))
    assert at_et == pytest.approx(0.45, abs=0.03)
    assert at_wt == pytest.approx(0.15, abs=0.03)


def test_case_without_tumour_is_sampled_anywhere() -> None:
    cases = [FakeCase("a", (30, 30, 30))]
    starts = {pool(cases, foreground=1.0).place(0, step, 0, 1).start for step in range(1, 50)}
    assert len(starts) > 30


def test_foreground_slices_are_those_of_their_voxel_and_others_lie_anywhere() -> None:
    cases = [FakeCase("a", (30, 20, 20), [(2, 7, 10, 10)])]
    at_tumour = {pool(cases, (1, 16, 16), foreground=1.0).place(0, step, 0, 1).start[0] for step in range(1, 50)}
    anywhere = {pool(cases, (1, 16, 16), foreground=0.0).place(0, step, 0, 1).start[0] for step in range(1, 400)}
    assert at_tumour == {7}
    assert anywhere == set(range(30))


def test_epoch_of_slices_is_every_slice_once_and_of_volumes_every_case() -> None:
    cases = [FakeCase("a", (30, 20, 20)), FakeCase("b", (1, 20, 21))]
    epochs = [pool(cases, patch).epoch_patches for patch in ((1, 16, 16), (16, 16, 1), (8, 8, 8))]
    assert epochs == [31, 41, 2]
