"""Samples: drawn first, then only the voxels that they need are read; from disk, memory or device the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brats_seg.config import AugmentationConfig, SamplingConfig
from brats_seg.training.augmentation import augment, training_input
from brats_seg.training.patches import PatchReader
from brats_seg.training.sampling import CasePool
from brats_seg.training.volumes import hold_cases

CPU = torch.device("cpu")
NOTHING = AugmentationConfig(
    flip=0,
    rotation=0,
    scaling=0,
    noise=0,
    blur=0,
    brightness=0,
    contrast=0,
    low_resolution=0,
    gamma=0,
    gamma_inverted=0,
)


@dataclasses.dataclass
class FakeCase:
    """As much of a stored case as sampling sees; modality 0 holds the voxel's own number, some of them background."""

    name: str
    size: tuple[int, int, int]
    edition: str = "brats2020"
    mean: tuple[float, ...] = (100.0, 200.0)
    sd: tuple[float, ...] = (30.0, 40.0)

    def image(self) -> NDArray[Any]:
        numbers = np.arange(np.prod(self.size), dtype=np.int16).reshape(self.size) % 500
        return np.stack([numbers, numbers // 7])

    def label_map(self) -> NDArray[np.uint8]:
        return np.array([0, 1, 2, 4], np.uint8)[FakeCase.image(self)[0] % 4]

    def foreground(self) -> NDArray[np.int32]:
        return np.zeros((0, 4), np.int32)


def reader(
    cases: list[FakeCase],
    augmentation: AugmentationConfig = NOTHING,
    patch: tuple[int, int, int] = (8, 8, 8),
    where: str = "disk",
    seed: int = 3,
    neighbours: int = 0,
) -> PatchReader:
    pool = CasePool(cases, ("ET", "TC", "WT"), patch, SamplingConfig())  # type: ignore[arg-type]
    volumes = hold_cases(cases, where, CPU)  # type: ignore[arg-type]
    return PatchReader(pool, volumes, augmentation, seed, neighbours=neighbours, is_pinned=False)


def test_sample_holds_the_voxels_of_its_place_and_zero_outside() -> None:
    case = FakeCase("a", (4, 10, 10))
    own = reader([case])
    sample = own.sample(5, 0, 1)
    k, j, i = own.pool.place(3, 5, 0, 1).start
    assert k == -2
    assert (tuple(sample.image.shape), sample.image.dtype) == ((2, 8, 8, 8), torch.int16)
    assert np.array_equal(sample.image[:, 2:6], case.image()[:, :, j : j + 8, i : i + 8])
    assert np.array_equal(sample.label_map[2:6], case.label_map()[:, j : j + 8, i : i + 8])
    assert not sample.image[:, :2].any()
    assert not sample.image[:, 6:].any()
    assert sample.moments.tolist() == [[100, 200], [30, 40]]


def test_mirrored_sample_is_the_plain_one_mirrored() -> None:
    cases = [FakeCase("a", (6, 12, 13))]
    for step in range(1, 9):
        plain = reader(cases).sample(step, 0, 1)
        mirrored = reader(cases, NOTHING.model_copy(update={"flip": 0.5})).sample(step, 0, 1)
        axes = [axis for axis in range(3) if mirrored.spatial.flip[axis]]
        assert torch.equal(mirrored.image, plain.image.flip([axis + 1 for axis in axes]))
        assert torch.equal(mirrored.label_map, plain.label_map.flip(axes))


def test_mirrored_copy_equals_what_resampling_would_give() -> None:
    cases = [FakeCase("a", (20, 20, 20))]
    sample = reader(cases, NOTHING.model_copy(update={"flip": 1.0})).sample(1, 0, 1)
    place = reader(cases).pool.place(3, 1, 0, 1)
    # the same matrix, taken through the resampling by a scale that is off by a millionth
    nearly = dataclasses.replace(sample.spatial, matrix=sample.spatial.matrix * (1 + 1e-6))
    whole = dataclasses.replace(
        sample,
        image=torch.nn.functional.pad(torch.from_numpy(cases[0].image()), (1,) * 6),
        label_map=torch.nn.functional.pad(torch.from_numpy(cases[0].label_map()), (1,) * 6),
        centre=np.array(place.start) + 4.5,
        spatial=nearly,
    )
    copied, resampled = augment(sample, CPU), augment(whole, CPU)
    assert torch.allclose(copied[0], resampled[0], atol=1e-2)
    assert torch.equal(copied[1], resampled[1])


def test_still_sample_is_normalised_exactly_and_not_resampled() -> None:
    case = FakeCase("a", (12, 12, 12))
    sample = reader([case]).sample(2, 0, 1)
    image, masks = augment(sample, CPU)
    raw = sample.image.double()
    expected = torch.where(
        raw == 0,
        0,
        (raw - torch.tensor([100.0, 200])[:, None, None, None]) / torch.tensor([30.0, 40])[:, None, None, None],
    )
    assert torch.allclose(image.double(), expected, atol=1e-6)
    labels = sample.label_map
    assert torch.equal(masks, torch.stack([labels == 4, (labels == 1) | (labels == 4), labels > 0]).float())


def test_samples_do_not_depend_on_batch_order_or_reader() -> None:
    cases = [FakeCase(str(n), (20 + n, 18, 22)) for n in range(5)]
    augmentation = AugmentationConfig(rotation=0.5, scaling=0.5, elastic=0.5, noise=0.5, modality_dropout=0.5)
    together = training_input(reader(cases, augmentation).read(4, 3), CPU)
    fresh = reader(cases, augmentation)
    for number in (2, 0, 1):
        fresh.sample(9, 0, 3)
        image, masks = augment(fresh.sample(4, number, 3), CPU)
        assert torch.equal(image, together[0][number])
        assert torch.equal(masks, together[1][number])


def test_other_seeds_steps_and_samples_are_augmented_otherwise() -> None:
    cases = [FakeCase("a", (8, 8, 8))]
    augmentation = AugmentationConfig(rotation=1)
    images = [
        augment(reader(cases, augmentation, seed=seed).sample(step, number, 2), CPU)[0]
        for seed, step, number in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]
    ]
    assert all(not torch.equal(images[a], images[b]) for a in range(4) for b in range(a))


def test_resampled_sample_reads_no_more_than_its_box() -> None:
    cases = [FakeCase("a", (60, 60, 60))]
    sample = reader(cases, NOTHING.model_copy(update={"rotation": 1.0, "rotation_degrees": 5.0})).sample(1, 0, 1)
    # half an edge of 3.5 grows to at most 3.5 (1 + 2 sin 5 degrees) = 4.1: 8.2 voxels, and one to either side
    assert all(9 <= edge <= 12 for edge in sample.image.shape[1:])


@pytest.mark.parametrize("where", ["ram", "device"])
def test_place_of_the_cases_does_not_change_the_samples(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_seg.training.volumes._free_bytes", lambda _: 2**30)
    cases = [FakeCase(str(n), (20, 6, 22)) for n in range(3)]
    augmentation = AugmentationConfig(rotation=0.5)
    for step in range(1, 6):
        expected = training_input(reader(cases, augmentation).read(step, 2), CPU)
        found = training_input(reader(cases, augmentation, where=where).read(step, 2), CPU)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_cases_of_different_editions_share_a_batch() -> None:
    class Newer(FakeCase):
        def label_map(self) -> NDArray[np.uint8]:
            older = super().label_map()
            return np.where(older == 4, 3, older).astype(np.uint8)

    pairs = [
        augment(reader([case]).sample(1, 0, 1), CPU)
        for case in (FakeCase("a", (9, 9, 9)), Newer("a", (9, 9, 9), edition="brats2023-gli"))
    ]
    assert pairs[0][1][0].any()
    assert torch.equal(pairs[0][1], pairs[1][1])


def test_float_cases_keep_their_type() -> None:
    class Fractions(FakeCase):
        def image(self) -> NDArray[Any]:
            return super().image().astype(np.float32) / 3

    sample = reader([Fractions("a", (8, 8, 8))]).sample(1, 0, 1)
    assert sample.image.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["disk", "device"])
def test_sample_on_a_gpu_equals_the_cpus(where: str) -> None:
    cases = [FakeCase(str(n), (40, 36, 44)) for n in range(3)]
    augmentation = AugmentationConfig(
        rotation=0.5, scaling=0.5, elastic=0.5, blur=1, contrast=1, low_resolution=1, gamma=1, gamma_inverted=1, noise=0
    )
    gpu = torch.device("cuda", 0)
    on_cpu = reader(cases, augmentation, (24, 20, 28))
    held = hold_cases(cases, where, gpu)  # type: ignore[arg-type]
    on_gpu = PatchReader(on_cpu.pool, held, augmentation, 3, is_pinned=where == "disk")
    for step in range(1, 9):
        expected, found = augment(on_cpu.sample(step, 0, 1), CPU), augment(on_gpu.sample(step, 0, 1), gpu)
        assert found[0].is_cuda
        close = torch.isclose(expected[0], found[0].cpu(), atol=1e-3)
        assert close.float().mean() > 0.999  # the rest lies halfway between two voxels
        assert (expected[1] == found[1].cpu()).float().mean() > 0.999


RESAMPLED = AugmentationConfig(rotation=1, scaling=1, elastic=1)


@pytest.mark.parametrize("augmentation", [NOTHING, RESAMPLED], ids=["copied", "resampled"])
@pytest.mark.parametrize("patch", [(1, 8, 8), (8, 1, 8), (8, 8, 1)])
def test_slice_is_read_alone(patch: tuple[int, int, int], augmentation: AugmentationConfig) -> None:
    axis = patch.index(1)
    own = reader([FakeCase("a", (12, 12, 12))], augmentation, patch)
    sample = own.sample(5, 0, 1)
    assert sample.image.shape[1 + axis] == sample.label_map.shape[axis] == 1
    image, masks = augment(sample, CPU)
    assert (tuple(image.shape), tuple(masks.shape)) == ((2, *patch), (3, *patch))


@pytest.mark.parametrize("augmentation", [NOTHING, RESAMPLED], ids=["copied", "resampled"])
def test_neighbours_come_with_a_slice_and_are_background_beyond_the_case(augmentation: AugmentationConfig) -> None:
    case = FakeCase("a", (2, 8, 8))
    own = reader([case], augmentation, (1, 8, 8), neighbours=2)
    for step in range(1, 5):
        at = own.pool.place(3, step, 0, 1).start[0]
        sample = own.sample(step, 0, 1)
        assert sample.image.shape[1] == 5
        has_voxels = sample.image.bool().flatten(2).any(2).any(0).tolist()
        assert has_voxels == [0 <= at - 2 + n < 2 for n in range(5)]
        image, masks = augment(sample, CPU)
        assert (image.shape[1], masks.shape[1]) == (5, 1)


def test_masks_are_those_of_the_slice_between_its_neighbours() -> None:
    case = FakeCase("a", (6, 9, 9))  # 81 voxels a slice, so that the labels of slices differ
    own = reader([case], NOTHING, (1, 8, 8), neighbours=1)
    k, j, i = own.pool.place(3, 2, 0, 1).start
    masks = augment(own.sample(2, 0, 1), CPU)[1]
    assert torch.equal(masks[2, 0].bool(), torch.from_numpy(case.label_map()[k, j : j + 8, i : i + 8] > 0))
