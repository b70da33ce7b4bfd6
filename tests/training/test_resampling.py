"""The resampling equals SciPy's, moves image and label together, and keeps the background at exactly 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_seg.config import AugmentationConfig
from brats_seg.preprocessing.transforms import brain_bits
from brats_seg.training import resampling
from brats_seg.training.resampling import resample
from brats_seg.training.sampling import generator
from brats_seg.training.spatial import SpatialDraw, draw_spatial, patch_coordinates, source_box

NO_FLIP = (False, False, False)
PATCH, SIZE = (10, 12, 14), (24, 22, 26)
EVERYTHING = AugmentationConfig(rotation=1, scaling=1, elastic=1, elastic_voxels=3)
Volumes = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(params=["gather", "grid_sample"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs both ways: the processor's and the one that a GPU takes."""
    monkeypatch.setattr(resampling, "_CHUNK_VOXELS", 100)
    if request.param == "grid_sample":
        monkeypatch.setattr(resampling, "_gather", resampling._sample)


def case() -> Volumes:
    """A case of smooth images and blocks of labels: background around all, and in a corner of each modality."""
    random = np.random.default_rng(0)
    image = np.stack([ndimage.gaussian_filter(random.standard_normal(SIZE), 1.5) for _ in range(2)]).astype(np.float32)
    image[0, :6] = 0
    image[1, :, :5] = 0
    label_map = np.kron(random.integers(0, 5, (6, 11, 13)), np.ones((4, 2, 2))).astype(np.uint8)
    image, label_map = bordered(image), bordered(label_map)
    return torch.from_numpy(image), torch.from_numpy(label_map), torch.from_numpy(image != 0)


def bordered(volume: NDArray[Any]) -> NDArray[Any]:
    """Return a volume with its outermost voxels set to 0."""
    inside = np.pad(np.ones([n - 2 for n in volume.shape[-3:]], bool), 1)
    return np.where(inside, volume, 0).astype(volume.dtype)


def drawn(step: int) -> SpatialDraw:
    return draw_spatial(EVERYTHING, PATCH, generator(0, 2, step, 0))


def moved(volumes: Volumes, draw: SpatialDraw, *centre: float, patch: tuple[int, int, int] = PATCH) -> Volumes:
    return resample(*volumes, patch_coordinates(draw, np.array(centre), patch, torch.device("cpu")))


@pytest.mark.parametrize("step", range(4))
def test_resampling_equals_scipys(step: int) -> None:
    image, label_map, is_brain = volumes = case()
    centre = (11.5, 10.2, 12.7)
    new_image, new_label, new_brain = (part.numpy() for part in moved(volumes, drawn(step), *centre))
    planes = patch_coordinates(drawn(step), np.array(centre), PATCH, torch.device("cpu"))
    places = np.stack([plane.double().numpy() for plane in planes])
    # places halfway between two voxels are left out: rounding decides there
    is_clear = (np.abs(places - np.floor(places) - 0.5) > 1e-3).all(0)
    assert is_clear.mean() > 0.98

    def scipys(volume: Tensor, order: int) -> NDArray[np.generic]:
        result: NDArray[np.generic] = ndimage.map_coordinates(
            volume.numpy(), places, order=order, mode="grid-constant", prefilter=False
        )
        return result

    assert np.array_equal(new_label[is_clear], scipys(label_map, 0)[is_clear])
    for modality in range(2):
        stays = scipys(is_brain[modality].to(torch.uint8), 0) != 0
        assert np.array_equal(new_brain[modality][is_clear] != 0, stays[is_clear])
        difference = new_image[modality] - np.where(stays, scipys(image[modality], 1), 0)
        assert np.abs(difference[is_clear]).max() < 1e-5


@pytest.mark.parametrize("step", range(4))
def test_reading_the_box_alone_gives_the_same_patch(step: int) -> None:
    """The case has no background around it, so what lies outside has to come from the box's outer layer."""
    volumes, centre = (torch.ones(2, *SIZE), torch.ones(SIZE, dtype=torch.uint8)), np.array([1.5, 10.5, 23.5])
    around = [torch.nn.functional.pad(volume, (30,) * 6) for volume in volumes]
    start, end = source_box(drawn(step), centre, PATCH, SIZE)
    k, j, i = (slice(30 + a, 30 + b) for a, b in zip(start, end, strict=True))
    boxed = (around[0][:, k, j, i].contiguous(), around[1][k, j, i].contiguous())
    whole = moved((around[0], around[1], around[0] != 0), drawn(step), *(centre + 30))
    of_box = moved((*boxed, boxed[0] != 0), drawn(step), *(centre - start))
    assert 0.1 < (whole[1] == 0).float().mean() < 0.9
    assert ((whole[0] - of_box[0]).abs() < 1e-5).float().mean() > 0.998  # the rest lies halfway between two voxels
    assert (whole[1] == of_box[1]).float().mean() > 0.998


def test_image_and_label_move_together() -> None:
    _, label_map, is_brain = case()
    as_image = torch.stack([(label_map == 2).float()] * 2)
    image, label, _ = moved((as_image, label_map, torch.ones_like(is_brain)), drawn(3), 11.0, 11.0, 13.0)
    is_sure = (image[0] > 0.999) | (image[0] < 0.001)
    assert is_sure.float().mean() > 0.3
    assert torch.equal((label == 2)[is_sure], image[0][is_sure] > 0.5)


def test_scale_of_two_shows_every_second_voxel() -> None:
    image = torch.arange(27.0)[None, :, None, None].expand(1, 27, 5, 5).contiguous() + 1
    volumes = (image, (image[0] % 4).to(torch.uint8), image != 0)
    result, label, _ = moved(volumes, SpatialDraw(NO_FLIP, np.diag([2.0, 1, 1])), 13.0, 2.0, 2.0, patch=(5, 5, 5))
    assert result[0, :, 2, 2].tolist() == pytest.approx([10, 12, 14, 16, 18])
    assert label[:, 2, 2].tolist() == [2, 0, 2, 0, 2]


def test_outside_the_case_is_background() -> None:
    image, label, brain = moved(case(), SpatialDraw(NO_FLIP, np.diag([1.3, 1.3, 1.3])), 23.0, 11.0, 13.0)
    # the last patch voxels along K lie 1.3 x 4.5 = 5.85 voxels behind the case's last one
    assert not image[:, -1].any()
    assert not label[-1].any()
    assert not brain[:, -1].any()
    assert brain[:, 0].any()


def test_background_of_each_modality_stays_exactly_zero_and_brain_stays_brain() -> None:
    image, _, brain = moved(case(), drawn(1), 7.0, 6.0, 13.0)
    assert set(brain.unique().tolist()) == {-1, 0}
    assert not image[brain == 0].any()
    assert not torch.equal(brain[0], brain[1])
    assert (image[brain != 0] != 0).float().mean() > 0.999


def test_more_than_four_modalities_keep_their_background() -> None:
    image = torch.ones(6, 8, 8, 8)
    image[5, :4] = 0
    image = torch.nn.functional.pad(image, (1,) * 6)
    volumes = (image, torch.full((10, 10, 10), 4, dtype=torch.uint8), image != 0)
    result, label, brain = moved(volumes, SpatialDraw(NO_FLIP, np.eye(3)), 4.5, 4.5, 4.5, patch=(8, 8, 8))
    inside = image[:, 1:-1, 1:-1, 1:-1]
    assert torch.equal(result, inside)
    assert torch.equal(brain, brain_bits(inside))
    assert label.unique().tolist() == [4]


def test_threads_do_not_change_the_result() -> None:
    one = moved(case(), drawn(2), 11.0, 11.0, 13.0)
    torch.set_num_threads(2)
    two = moved(case(), drawn(2), 11.0, 11.0, 13.0)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_block_of_slices_is_resampled_as_a_volume_is(axis: int) -> None:
    """Along the slice axis places are whole, so the corners that are left out have no weight."""
    edges, size = [10, 12], [20, 22]
    edges.insert(axis, 3)
    size.insert(axis, 3)
    generator_of_image = torch.Generator().manual_seed(axis)
    image = torch.randn(2, *size, generator=generator_of_image)
    label_map = torch.randint(0, 4, tuple(size), generator=generator_of_image, dtype=torch.uint8)
    k, j, i = edges
    draw = draw_spatial(EVERYTHING, (k, j, i), generator(0, 2, 4, 0), axis)
    places = patch_coordinates(draw, (np.array(size) - 1) / 2, (k, j, i), torch.device("cpu"))
    padded = torch.nn.functional.pad(image, (1,) * 6), torch.nn.functional.pad(label_map, (1,) * 6)
    of_block = resample(image, label_map, image != 0, places, axis)
    of_volume = resample(*padded, padded[0] != 0, [place + 1 for place in places])
    inside = torch.stack(
        [(p > 0.5) & (p < n - 1.5) for number, (p, n) in enumerate(zip(places, size, strict=True)) if number != axis]
    ).all(0)
    assert inside.float().mean() > 0.4
    assert torch.allclose(of_block[0][:, inside], of_volume[0][:, inside], atol=1e-4)
    assert (of_block[1] == of_volume[1])[inside].float().mean() > 0.99  # the rest lies halfway between two voxels
